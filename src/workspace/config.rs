use std::{collections::BTreeMap, time::Duration};

use super::{keepalive::Keepalive, push::Push};
use crate::client::{ClientLimits, Connection, SessionKey};

/// For how many steps at once there are connections where nothing else is said.
const MOST_CONNECTIONS: usize = 16;

/// How a server that waits for its configuration is woken.
#[derive(Debug, Clone)]
pub struct InitConfig {
    /// The key that the server was started with for this purpose (`OH_SECRET_KEY`); not the session key.
    pub key: SessionKey,
    /// The configuration, as `POST /api/init` takes it: `session_api_keys`, `env` and so on. It is never printed.
    pub config: InitPayload,
}

/// A configuration for a server that waits for one. It may hold keys, and so is never printed.
#[derive(Clone, Default)]
pub struct InitPayload(pub serde_json::Value);

impl std::fmt::Debug for InitPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InitPayload(..)")
    }
}

impl InitConfig {
    /// Wakes a server with this key and this configuration.
    #[must_use]
    pub fn new(key: impl Into<SessionKey>, config: serde_json::Value) -> Self {
        Self { key: key.into(), config: InitPayload(config) }
    }
}

/// Everything that makes a workspace: its name, how its server is reached, and its settings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkspaceConfig {
    /// The name, unique within a fleet.
    pub name: String,
    /// How its agent server is reached.
    pub connection: Connection,
    /// Labels to select it by.
    pub labels: BTreeMap<String, String>,
    /// The directory to which git paths are joined when they are relative; `working_dir` of the Python class.
    /// Default: none, and relative git paths are refused.
    pub working_dir: Option<String>,
    /// The directory in which commands run that name none. Default: none, and the server chooses.
    pub default_cwd: Option<String>,
    /// Bounds of its requests.
    pub limits: ClientLimits,
    /// Whether the limits were set as a whole, by [`with_limits`](Self::with_limits).
    has_own_limits: bool,
    /// How many steps are carried out at once. Default: 1, which keeps them in order. Unless
    /// [`with_limits`](Self::with_limits) sets how many requests may be under way, there is room for one of each step and one
    /// more, for 16 steps at the most.
    pub max_concurrent_steps: usize,
    /// How many steps may wait before [`Overloaded`](crate::ErrorKind::Overloaded) is answered. Default: 1024.
    pub max_queued_steps: usize,
    /// How long a step may wait for its turn. Default: 10 minutes.
    pub max_queue_wait: Duration,
    /// How long a running command is watched although its server does not answer. Default: 60 s.
    pub max_outage: Duration,
    /// How long reads, git queries and transfers are tried again after failures that may pass. No further try begins when so
    /// much time has gone by since the operation began; for a transfer, since it last got on. Default: 30 s. Zero: nothing is
    /// tried again. A server that has never answered is given 2 s of it, and one that refuses connections then none.
    pub retry_for: Duration,
    /// Whether commands carry the head by which a lost start is recovered and processes are found. Default: true.
    /// Without it a lost start is [`OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown), and a stop reaches what the
    /// server's own stop route reaches.
    pub command_head: bool,
    /// How a server is woken that waits for its configuration (deferred init). [`WaitReady`](crate::messages::WaitReady)
    /// does it. Default: none.
    pub init: Option<InitConfig>,
    /// How a sandbox is kept from being reaped as idle while a command runs or the workspace is held. Default: a sign of
    /// use at half the time that the server announces.
    pub keepalive: Keepalive,
    /// Whether the output of commands that run for long is pushed by the server. Default: where the server announces that it
    /// does so as output comes.
    pub push: Push,
    /// How often a server is asked whether it is there while nothing else is asked of it, so that its health is known. At
    /// least 100 ms. Default: none, never. A server that is away is probed in any case.
    pub probe_interval: Option<Duration>,
    /// Whether the processes are ended of commands that a restart of their server has orphaned. Default: true.
    pub kill_orphans: bool,
}

impl WorkspaceConfig {
    /// A workspace of this name behind this connection, all else at its default.
    #[must_use]
    pub fn new(name: impl Into<String>, connection: Connection) -> Self {
        Self {
            name: name.into(),
            connection,
            labels: BTreeMap::new(),
            working_dir: None,
            default_cwd: None,
            limits: ClientLimits::default(),
            has_own_limits: false,
            max_concurrent_steps: 1,
            max_queued_steps: 1024,
            max_queue_wait: Duration::from_secs(600),
            max_outage: Duration::from_secs(60),
            retry_for: Duration::from_secs(30),
            command_head: true,
            init: None,
            keepalive: Keepalive::Auto,
            push: Push::Auto,
            probe_interval: None,
            kill_orphans: true,
        }
    }

