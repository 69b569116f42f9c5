use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext as _, AsyncContext as _, Context, Handler, MessageResult, ResponseFuture};

use super::{Snapshot, WorkspaceConfig, core::Core, messages::*, steps};
use crate::{Failure, WorkspaceError, client::SharedTls};

/// The smallest bound of the mailbox.
const MAILBOX: usize = 64;

/// How long a step that is being carried out may go on after a shutdown was asked for.
const STEP_PATIENCE: Duration = Duration::from_secs(5);

/// How long the processes of commands may take to end after a shutdown was asked for.
const TASK_PATIENCE: Duration = Duration::from_secs(10);

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

/// What a message is answered with, in time.
type Answer<M> = ResponseFuture<Result<<M as Ask>::Answer, WorkspaceError>>;

/// Answers a message with a step, in its turn.
macro_rules! step {
    ($message:ty, $carry_out:path) => {
        impl Handler<$message> for RemoteWorkspace {
            type Result = Answer<$message>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let core = self.core.clone();
                let place = core.queue.enter();
                named::<$message>(self, async move {
                    let _permit = core.turn(place, None).await?;
                    $carry_out(&core, message).await
                })
            }
        }
    };
}

step!(FileUpload, steps::file::upload);
step!(FileDownload, steps::file::download);
step!(DirectoryUpload, steps::directory::upload);
step!(DirectoryDownload, steps::directory::download);
step!(GitChanges, steps::git::changes);
step!(GitDiff, steps::git::diff);
step!(GitCommits, steps::git::commits);

/// Says of a failure on which workspace it happened and while doing what.
fn named<M: Ask>(
    actor: &RemoteWorkspace,
    work: impl Future<Output = Result<M::Answer, Failure>> + 'static,
) -> Answer<M> {
    let core = actor.core.clone();
    Box::pin(async move { work.await.map_err(|failure| failure.on(&core.config.name, M::OPERATION)) })
}

impl<M: Ask> Handler<Call<M>> for RemoteWorkspace {
    type Result = ();

    fn handle(&mut self, Call { message, answer }: Call<M>, ctx: &mut Self::Context) {
        let work = message.hand_over(self, ctx);
        actix_rt::spawn(async move {
            // Whoever asked may have stopped waiting; what was asked for is done all the same.
            let _ = answer.send(work.await);
        });
    }
}

impl Handler<Execute> for RemoteWorkspace {
    type Result = Answer<Execute>;

    fn handle(&mut self, message: Execute, _: &mut Self::Context) -> Self::Result {
        let place = self.core.queue.enter();
        named::<Execute>(self, steps::command::execute(self.core.clone(), place, message))
    }
}

impl Handler<ExecuteCommand> for RemoteWorkspace {
    type Result = Answer<ExecuteCommand>;

    fn handle(&mut self, command: ExecuteCommand, ctx: &mut Self::Context) -> Self::Result {
        self.handle(Execute { command, caller: steps::command::no_caller(), events: None, follow_output: false }, ctx)
    }
}

impl Handler<StartCommand> for RemoteWorkspace {
    type Result = Answer<StartCommand>;

    fn handle(&mut self, StartCommand(command): StartCommand, _: &mut Self::Context) -> Self::Result {
        let place = self.core.queue.enter();
        named::<StartCommand>(self, steps::command::start_detached(self.core.clone(), place, command))
    }
}

impl Handler<GetCommandOutput> for RemoteWorkspace {
    type Result = Answer<GetCommandOutput>;

    fn handle(&mut self, message: GetCommandOutput, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        named::<GetCommandOutput>(self, async move { steps::command::output(&core, message.command_id).await })
    }
}

impl Handler<StopCommand> for RemoteWorkspace {
    type Result = Answer<StopCommand>;

    fn handle(&mut self, message: StopCommand, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        named::<StopCommand>(self, async move { steps::stop::stop_command(&core, message.command_id).await })
    }
}

impl Handler<Alive> for RemoteWorkspace {
    type Result = Answer<Alive>;

    fn handle(&mut self, _: Alive, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        named::<Alive>(self, async move {
            let asked = Instant::now();
            core.client()?.alive().await?;
            Ok(asked.elapsed())
        })
    }
}

impl Handler<GetServerInfo> for RemoteWorkspace {
    type Result = Answer<GetServerInfo>;

    fn handle(&mut self, _: GetServerInfo, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        named::<GetServerInfo>(self, async move { core.client()?.server_info().await })
    }
}

impl Handler<ResetClient> for RemoteWorkspace {
    type Result = ();

    fn handle(&mut self, _: ResetClient, _: &mut Self::Context) {
        self.core.reset_client();
    }
}

impl Handler<UpdateConnection> for RemoteWorkspace {
    type Result = Answer<UpdateConnection>;

    fn handle(&mut self, UpdateConnection(connection): UpdateConnection, _: &mut Self::Context) -> Self::Result {
        let replaced = self.core.replace_connection(connection);
        named::<UpdateConnection>(self, async { replaced })
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
            core.tasks.close();
            if actix_rt::time::timeout(TASK_PATIENCE, core.tasks.wait()).await.is_err() {
                log::warn!("{}: shut down before all processes of its commands were ended", core.config.name);
            }
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
