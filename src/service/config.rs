use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::HostPattern;
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
    /// The certificate to serve with. Default: none, and HTTP is spoken in clear text.
    pub tls: Option<TlsFiles>,
    /// How many requests a second are taken of one key on average, and as many at once; 0 is no bound. Default: 10,000.
    pub rate_limit: u32,
    /// Origins whose pages may use the service, as in `https://fleet.example`; `*` is any. Default: none but its own.
    pub allow_origins: Vec<String>,
    /// Names under which a service that listens on a loopback address is reached besides those of this machine, such as that
    /// of a proxy before it. Default: none.
    pub server_names: Vec<String>,
    /// Where workspaces may be that are added over the API. Default: anywhere but at link-local addresses.
    pub allow_hosts: Vec<HostPattern>,
    /// How many connections may be open at once; more wait. Default: 10,000.
    pub max_connections: usize,
    /// How long the service goes on after it was told to end, with `/ready` saying that it does, so that whoever sends it
    /// requests sees that. Default: 0.
    pub drain_delay: Duration,
    /// How long requests that go on may then take to end. Default: 10 s.
    pub drain_timeout: Duration,
    /// How long what has ended is kept.
    pub retention: Retention,
    /// How long the next piece of a body may take. Default: 30 s. Tests have it shorter.
    #[doc(hidden)]
    pub body_idle: Duration,
}

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The certificate, with those between it and its authority behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// These files.
    #[must_use]
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into() }
    }
}

/// A text that holds no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no key: {reason}; write NAME:ACCESS:KEY, with read-only or full as ACCESS")]
pub struct InvalidKeys {
    line: usize,
    reason: &'static str,
}

/// How long commands and runs that have ended are kept, with their output and events. The oldest are removed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// From their end on. Default: 7 days.
    pub age: Duration,
    /// How many bytes of records, output and events of all of them together. Default: 10 GiB.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(7 * 24 * 60 * 60), bytes: 10 << 30 }
    }
}

/// How much may go on at once in a service, and how much each may write. More is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Commands that have not ended, those of runs left aside. Default: 4096.
    pub commands: usize,
    /// Runs that have not ended. Default: 256.
    pub runs: usize,
    /// Bytes in the log of a command or run, and the piece that goes beyond it: what commands write after that is left out, and
    /// said to be. Default: 1 GiB.
    pub log: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commands: 4096, runs: 256, log: 1 << 30 }
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

/// The fewest characters of a key: a shorter one is guessed.
const SHORTEST_KEY: usize = 16;

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

    /// The keys of a text: one a line, as `NAME:ACCESS:KEY`. Empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// A line is no key, the key is shorter than 16 characters, or a name is there twice.
    pub fn read(text: &str) -> Result<Vec<Self>, InvalidKeys> {
        let mut keys: Vec<Self> = Vec::new();
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason| InvalidKeys { line: index + 1, reason };
            let mut parts = line.splitn(3, ':');
            let (Some(name), Some(access), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(wrong("it has not three parts"));
            };
            let access = match access {
                "read-only" => Access::ReadOnly,
                "full" => Access::Full,
                _ => return Err(wrong("its access is neither read-only nor full")),
            };
            if name.is_empty() || keys.iter().any(|other| other.name == name) {
                return Err(wrong("its name is empty or there already"));
            }
            if key.len() < SHORTEST_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(wrong("a key has 16 or more visible ASCII characters and no space"));
            }
            keys.push(Self::new(name, key, access));
        }
        Ok(keys)
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
            tls: None,
            rate_limit: 10_000,
            allow_origins: Vec::new(),
            server_names: Vec::new(),
            allow_hosts: Vec::new(),
            max_connections: 10_000,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            retention: Retention::default(),
            body_idle: Duration::from_secs(30),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_one_a_line() {
        let text = "# keys\nci:full:0123456789abcdef:x\n\n board:read-only:fedcba9876543210 \n";
        let keys = ApiKey::read(text).unwrap();
        let shown: Vec<_> = keys.iter().map(|key| (key.name.as_str(), key.access)).collect();
        assert_eq!(shown, [("ci", Access::Full), ("board", Access::ReadOnly)]);
        for wrong in ["a", "a:full", "a:some:0123456789abcdef", ":full:0123456789abcdef", "a:full:short"] {
            assert_eq!(ApiKey::read(&format!("\n{wrong}")).unwrap_err().line, 2, "{wrong}");
        }
        assert!(ApiKey::read("a:full:0123456789abcdef\na:full:0123456789abcdef").is_err());
    }
}
