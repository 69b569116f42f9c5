use std::{future::Future, path::Path, sync::Arc, time::Duration};

use actix::Addr;
use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{CommandStream, Fleet};
use crate::{
    CommandResult, Connection, FileOperationResult, Health, RemoteWorkspace, Snapshot, WorkspaceError,
    messages::*,
    protocol::{self, EventId, GitChange, GitCommitPage, ServerInfo, Trace},
    workspace::{Behalf, ask},
};

/// How many events of a followed command may wait to be taken. Each may be a chunk of a mebibyte.
const EVENTS: usize = 8;

/// A workspace of a fleet.
///
/// Each method sends its message when it is called, so steps are carried out in the order of the calls, awaited or
/// not. Dropping a returned future does not undo a step; a command of [`execute_command`](Self::execute_command) is
/// stopped, unless its [`on_drop`](ExecuteCommand::on_drop) says otherwise. A returned future keeps the fleet alive.
#[derive(Clone)]
pub struct Workspace {
    name: Arc<str>,
    address: Addr<RemoteWorkspace>,
    /// Keeps the fleet alive.
    fleet: Fleet,
    /// What everything that is asked through this handle belongs to.
    trace: Option<Arc<Trace>>,
    /// Counts what is asked through this handle, for the lease that it belongs to.
    work: Option<TaskTracker>,
}

impl Workspace {
    pub(super) fn new(name: String, address: Addr<RemoteWorkspace>, fleet: Fleet) -> Self {
        Self { name: name.into(), address, fleet, trace: None, work: None }
    }

    /// Counts what is asked through this handle and its clones until it has ended.
    pub(super) fn counted_in(self, work: TaskTracker) -> Self {
        Self { work: Some(work), ..self }
    }

