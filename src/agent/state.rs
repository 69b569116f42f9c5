use std::{
    cell::Cell,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    AgentConfig,
    bash::{BashLimits, BashService, CommandEnvironment},
    init::DeferredInit,
    keys::SessionKeys,
};

/// What the handlers of one agent share. It lives on the agent's thread.
pub(crate) struct AgentState {
    pub(crate) keys: SessionKeys,
    pub(crate) init: DeferredInit,
    pub(crate) bash: Rc<BashService>,
    pub(crate) environment: CommandEnvironment,
    pub(crate) instance_id: String,
    pub(crate) runtime_idle_timeout: Option<Duration>,
    pub(crate) max_json_body: usize,
    pub(crate) subscriber_stall: Duration,
    pub(crate) idle_timeout: Duration,
    /// Fires when the agent stops.
    pub(crate) stopping: CancellationToken,
    root: Option<PathBuf>,
    started: Instant,
    last_use: Cell<Instant>,
    max_subscribers: usize,
    subscribers: Rc<Cell<usize>>,
}

impl AgentState {
    pub(crate) fn new(config: &AgentConfig, port: u16, stopping: CancellationToken) -> Self {
        let environment = CommandEnvironment::capture(port);
        let limits = BashLimits {
            retention: config.retention.clone(),
            running: config.max_running_commands,
            spill_dir: config.spill_dir.clone().unwrap_or_else(std::env::temp_dir),
        };
        let (started, subscribers) = (Instant::now(), Rc::default());
        let bash = BashService::new(limits, config.root.clone(), environment.clone(), Rc::clone(&subscribers));
        Self {
            keys: SessionKeys::new(config.session_keys.clone()),
            init: DeferredInit::new(config.deferred_init.clone()),
            bash: Rc::new(bash),
            environment,
            instance_id: Uuid::new_v4().simple().to_string(),
            runtime_idle_timeout: config.runtime_idle_timeout,
            max_json_body: config.max_json_body,
            subscriber_stall: config.subscriber_stall,
            idle_timeout: config.idle_timeout,
            stopping,
            root: config.root.clone(),
            started,
            last_use: Cell::new(started),
            max_subscribers: config.max_subscribers,
            subscribers,
        }
    }

    /// Notes that the agent was used: by a start, a stop, a file or a git request, but by no poll.
    pub(crate) fn touch(&self) {
        self.last_use.set(Instant::now());
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn idle_time(&self) -> Duration {
        self.last_use.get().elapsed()
    }

    /// A path of a request, which may be relative to the root.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("")).join(path)
    }

    /// Takes a place among the event sockets, if there is one.
    pub(crate) fn subscribe(&self) -> Option<SubscriberPlace> {
        if self.subscribers.get() >= self.max_subscribers {
            return None;
        }
        self.subscribers.set(self.subscribers.get() + 1);
        Some(SubscriberPlace(Rc::clone(&self.subscribers)))
    }
}

/// A place among the event sockets, given back when dropped.
pub(crate) struct SubscriberPlace(Rc<Cell<usize>>);

impl Drop for SubscriberPlace {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
