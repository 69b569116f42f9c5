//! What a case works with: a workspace on the server, and a directory of its own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use workspace_fleet::{CommandResult, Fleet, Workspace, WorkspaceConfig, messages::ExecuteCommand};

use crate::support::{
    eventually, processes,
    server::{Kind, Server, connection},
};

/// How long the processes of a command that was ended may still be there: a second from TERM to KILL, and the way there.
const ENDING: Duration = Duration::from_secs(5);

pub(crate) struct Sandbox {
    pub(crate) server: &'static Server,
    pub(crate) fleet: Fleet,
    /// A workspace whose commands run in `directory`, and whose git paths are relative to it.
    pub(crate) workspace: Workspace,
    directory: TempDir,
}

impl Sandbox {
    pub(crate) async fn new(server: &'static Server) -> Self {
        let directory = tempfile::Builder::new().prefix("wsfleet-case-").tempdir().expect("a directory can be made");
        let fleet = Fleet::builder().worker_threads(1).start().expect("a fleet starts");
        let path = text(directory.path());
        let config = WorkspaceConfig::new("main", server.connection()).with_working_dir(&path).with_default_cwd(&path);
        let workspace = fleet.add(config).await.expect("a workspace is added");
        Self { server, fleet, workspace, directory }
    }

    /// Ends the case. Returns the processes that it left in its directory.
    pub(crate) async fn end(self) -> Vec<String> {
        self.fleet.shutdown().await;
        let directory = self.directory.path();
        eventually(ENDING, || processes::running_in(directory).is_empty()).await;
        processes::running_in(directory)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.server.kind
    }

    /// The case's directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in the case's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A path in the case's directory, as the remote side is told it.
    pub(crate) fn remote(&self, name: &str) -> String {
        text(&self.path(name))
    }

    /// A new directory in the case's directory.
    pub(crate) fn make_directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a directory can be made");
        path
    }

    /// Whether nothing runs in the case's directory any more, within the time that an ended command has.
    pub(crate) async fn is_quiet(&self) -> bool {
        self.is_quiet_within(ENDING).await
    }

    pub(crate) async fn is_quiet_within(&self, limit: Duration) -> bool {
        eventually(limit, || processes::running_in(self.directory.path()).is_empty()).await
    }

    /// Waits until something runs in the case's directory.
    pub(crate) async fn is_busy(&self) -> bool {
        eventually(Duration::from_secs(10), || !processes::running_in(self.directory.path()).is_empty()).await
    }

    /// Whether a process with this command line, and no other, runs in the case's directory: a shell that is to run it has it
    /// within its own.
    pub(crate) fn runs(&self, command_line: &str) -> bool {
        let is_it =
            |process: &String| process.split_once(": ").is_some_and(|(_, line)| line.trim_end() == command_line);
        processes::running_in(self.directory.path()).iter().any(is_it)
    }

    /// Another workspace on the same server, which reaches it at `url`.
    pub(crate) async fn by_way_of(&self, name: &str, url: &str) -> Workspace {
        self.add(self.config(name, url)).await
    }

    /// The settings of another workspace on the same server, which reaches it at `url`.
    pub(crate) fn config(&self, name: &str, url: &str) -> WorkspaceConfig {
        let path = text(self.directory.path());
        WorkspaceConfig::new(name, connection(url, self.server.keys[0])).with_working_dir(&path).with_default_cwd(path)
    }

    pub(crate) async fn add(&self, config: WorkspaceConfig) -> Workspace {
        self.fleet.add(config).await.expect("a workspace is added")
    }

    /// Runs a command that has to be run.
    pub(crate) async fn run(&self, command: impl Into<ExecuteCommand>) -> CommandResult {
        self.workspace.execute_command(command).await.expect("the command is run")
    }

    /// Runs a command that has to succeed, and returns its standard output.
    pub(crate) async fn output(&self, command: impl Into<ExecuteCommand>) -> String {
        let result = self.run(command).await;
        assert!(result.success() && result.stderr.is_empty(), "{result:?}");
        result.stdout
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("paths of the tests are Unicode").to_owned()
}
