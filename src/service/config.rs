use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::WorkspaceConfig;

/// What a service is started with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// The address or name to listen on. Any but a loopback address needs keys. Default: `127.0.0.1`.
    pub host: String,
    /// The port; 0 picks a free one. Default: 0.
    pub port: u16,
    /// Where the store is kept. It is made where there is none, for this user alone.
    pub state_dir: PathBuf,
    /// Who may use it. Default: nobody is asked for a key.
    pub keys: Vec<ApiKey>,
    /// Workspaces that are there from the beginning and are not stored. Default: none.
    pub workspaces: Vec<WorkspaceConfig>,
    /// Whether the servers of those workspaces end with the service, as those of `--local`: what runs on them is then stopped
    /// when the service ends. Default: false.
    pub workspaces_end: bool,
    /// How much may go on at once.
    pub limits: Limits,
    /// How long what has ended is kept.
    pub retention: Retention,
}

/// How long commands and runs that have ended are kept, with their output and events. The oldest are removed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// From their end on. Default: 7 days.
    pub age: Duration,
    /// How many bytes of output and events of all of them together. Default: 10 GiB.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(7 * 24 * 60 * 60), bytes: 10 << 30 }
    }
}

/// How much may go on at once in a service. More is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Commands that have not ended, those of runs left aside. Default: 4096.
    pub commands: usize,
    /// Runs that have not ended. Default: 256.
    pub runs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commands: 4096, runs: 256 }
    }
}

/// A key of the service.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ApiKey {
    /// Who has it, for logs.
    pub name: String,
    /// The key itself.
    pub secret: SecretString,
    /// What it allows.
    pub access: Access,
}

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// To look at everything that is no secret.
    ReadOnly,
    /// To do everything.
    Full,
}

impl ApiKey {
    /// A key.
    #[must_use]
    pub fn new(name: impl Into<String>, secret: impl Into<SecretString>, access: Access) -> Self {
        Self { name: name.into(), secret: secret.into(), access }
    }
}

impl ServiceConfig {
    /// A service whose store is in this directory, all else at its default.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            state_dir: state_dir.into(),
            keys: Vec::new(),
            workspaces: Vec::new(),
            workspaces_end: false,
            limits: Limits::default(),
            retention: Retention::default(),
        }
    }

    /// Sets the address or name to listen on.
    #[must_use]
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Sets the port.
    #[must_use]
    pub const fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Adds a key.
    #[must_use]
    pub fn with_key(mut self, key: ApiKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Adds a workspace that is there from the beginning.
    #[must_use]
    pub fn with_workspace(mut self, workspace: WorkspaceConfig) -> Self {
        self.workspaces.push(workspace);
        self
    }
}