    /// Adds a label.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(label.into(), value.into());
        self
    }

    /// Sets the directory to which relative git paths are joined.
    #[must_use]
    pub fn with_working_dir(mut self, directory: impl Into<String>) -> Self {
        self.working_dir = Some(directory.into());
        self
    }

    /// Sets the directory in which commands run that name none.
    #[must_use]
    pub fn with_default_cwd(mut self, directory: impl Into<String>) -> Self {
        self.default_cwd = Some(directory.into());
        self
    }

    /// The limits with as many connections as the steps need, where nothing is said of them.
    pub(crate) fn client_limits(&self) -> ClientLimits {
        let usual = ClientLimits::default().connections;
        if self.has_own_limits || self.limits.connections != usual {
            return self.limits;
        }
        let enough = self.max_concurrent_steps.min(MOST_CONNECTIONS) + 1;
        ClientLimits { connections: enough.max(usual), ..self.limits }
    }

    /// Sets how many steps are carried out at once. More than 1 gives up their order.
    #[must_use]
    pub const fn with_max_concurrent_steps(mut self, steps: usize) -> Self {
        self.max_concurrent_steps = steps;
        self
    }

    /// Sets how many steps may wait.
    #[must_use]
    pub const fn with_max_queued_steps(mut self, steps: usize) -> Self {
        self.max_queued_steps = steps;
        self
    }

    /// Sets how long a step may wait for its turn.
    #[must_use]
    pub const fn with_max_queue_wait(mut self, wait: Duration) -> Self {
        self.max_queue_wait = wait;
        self
    }

    /// Sets how long a running command is watched although its server does not answer.
    #[must_use]
    pub const fn with_max_outage(mut self, outage: Duration) -> Self {
        self.max_outage = outage;
        self
    }

    /// Sets how long reads, git queries and transfers are tried again after failures that may pass.
    #[must_use]
    pub const fn with_retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// Sets whether commands carry the head by which a lost start is recovered and processes are found.
    #[must_use]
    pub const fn with_command_head(mut self, command_head: bool) -> Self {
        self.command_head = command_head;
        self
    }

    /// Sets how a server is woken that waits for its configuration.
    #[must_use]
    pub fn with_init(mut self, init: InitConfig) -> Self {
        self.init = Some(init);
        self
    }

    /// Sets whether the output of commands that run for long is pushed by the server.
    #[must_use]
    pub const fn with_push(mut self, push: Push) -> Self {
        self.push = push;
        self
    }

    /// Sets how a sandbox in use is kept from being reaped as idle.
    #[must_use]
    pub const fn with_keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// Sets how often a server is asked whether it is there while nothing else is asked of it.
    #[must_use]
    pub const fn with_probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = Some(interval);
        self
    }

    /// Sets whether processes are ended that a restart of their server has orphaned.
    #[must_use]
    pub const fn with_kill_orphans(mut self, kill_orphans: bool) -> Self {
        self.kill_orphans = kill_orphans;
        self
    }

    /// Sets the bounds of the requests.
    #[must_use]
    pub const fn with_limits(mut self, limits: ClientLimits) -> Self {
        self.limits = limits;
        self.has_own_limits = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_at_once_have_connections_unless_their_number_is_given() {
        let config = || WorkspaceConfig::new("w", Connection::new("http://127.0.0.1:1").unwrap());
        let connections = |steps| config().with_max_concurrent_steps(steps).client_limits().connections;
        assert_eq!([1, 8, 64, usize::MAX].map(connections), [4, 9, 17, 17]);
        for given in [2, 4, 32] {
            let limits = ClientLimits { connections: given, ..ClientLimits::default() };
            assert_eq!(config().with_limits(limits).with_max_concurrent_steps(8).client_limits().connections, given);
            let mut config = config().with_max_concurrent_steps(8);
            config.limits.connections = given;
            let expected = if given == 4 { 9 } else { given };
            assert_eq!(config.client_limits().connections, expected, "the field alone does not tell 4 from nothing");
        }
    }
}
