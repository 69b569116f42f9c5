//! The agent servers that the suite runs against: each is started when it is first needed, and stopped at the end.

use std::{
    fmt,
    path::PathBuf,
    sync::{Mutex, OnceLock, PoisonError},
};

use tempfile::TempDir;
use workspace_fleet::Connection;

use super::{
    boot::{self, Process, Program},
    http,
};

/// Which agent server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The embedded one, as `wsfleet agent`.
    Embedded,
    /// A real one of a pinned version.
    OpenHands(&'static str),
}

/// The real servers, by version. `tests/real-servers.sh` installs these.
pub(crate) const OPENHANDS: [Kind; 2] = [Kind::OpenHands("1.58.0"), Kind::OpenHands("1.40.0")];

impl Kind {
    /// All that can be run on this machine.
    pub(crate) fn installed() -> Vec<Self> {
        [Self::Embedded].into_iter().chain(OPENHANDS).filter(|kind| !kind.is_missing()).collect()
    }

    /// Whether it is to be installed first.
    pub(crate) fn is_missing(self) -> bool {
        match self {
            Self::Embedded => false,
            Self::OpenHands(version) => !boot::python(version).is_file(),
        }
    }

    pub(crate) fn is_embedded(self) -> bool {
        self == Self::Embedded
    }

    /// Whether it is the older of the real servers: without a stop route, for one.
    pub(crate) fn is_old(self) -> bool {
        self == Self::OpenHands("1.40.0")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::OpenHands(version) => write!(f, "openhands_{}", version.replace('.', "_")),
        }
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    /// `host:port`.
    pub(crate) address: String,
    /// The keys that it accepts.
    pub(crate) keys: [&'static str; 2],
    root: TempDir,
    process: Mutex<Option<Process>>,
}

/// One for each kind that was needed, or why it did not start.
type Started = OnceLock<Result<Server, String>>;
static STARTED: [(Kind, Started); 3] =
    [(Kind::Embedded, OnceLock::new()), (OPENHANDS[0], OnceLock::new()), (OPENHANDS[1], OnceLock::new())];

impl Server {
    /// The server of this kind, started if need be.
    pub(crate) fn get(kind: Kind) -> Result<&'static Self, String> {
        let (_, started) = STARTED.iter().find(|(known, _)| *known == kind).expect("every kind has its place");
        started.get_or_init(|| Self::start(kind)).as_ref().map_err(Clone::clone)
    }

    fn start(kind: Kind) -> Result<Self, String> {
        let root = tempfile::Builder::new().prefix("wsfleet-server-").tempdir().map_err(|error| error.to_string())?;
        let keys = ["conformance-key-1", "conformance-key-2"];
        let program = match kind {
            Kind::Embedded => Program::embedded(),
            Kind::OpenHands(version) => Program::openhands(version),
        };
        let (address, process) = boot::start(&program, root.path(), keys)?;
        Ok(Self { kind, address, keys, root, process: Mutex::new(Some(process)) })
    }

    /// Stops all servers that were started. Returns what is wrong afterwards.
    pub(crate) fn stop_all() -> Vec<String> {
        let servers = STARTED.iter().filter_map(|(_, started)| started.get()?.as_ref().ok());
        servers.flat_map(Self::stop).collect()
    }

    fn stop(&self) -> Vec<String> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        let problems = process.map(Process::stop).unwrap_or_default();
        // The directory of a static is never dropped.
        let _ = std::fs::remove_dir_all(self.root.path());
        problems.into_iter().map(|problem| format!("{}: {problem}", self.kind)).collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Empties the event log, which makes a real server slow as it grows: each search reads all of it. Only for a case
    /// that runs alone.
    pub(crate) async fn forget_events(&self) {
        let answer = http::request("DELETE", &self.address, "/api/bash/bash_events", self.keys[0]).await;
        assert_eq!(answer.expect("an answer").0, 200);
    }

    /// A connection with the first key.
    pub(crate) fn connection(&self) -> Connection {
        connection(&self.url(), self.keys[0])
    }
}

/// A connection to a URL that is known to be one.
pub(crate) fn connection(url: &str, key: &str) -> Connection {
    Connection::new(url).expect("a valid URL").with_api_key(key)
}

/// A program of this machine by its name, where there is one.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}
