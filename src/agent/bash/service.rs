use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, futures::Notified};
use tokio_util::sync::CancellationToken;

use super::{
    CommandEnvironment,
    body::{Body, Recent, Spill},
    child::Child,
    event::{CommandRecord, Event},
    idempotency::StartedNames,
    log::{EventLog, Finished},
    runner,
    search::{Page, Search},
    spawn::Spawner,
    timestamp::{self, Micros},
};
use crate::{
    agent::Retention,
    protocol::{EventId, StartBashCommand},
};

/// How long the agent waits for its commands to end when it stops.
const STOP_TIME: Duration = Duration::from_secs(8);

/// What bounds a [`BashService`].
#[derive(Debug, Clone)]
pub(crate) struct BashLimits {
    pub(crate) retention: Retention,
    pub(crate) running: usize,
    pub(crate) spill_dir: PathBuf,
}

/// Runs commands and keeps their events. It lives on one thread.
#[derive(Debug)]
pub(crate) struct BashService {
    limits: BashLimits,
    spawner: Spawner,
    log: RefCell<EventLog>,
    spill: RefCell<Spill>,
    recent: RefCell<Recent>,
    running: RefCell<HashMap<EventId, Running>>,
    names: RefCell<StartedNames>,
    appended: Notify,
    /// How many event sockets there are.
    subscribers: Rc<Cell<usize>>,
    closed: Cell<bool>,
}

/// A command that has not ended.
#[derive(Debug, Clone, Default)]
struct Running {
    stop: CancellationToken,
    done: CancellationToken,
}

/// Why a command was not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many commands run as may.
    TooMany(usize),
    /// The agent is stopping.
    Closed,
}

impl BashService {
    pub(crate) fn new(
        limits: BashLimits,
        root: Option<PathBuf>,
        environment: CommandEnvironment,
        subscribers: Rc<Cell<usize>>,
    ) -> Self {
        Self {
            log: RefCell::new(EventLog::new(limits.retention.clone())),
            spill: RefCell::new(Spill::new(&limits.spill_dir)),
            recent: RefCell::default(),
            names: RefCell::new(StartedNames::new(limits.retention.commands, limits.retention.command_bytes)),
            running: RefCell::default(),
            appended: Notify::new(),
            subscribers,
            closed: Cell::new(false),
            spawner: Spawner::new(root, environment),
            limits,
        }
    }

    pub(super) async fn spawn(&self, command: &CommandRecord, stop: &CancellationToken) -> Result<Child, String> {
        self.spawner.spawn(command, stop).await
    }

    /// Starts a command. Under a name that was used before it gives the command that was started then.
    pub(super) fn start(
        self: &Rc<Self>,
        request: StartBashCommand,
        name: Option<EventId>,
    ) -> Result<Rc<CommandRecord>, Refused> {
        if let Some(first) = name.and_then(|name| self.names.borrow().get(name).cloned()) {
            return Ok(first);
        }
        if self.closed.get() {
            return Err(Refused::Closed);
        }
        if self.running.borrow().len() >= self.limits.running {
            return Err(Refused::TooMany(self.limits.running));
        }
        let command = self.log.borrow_mut().add_command(timestamp::now(), |at| CommandRecord {
            id: EventId::random(),
            at,
            command: request.command.into(),
            cwd: request.cwd.filter(|cwd| !cwd.is_empty()).map(Into::into),
            timeout: request.timeout,
        });
        if let Some(name) = name {
            self.names.borrow_mut().insert(name, Rc::clone(&command));
        }
        let running = Running::default();
        self.running.borrow_mut().insert(command.id, running.clone());
        self.appended.notify_waiters();
        actix_rt::spawn(runner::run(Rc::clone(self), Rc::clone(&command), running.stop));
        Ok(command)
    }

    /// Waits until a command has ended, and gives its output unless it is forgotten.
    pub(super) async fn finished(&self, command: EventId) -> Option<Finished> {
        let done = self.running.borrow().get(&command).map(|running| running.done.clone());
        if let Some(done) = done {
            done.cancelled().await;
        }
        self.log.borrow().finished(command)
    }

    /// Stops a command and waits until it has ended. False when no such command or event is known.
    pub(super) async fn stop(&self, id: EventId) -> bool {
        let running = self.running.borrow().get(&id).cloned();
        let Some(running) = running else { return self.event(id).is_some() };
        running.stop.cancel();
        running.done.cancelled().await;
        true
    }

    /// Starts no more commands and stops those that run.
    pub(crate) async fn close(&self) {
        self.closed.set(true);
        let running: Vec<_> = self.running.borrow().values().cloned().collect();
        for command in &running {
            command.stop.cancel();
        }
        let ended = async {
            for command in &running {
                command.done.cancelled().await;
            }
        };
        if tokio::time::timeout(STOP_TIME, ended).await.is_err() {
            log::warn!("some commands did not end within {STOP_TIME:?}");
        }
    }

    /// Records a chunk of output. Returns when it is stored.
    pub(super) async fn add_chunk(&self, command: EventId, text: String, is_stdout: bool) {
        let Some(body) = self.store(text).await else {
            return self.log.borrow_mut().lose_chunk(command);
        };
        let (stdout, stderr) = if is_stdout { (Some(body), None) } else { (None, Some(body)) };
        self.log.borrow_mut().add_chunk(timestamp::now(), command, stdout, stderr);
        self.appended.notify_waiters();
    }

    async fn store(&self, text: String) -> Option<Body> {
        if !self.log.borrow().spills(text.len()) {
            return Some(Body::Memory(text.into()));
        }
        let reserved = self.spill.borrow_mut().reserve(text.len());
        let text = Arc::new(text);
        let written = match reserved {
            Ok(extent) => {
                let text = Arc::clone(&text);
                tokio::task::spawn_blocking(move || extent.write(&text).map(|()| extent)).await
            }
            Err(error) => Ok(Err(error)),
        };
        match written.map_err(std::io::Error::other).and_then(|result| result) {
            Ok(extent) => Some(Body::Spilled { extent, recent: self.recent.borrow_mut().keep(text) }),
            Err(error) => {
                log::error!(
                    "output is lost, since it cannot be written to {}: {error}",
                    self.limits.spill_dir.display()
                );
                None
            }
        }
    }

    /// Records a command's last event.
    pub(super) async fn finish(&self, command: EventId, exit_code: i32, stdout: String, stderr: String) {
        let body = |text: String| (!text.is_empty()).then(|| Body::Memory(text.into()));
        self.log.borrow_mut().finish(timestamp::now(), command, exit_code, body(stdout), body(stderr));
        if let Some(running) = self.running.borrow_mut().remove(&command) {
            running.done.cancel();
        }
        if self.running.borrow().is_empty() {
            self.recent.take();
        }
        self.appended.notify_waiters();
    }

    pub(super) fn event(&self, id: EventId) -> Option<Event> {
        self.log.borrow().event(id)
    }

    pub(super) fn search(&self, search: &Search) -> Page {
        self.log.borrow().search(search)
    }

    pub(super) fn clear(&self) -> usize {
        self.recent.take();
        self.log.borrow_mut().clear()
    }

    /// Whether events are pushed to somebody.
    pub(super) fn has_subscribers(&self) -> bool {
        self.subscribers.get() > 0
    }

    /// The key of the newest event, and that of the newest event that was evicted.
    pub(super) fn position(&self) -> (Micros, Micros) {
        let log = self.log.borrow();
        (log.last(), log.newest_evicted())
    }

    /// Completes at the next event after this call.
    pub(super) fn next_event(&self) -> Notified<'_> {
        self.appended.notified()
    }
}
