//! An agent server with a directory of its own, a fleet, and a count of what there was before.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use workspace_fleet::{Connection, Fleet, WorkspaceConfig, fleet::FleetStatus};

use crate::support::{agent::Agent, eventually, held::Held, processes};

/// How long an answer may take here. Long enough for a machine that has more to do.
pub(crate) const ANSWER: Duration = Duration::from_millis(2000);

/// Longer than any client here waits for an answer.
pub(crate) const TOO_LONG: Duration = Duration::from_millis(3000);

/// How long something may take to be seen that has happened already.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// For how long nothing may begin that is taken to be over.
const STILL: Duration = Duration::from_millis(500);

/// How long what has ended may take to be gone.
const ENDING: Duration = Duration::from_secs(20);

/// Runs a test to its end with no other beside it: each takes all of the machine, and counts what the process holds.
pub(crate) fn alone(test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed has ended all the same.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(test);
}

pub(crate) struct Scene {
    agent: Agent,
    pub(crate) fleet: Fleet,
    pub(crate) root: TempDir,
    before: Held,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let before = Held::now();
        let root = directory();
        let agent = Agent::start(root.path(), &[]);
        let fleet = Fleet::builder().worker_threads(2).start().unwrap();
        Self { agent, fleet, root, before }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.agent.port)
    }

    /// A new directory.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.root.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Waits until no command has run for a while: what came late may begin late. Returns those that do not end.
    pub(crate) async fn quiet(&self) -> Vec<String> {
        let (began, mut since) = (Instant::now(), Instant::now());
        loop {
            let running = self.running();
            if running.is_empty() && since.elapsed() > STILL {
                return running;
            }
            if !running.is_empty() {
                since = Instant::now();
                if began.elapsed() > ENDING {
                    return running;
                }
            }
            tokio::time::sleep(STILL / 10).await;
        }
    }

    fn running(&self) -> Vec<String> {
        let mut running = processes::running_in(self.root.path());
        // The agent server is where its commands are.
        running.retain(|process| !process.starts_with(&format!("{}:", self.agent.id())));
        running
    }

    /// Ends the fleet, whose workspaces have been removed. Returns what is left that should not be.
    pub(crate) async fn end(self) -> Vec<String> {
        let mut problems = Vec::new();
        let status = self.fleet.status().await;
        let mut left = FleetStatus::default();
        left.totals = status.totals;
        if status != left {
            problems.push(format!("something runs, waits or is there: {status:?}"));
        }
        if status.totals.commands_started != status.totals.commands_finished {
            problems.push(format!("commands were not watched to their end: {:?}", status.totals));
        }
        if tokio::time::timeout(ENDING, self.fleet.shutdown()).await.is_err() {
            problems.push("the fleet does not end".to_owned());
        }
        drop(self.agent);
        let before = self.before;
        if !eventually(ENDING, || Held::now().files <= before.files).await {
            problems.push(format!("files are left: {before:?}, then {:?}: {:?}", Held::now(), files()));
        }
        problems
    }
}

/// A directory, in memory where there is such a place: removing thousands of small files takes longer on a disk than a test.
fn directory() -> TempDir {
    let prefix = "wsfleet-faults-";
    TempDir::with_prefix_in(prefix, "/dev/shm").or_else(|_| TempDir::with_prefix(prefix)).unwrap()
}

/// What the open files of this process are.
fn files() -> Vec<PathBuf> {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .collect()
}

/// A workspace that reaches its server by way of this URL, and is not patient with it.
pub(crate) fn impatient(name: &str, url: &str, folder: &Path) -> WorkspaceConfig {
    let folder = folder.display().to_string();
    let mut config = WorkspaceConfig::new(name, Connection::new(url).unwrap())
        .with_default_cwd(&folder)
        .with_working_dir(&folder)
        .with_max_outage(3 * ANSWER)
        .with_retry_for(3 * ANSWER);
    config.limits.connect_timeout = ANSWER;
    config.limits.answer_timeout = ANSWER;
    config.limits.idle_timeout = ANSWER;
    config
}

/// A number from the environment, for longer runs than the usual one.
pub(crate) fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable)
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// How often the command ran that appends to this file.
pub(crate) fn runs(counter: &Path) -> usize {
    std::fs::read_to_string(counter).unwrap_or_default().lines().count()
}