    /// The workspace's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fleet it belongs to.
    #[must_use]
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// A handle to the same workspace, through which everything that is asked belongs to this trace: requests say so in
    /// their headers, and so do results and errors.
    ///
    /// ```no_run
    /// # use workspace_fleet::{Workspace, protocol::Trace};
    /// # async fn example(workspace: Workspace) -> Result<(), Box<dyn std::error::Error>> {
    /// let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse()?;
    /// let traced = workspace.with_trace(Trace::new(parent).with_tag("episode", "17")?);
    /// let result = traced.execute_command("make test").await?;
    /// assert_eq!(result.trace.unwrap().tags()["episode"], "17");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_trace(&self, trace: impl Into<Arc<Trace>>) -> Self {
        let trace: Arc<Trace> = trace.into();
        Self { trace: (!trace.is_empty()).then_some(trace), ..self.clone() }
    }

    /// The actor's address, for those who send it messages themselves.
    #[must_use]
    pub const fn address(&self) -> &Addr<RemoteWorkspace> {
        &self.address
    }

    /// Runs a command and waits for its end; `execute_command` of the Python class.
    ///
    /// A command that ran and failed is a [`CommandResult`], also when its time was up.
    ///
    /// # Errors
    /// When it could not be run, or when nobody can tell what became of it.
    pub fn execute_command(
        &self,
        command: impl Into<ExecuteCommand>,
    ) -> impl Future<Output = Result<CommandResult, WorkspaceError>> + Send + 'static {
        let caller = CancellationToken::new();
        // Nobody takes these events. That they can be taken shows that somebody still waits.
        let (events, present) = mpsc::channel(EVENTS);
        let message = Execute {
            command: command.into(),
            caller: caller.clone(),
            called_off: caller.clone(),
            events: Some(events),
            follow_output: false,
            known: None,
        };
        let answer = self.ask(message);
        let abandon = caller.drop_guard();
        async move {
            let result = answer.await;
            abandon.disarm();
            drop(present);
            result
        }
    }

    /// Runs a command and returns the stream of what happens to it.
    pub fn follow_command(&self, command: impl Into<ExecuteCommand>) -> CommandStream {
        let caller = CancellationToken::new();
        let called_off = caller.child_token();
        let (events, happened) = mpsc::channel(EVENTS);
        let message = Execute {
            command: command.into(),
            caller: caller.clone(),
            called_off: called_off.clone(),
            events: Some(events),
            follow_output: true,
            known: None,
        };
        let answer = self.ask(message).boxed();
        CommandStream::new(answer, happened, caller.drop_guard(), called_off)
    }

    /// Starts a command and returns its id without waiting for its end; `start_command` of the Python class.
    ///
    /// # Errors
    /// When it could not be started, or when nobody can tell whether it was.
    pub fn start_command(
        &self,
        command: impl Into<ExecuteCommand>,
    ) -> impl Future<Output = Result<EventId, WorkspaceError>> + Send + 'static {
        self.ask(StartCommand(command.into()))
    }

    /// Follows a command that was started before, through this handle or by another process, from any position of its output.
    ///
    /// ```no_run
    /// # use workspace_fleet::{Workspace, WorkspaceError, messages::{AttachCommand, ExecuteCommand, OnDrop}};
    /// # async fn example(workspace: Workspace) -> Result<(), WorkspaceError> {
    /// let build = ExecuteCommand::new("make").with_timeout(None).with_on_drop(OnDrop::Detach);
    /// let id = workspace.start_command(build).await?;
    /// // Later, perhaps in another process that was told the id:
    /// let result = workspace.attach(id).result().await?;
    /// // Or only what was not seen yet:
    /// let rest = workspace.attach(AttachCommand::new(id).from_position(result.stdout_bytes, 0));
    /// # drop(rest);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Dropping the stream leaves the command running, unless [`on_drop`](AttachCommand::on_drop) says otherwise. Its result is an
    /// error when the server does not know the command, or when nobody can tell what became of it.
    pub fn attach(&self, command: impl Into<AttachCommand>) -> CommandStream {
        let caller = CancellationToken::new();
        let (events, happened) = mpsc::channel(EVENTS);
        let message = Attach {
            attach: command.into(),
            caller: caller.clone(),
            events: Some(events),
            follow_output: true,
            told: [0; 2],
        };
        let answer = self.ask(message).boxed();
        // It was started before.
        let called_off = caller.child_token();
        CommandStream::new(answer, happened, caller.drop_guard(), called_off)
    }

    /// Reads what a command has written so far. The Python class's `get_command_output` returns only the newest event.
    ///
    /// # Errors
    /// When the server does not know the command, or its output cannot be read whole.
    pub fn get_command_output(
        &self,
        command_id: EventId,
    ) -> impl Future<Output = Result<CommandOutput, WorkspaceError>> + Send + 'static {
        self.ask(GetCommandOutput { command_id })
    }

    /// Ends a command with all its processes; `stop_command` of the Python class. As there, a command that is unknown
    /// or has ended is none to stop.
    ///
    /// # Errors
    /// When the server could not be asked.
    pub fn stop_command(
        &self,
        command_id: EventId,
    ) -> impl Future<Output = Result<(), WorkspaceError>> + Send + 'static {
        self.ask(StopCommand { command_id })
    }

    /// Writes a file of the sandbox, from a local path or from bytes; `file_upload` of the Python class.
    ///
    /// # Errors
    /// When the local file cannot be read, the remote path is not absolute, or the transfer fails.
    pub fn file_upload(
        &self,
        source: impl Into<UploadSource>,
        destination: impl Into<String>,
    ) -> impl Future<Output = Result<FileOperationResult, WorkspaceError>> + Send + 'static {
        self.ask(FileUpload::new(source, destination))
    }

    /// Reads a file of the sandbox into a local file, which appears when it is whole; `file_download` of the Python
    /// class.
    ///
    /// # Errors
    /// When there is no such remote file, the local one cannot be written, or the transfer fails.
    pub fn file_download(
        &self,
        source: impl Into<String>,
        destination: impl AsRef<Path>,
    ) -> impl Future<Output = Result<FileOperationResult, WorkspaceError>> + Send + 'static {
        self.ask(FileDownload::new(source, destination.as_ref()))
    }

    /// Reads a file of the sandbox piece by piece, at the caller's pace.
    ///
    /// # Errors
    /// When there is no such remote file, or the server does not answer. Later failures come from the stream.
    pub fn file_read(
        &self,
        source: impl Into<String>,
    ) -> impl Future<Output = Result<FileStream, WorkspaceError>> + Send + 'static {
        self.ask(FileRead::new(source))
    }

    /// Copies what is in a local directory into one of the sandbox, with names, modes and links.
    ///
    /// # Errors
    /// When the local directory cannot be read or changes meanwhile, the remote path is not absolute, the sandbox has no
    /// `tar`, or the transfer fails.
    pub fn directory_upload(
        &self,
        source: impl AsRef<Path>,
        destination: impl Into<String>,
    ) -> impl Future<Output = Result<FileOperationResult, WorkspaceError>> + Send + 'static {
        self.ask(DirectoryUpload::new(source.as_ref(), destination))
    }

    /// Copies a directory of the sandbox into a local one, which appears when it is whole, and must be missing or empty.
    ///
    /// # Errors
    /// When there is no such remote directory, the sandbox has no `tar`, the local one cannot be written, the transfer
    /// fails, or what comes would leave the destination.
    pub fn directory_download(
        &self,
        source: impl Into<String>,
        destination: impl AsRef<Path>,
    ) -> impl Future<Output = Result<FileOperationResult, WorkspaceError>> + Send + 'static {
        self.ask(DirectoryDownload::new(source, destination.as_ref()))
    }

    /// Lists the files that differ; `git_changes` of the Python class.
    ///
    /// # Errors
    /// [`NotARepository`](crate::ErrorKind::NotARepository) when the path is in none.
    pub fn git_changes(
        &self,
        path: impl Into<String>,
    ) -> impl Future<Output = Result<Vec<GitChange>, WorkspaceError>> + Send + 'static {
        self.ask(GitChanges::new(path))
    }

    /// Compares a file; `git_diff` of the Python class.
    ///
    /// # Errors
    /// [`NotARepository`](crate::ErrorKind::NotARepository) when the path is in none.
    pub fn git_diff(
        &self,
        path: impl Into<String>,
    ) -> impl Future<Output = Result<protocol::GitDiff, WorkspaceError>> + Send + 'static {
        self.ask(GitDiff::new(path))
    }

    /// Lists commits, newest first.
    ///
    /// # Errors
    /// When the path is in no repository, or the server is too old to have the route.
    pub fn git_commits(
        &self,
        path: impl Into<String>,
    ) -> impl Future<Output = Result<GitCommitPage, WorkspaceError>> + Send + 'static {
        self.ask(GitCommits::new(path))
    }

    /// Asks what the server is; `get_server_info` of the Python class.
    ///
    /// # Errors
    /// When it does not answer, or is no agent server.
    pub fn get_server_info(&self) -> impl Future<Output = Result<ServerInfo, WorkspaceError>> + Send + 'static {
        self.ask(GetServerInfo)
    }

    /// Asks whether the server answers; `alive` of the Python class. Returns the round trip.
    ///
    /// # Errors
    /// When it does not answer, with the reason.
    pub fn alive(&self) -> impl Future<Output = Result<Duration, WorkspaceError>> + Send + 'static {
        self.ask(Alive)
    }

    /// Waits until the server is ready to work, and wakes it where it waits for its
    /// [configuration](crate::WorkspaceConfig::init).
    ///
    /// # Errors
    /// [`Deadline`](crate::ErrorKind::Deadline) after `timeout`, with the server's last words;
    /// [`Gone`](crate::ErrorKind::Gone) when another sandbox is behind the address; what the server answers when it does
    /// not let itself be woken.
    pub fn wait_ready(&self, timeout: Duration) -> impl Future<Output = Result<(), WorkspaceError>> + Send + 'static {
        self.ask(WaitReady { timeout })
    }

    /// How the server does, as the requests so far have told; `None` when the workspace has ended.
    pub async fn health(&self) -> Option<Health> {
        self.observe().await.map(|snapshot| snapshot.health)
    }

    /// Holds the workspace: as long as the answer is kept, its sandbox is
    /// [kept from being reaped](crate::WorkspaceConfig::keepalive) although no command runs.
    ///
    /// # Errors
    /// When the workspace has ended.
    pub fn hold(&self) -> impl Future<Output = Result<Held, WorkspaceError>> + Send + 'static {
        self.ask(Hold)
    }

    /// Drops the connections; the next request makes new ones. `reset_client` of the Python class.
    pub async fn reset_client(&self) {
        // An actor that has ended holds no connection.
        let _ = self.address.send(ResetClient).await;
    }

    /// Changes address, key and headers. Running commands are followed under the new address from now on.
    ///
    /// # Errors
    /// When no client can be made of it; the old connection then stays.
    pub fn update_connection(
        &self,
        connection: Connection,
    ) -> impl Future<Output = Result<(), WorkspaceError>> + Send + 'static {
        self.ask(UpdateConnection(connection))
    }

    /// How the workspace does; `None` when its actor has ended.
    pub async fn observe(&self) -> Option<Snapshot> {
        self.address.send(Observe).await.ok()
    }

    /// Sends any message that the actor takes, such as one with more settings than a method has parameters.
    ///
    /// ```no_run
    /// # use workspace_fleet::{Workspace, messages::GitChanges, WorkspaceError};
    /// # async fn example(workspace: Workspace) -> Result<(), WorkspaceError> {
    /// let changes = workspace.ask(GitChanges::new("/workspace").with_reference("HEAD~1")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As the method of the same name.
    pub fn ask<M: Ask>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<M::Answer, WorkspaceError>> + Send + 'static + use<M> {
        let (name, address) = (self.name.clone(), &self.address);
        let behalf = Behalf::of(self.work.as_ref());
        let answer = match self.trace.clone() {
            None => ask(name, address, message, behalf).left_future(),
            Some(trace) => ask(name, address, Traced { message, trace }, behalf).right_future(),
        };
        let fleet = self.fleet.clone();
        async move {
            let answer = answer.await;
            // Until here the future has kept the fleet alive.
            drop(fleet);
            answer
        }
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("name", &self.name).finish_non_exhaustive()
    }
}
