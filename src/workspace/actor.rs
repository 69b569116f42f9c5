use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext as _, AsyncContext as _, Context, Handler, MessageResult, ResponseFuture};

use super::{Snapshot, WorkspaceConfig, core::Core, messages::*, steps};
use crate::{
    CommandResult, Failure, FileOperationResult, Operation, WorkspaceError,
    client::SharedTls,
    protocol::{self, EventId, GitChange, GitCommitPage, ServerInfo},
};

/// The smallest bound of the mailbox.
const MAILBOX: usize = 64;

/// How long a step that is being carried out may go on after a shutdown was asked for.
const STEP_PATIENCE: Duration = Duration::from_secs(5);

/// The actor of one remote workspace. It owns the HTTP client, and takes its messages one step after another.
///
/// Uploads, downloads, git queries and the *start* of a command are steps, carried out in the order in which they were
/// sent. [`StopCommand`], [`Alive`], [`GetServerInfo`], [`GetCommandOutput`], [`UpdateConnection`], [`ResetClient`] and
/// [`Observe`] are not: they overtake.
///
/// Most users reach it through a [`Workspace`](crate::Workspace) handle; inside an actix system it can be started as
/// any actor.
pub struct RemoteWorkspace {
    core: Rc<Core>,
}

impl RemoteWorkspace {
    /// The actor of this workspace, to be started on the arbiter of this thread. It sends nothing before it is asked
    /// to.
    #[must_use]
    pub fn new(config: WorkspaceConfig, tls: &SharedTls) -> Self {
        Self { core: Core::new(config, tls) }
    }
}

impl Actor for RemoteWorkspace {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // The step queue is the bound: with a mailbox that fills up first, senders would lose their order.
        ctx.set_mailbox_capacity(self.core.config.max_queued_steps.max(MAILBOX));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.core.queue.close();
        self.core.closing.cancel();
    }
}

/// Answers a message with a step, in its turn.
macro_rules! step {
    ($message:ty => $answer:ty, $operation:expr, $carry_out:path) => {
        impl Handler<$message> for RemoteWorkspace {
            type Result = ResponseFuture<Result<$answer, WorkspaceError>>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let core = self.core.clone();
                let place = core.queue.enter();
                named(self, $operation, async move {
                    let _permit = core.turn(place, None).await?;
                    $carry_out(&core, message).await
                })
            }
        }
    };
}

step!(FileUpload => FileOperationResult, Operation::FileUpload, steps::file::upload);
step!(FileDownload => FileOperationResult, Operation::FileDownload, steps::file::download);
step!(GitChanges => Vec<GitChange>, Operation::GitChanges, steps::git::changes);
step!(GitDiff => protocol::GitDiff, Operation::GitDiff, steps::git::diff);
step!(GitCommits => GitCommitPage, Operation::GitCommits, steps::git::commits);

/// Says of a failure on which workspace it happened and while doing what.
fn named<T: 'static>(
    actor: &RemoteWorkspace,
    operation: Operation,
    work: impl Future<Output = Result<T, Failure>> + 'static,
) -> ResponseFuture<Result<T, WorkspaceError>> {
    let core = actor.core.clone();
    Box::pin(async move { work.await.map_err(|failure| failure.on(&core.config.name, operation)) })
}

impl Handler<Execute> for RemoteWorkspace {
    type Result = ResponseFuture<Result<CommandResult, WorkspaceError>>;

    fn handle(&mut self, message: Execute, _: &mut Self::Context) -> Self::Result {
        let place = self.core.queue.enter();
        named(self, Operation::ExecuteCommand, steps::command::execute(self.core.clone(), place, message))
    }
}

impl Handler<ExecuteCommand> for RemoteWorkspace {
    type Result = ResponseFuture<Result<CommandResult, WorkspaceError>>;

    fn handle(&mut self, command: ExecuteCommand, ctx: &mut Self::Context) -> Self::Result {
        self.handle(Execute { command, caller: steps::command::no_caller(), events: None, follow_output: false }, ctx)
    }
}

impl Handler<StartCommand> for RemoteWorkspace {
    type Result = ResponseFuture<Result<EventId, WorkspaceError>>;

    fn handle(&mut self, StartCommand(command): StartCommand, _: &mut Self::Context) -> Self::Result {
        let place = self.core.queue.enter();
        named(self, Operation::StartCommand, steps::command::start_detached(self.core.clone(), place, command))
    }
}

impl Handler<GetCommandOutput> for RemoteWorkspace {
    type Result = ResponseFuture<Result<CommandOutput, WorkspaceError>>;

    fn handle(&mut self, message: GetCommandOutput, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        named(self, Operation::GetCommandOutput, async move { steps::command::output(&core, message.command_id).await })
    }
}

impl Handler<StopCommand> for RemoteWorkspace {
    type Result = ResponseFuture<Result<(), WorkspaceError>>;

    fn handle(&mut self, message: StopCommand, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        named(self, Operation::StopCommand, async move { steps::stop::stop_command(&core, message.command_id).await })
    }
}

impl Handler<Alive> for RemoteWorkspace {
    type Result = ResponseFuture<Result<Duration, WorkspaceError>>;

    fn handle(&mut self, _: Alive, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        named(self, Operation::Alive, async move {
            let asked = Instant::now();
            core.client()?.alive().await?;
            Ok(asked.elapsed())
        })
    }
}

impl Handler<GetServerInfo> for RemoteWorkspace {
    type Result = ResponseFuture<Result<ServerInfo, WorkspaceError>>;

    fn handle(&mut self, _: GetServerInfo, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        named(self, Operation::GetServerInfo, async move { core.client()?.server_info().await })
    }
}

impl Handler<ResetClient> for RemoteWorkspace {
    type Result = ();

    fn handle(&mut self, _: ResetClient, _: &mut Self::Context) {
        self.core.reset_client();
    }
}

impl Handler<UpdateConnection> for RemoteWorkspace {
    type Result = Result<(), WorkspaceError>;

    fn handle(&mut self, UpdateConnection(connection): UpdateConnection, _: &mut Self::Context) -> Self::Result {
        let replaced = self.core.replace_connection(connection);
        replaced.map_err(|failure| failure.on(&self.core.config.name, Operation::UpdateConnection))
    }
}

impl Handler<Observe> for RemoteWorkspace {
    type Result = MessageResult<Observe>;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> Self::Result {
        let snapshot: Snapshot = self.core.snapshot();
        MessageResult(snapshot)
    }
}

impl Handler<Shutdown> for RemoteWorkspace {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        let (core, this) = (self.core.clone(), ctx.address());
        core.queue.close();
        core.closing.cancel();
        Box::pin(async move {
            // A step that is starting a command leaves a command behind that has to be stopped as well.
            if actix_rt::time::timeout(STEP_PATIENCE, core.queue.idle()).await.is_err() {
                log::warn!("{}: shut down in the middle of a step", core.config.name);
            }
            core.feed.emptied().await;
            // The actor goes last: until here its children could still be asked about.
            let _ = this.send(Leave).await;
        })
    }
}

/// Stops the actor.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct Leave;

impl Handler<Leave> for RemoteWorkspace {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
