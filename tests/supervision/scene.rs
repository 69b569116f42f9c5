//! An agent server with a directory of its own, and a fleet.

use std::time::Duration;

use tempfile::TempDir;
use workspace_fleet::{
    Connection, Fleet, Workspace, WorkspaceConfig,
    agent::{AgentConfig, AgentHandle, AgentServer},
    messages::ExecuteCommand,
};

use crate::support::{eventually, processes};

/// Nothing here takes as long; a test that hangs fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it hangs")
}

pub(crate) struct Scene {
    pub(crate) agent: AgentHandle,
    pub(crate) fleet: Fleet,
    pub(crate) root: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("wsfleet-supervision-").tempdir().unwrap();
        let agent = AgentServer::spawn(AgentConfig::default().with_root(root.path())).unwrap();
        let fleet = Fleet::builder().worker_threads(2).start().unwrap();
        Self { agent, fleet, root }
    }

    pub(crate) fn config(&self, name: &str) -> WorkspaceConfig {
        WorkspaceConfig::new(name, Connection::new(&self.agent.url()).unwrap())
    }

    pub(crate) async fn add(&self, name: &str) -> Workspace {
        self.fleet.add(self.config(name)).await.unwrap()
    }

    /// Waits until so many commands are watched.
    pub(crate) async fn running(&self, commands: usize) {
        within(async {
            while self.fleet.status().await.running_commands != commands {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    /// Waits until so many commands of [`until`] have begun.
    pub(crate) async fn begun(&self, commands: usize) {
        let files = || std::fs::read_dir(self.root.path()).unwrap();
        let begun =
            || files().filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("begun")).count();
        assert!(eventually(LIMIT, || begun() == commands).await, "{} have begun", begun());
    }

    /// Whether the agent's processes end in time.
    pub(crate) async fn all_processes_end(&self) -> bool {
        eventually(Duration::from_secs(20), || self.processes().is_empty()).await
    }

    pub(crate) fn processes(&self) -> Vec<String> {
        processes::running_in(self.root.path())
    }

    pub(crate) async fn end(self) {
        within(self.fleet.shutdown()).await;
        self.agent.stop().await;
    }
}

/// A command that says that it waits, ends when a file of this name is there, and says so.
pub(crate) fn until(file: &str) -> ExecuteCommand {
    ExecuteCommand::new(format!("echo waiting; : >begun-$$; while [ ! -e {file} ]; do sleep 0.05; done; echo done"))
        .with_timeout(None)
}
