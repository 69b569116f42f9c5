use std::{panic::AssertUnwindSafe, rc::Rc, time::Instant};

use actix::{Actor, ActorContext as _, AsyncContext as _, Context, Handler, MessageResult, ResponseFuture, Supervised};
use futures::FutureExt as _;
use tokio::sync::oneshot;

use super::{
    Snapshot, WorkspaceConfig, attendant,
    backoff::Retry,
    caller,
    core::Core,
    ending::{OnRemove, shut_down},
    health,
    messages::*,
    steps,
    supervision::panic_text,
};
use crate::{ErrorKind, Failure, WorkspaceError, client::SharedTls};

/// The smallest bound of the mailbox.
const MAILBOX: usize = 64;

/// The actor of one remote workspace. It owns the HTTP client, and takes its messages one step after another.
///
/// Uploads, downloads, git queries and the *start* of a command are steps, carried out in the order in which they were
/// sent. [`StopCommand`], [`Alive`], [`GetServerInfo`], [`GetCommandOutput`], [`UpdateConnection`], [`ResetClient`] and
/// [`Observe`] are not: they overtake.
///
/// Most users reach it through a [`Workspace`](crate::Workspace) handle; inside an actix system it can be started as
/// any actor. In a fleet it has a guardian that starts it again after a panic, with everything it knew and did; started
/// by its users it has none, and a panic in a handler ends it.
pub struct RemoteWorkspace {
    core: Rc<Core>,
    /// Whether somebody starts it again when it stops unasked.
    guarded: bool,
}

impl RemoteWorkspace {
    /// The actor of this workspace, to be started on the arbiter of this thread. It sends nothing before it is asked
    /// to.
    #[must_use]
    pub fn new(config: WorkspaceConfig, tls: &SharedTls) -> Self {
        Self { core: Core::new(config, tls), guarded: false }
    }

    /// The actor around a core that outlives it.
    pub(crate) fn guarded(core: Rc<Core>) -> Self {
        Self { core, guarded: true }
    }

    #[cfg(any(test, feature = "service"))]
    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }
}

impl Actor for RemoteWorkspace {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // The step queue is the bound: with a mailbox that fills up first, senders would lose their order.
        ctx.set_mailbox_capacity(self.core.config.max_queued_steps.max(MAILBOX));
        if !self.guarded {
            health::probe_while_idle(&self.core);
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if !self.guarded {
            self.core.close();
        }
    }
}

impl Supervised for RemoteWorkspace {}

/// What a message is answered with, in time.
type Answer<M> = ResponseFuture<Result<<M as Ask>::Answer, WorkspaceError>>;

/// Answers a message with a step, in its turn.
macro_rules! step {
    ($message:ty, $carry_out:path) => {
        impl Handler<$message> for RemoteWorkspace {
            type Result = Answer<$message>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let core = self.core.clone();
                let place = core.enter();
                named::<$message>(self, async move {
                    let _permit = core.turn(place, None).await?;
                    $carry_out(&core, message).await
                })
            }
        }
    };
}

step!(FileUpload, steps::upload::upload);
step!(FileDownload, steps::file::download);
step!(FileRead, steps::read::read);
step!(DirectoryUpload, steps::directory::upload);
step!(DirectoryDownload, steps::directory::download);
step!(GitChanges, steps::git::changes);
step!(GitDiff, steps::git::diff);
step!(GitCommits, steps::git::commits);

/// Says of a failure on which workspace it happened and while doing what. A panic is one.
pub(super) fn named<M: Ask>(
    actor: &RemoteWorkspace,
    work: impl Future<Output = Result<M::Answer, Failure>> + 'static,
) -> Answer<M> {
    let core = actor.core.clone();
    // Combinators have the work in them once; an async block would have it twice, and copy it when it is first polled.
    Box::pin(AssertUnwindSafe(work).catch_unwind().map(move |result| {
        let result = result.unwrap_or_else(|payload| {
            let reason = format!("a step panicked: {}", panic_text(&*payload));
            log::error!("{}: {}: {reason}", core.config.name, M::OPERATION);
            core.record.failed(reason.clone());
            Err(Failure::maybe_sent(ErrorKind::Panicked { reason }))
        });
        result.map_err(|failure| failure.on(&core.config.name, M::OPERATION))
    }))
}

/// The way to answer a message. It is answered also when the actor panics while it takes the message in.
struct Unanswered<'a, M: Ask> {
    answer: Option<oneshot::Sender<M::Result>>,
    core: &'a Core,
}

impl<M: Ask> Drop for Unanswered<'_, M> {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            // Taking a message in sends nothing: that is done in its turn.
            let reason = "the workspace's actor panicked while it took the message in".to_owned();
            let failure = Failure::not_sent(ErrorKind::Panicked { reason });
            let _ = answer.send(Err(failure.on(&self.core.config.name, M::OPERATION)));
        }
    }
}

impl<M: Ask> Handler<Call<M>> for RemoteWorkspace {
    type Result = ();

    fn handle(&mut self, Call { message, answer, behalf }: Call<M>, ctx: &mut Self::Context) {
        if self.core.record.is_given_up() {
            // An actor that panicked too often is not trusted with another message.
            let _ = answer.send(Err(self.core.record.refusal().on(&self.core.config.name, M::OPERATION)));
            return;
        }
        let core = self.core.clone();
        let mut unanswered = Unanswered::<M> { answer: Some(answer), core: &core };
        let work = behalf.during(|| message.hand_over(self, ctx));
        let Some(answer) = unanswered.answer.take() else { return };
        actix_rt::spawn(caller::answer(behalf.carry_out(work), answer));
    }
}

impl Handler<Execute> for RemoteWorkspace {
    type Result = Answer<Execute>;

    fn handle(&mut self, message: Execute, _: &mut Self::Context) -> Self::Result {
        let place = self.core.enter();
        named::<Execute>(self, steps::command::execute(self.core.clone(), place, message))
    }
}

impl Handler<ExecuteCommand> for RemoteWorkspace {
    type Result = Answer<ExecuteCommand>;

    fn handle(&mut self, command: ExecuteCommand, ctx: &mut Self::Context) -> Self::Result {
        self.handle(
            Execute {
                command,
                caller: steps::command::no_caller(),
                called_off: steps::command::no_caller(),
                events: None,
                follow_output: false,
                known: None,
            },
            ctx,
        )
    }
}

impl Handler<StartCommand> for RemoteWorkspace {
    type Result = Answer<StartCommand>;

    fn handle(&mut self, StartCommand(command): StartCommand, _: &mut Self::Context) -> Self::Result {
        let place = self.core.enter();
        let begun = steps::command::start_detached(self.core.clone(), place, command);
        named::<StartCommand>(self, async move { begun.await.map(|begun| begun.id) })
    }
}

impl Handler<Attach> for RemoteWorkspace {
    type Result = Answer<Attach>;

    fn handle(&mut self, message: Attach, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        named::<Attach>(self, async move { steps::attach::attach(&core, message).await })
    }
}

impl Handler<AttachCommand> for RemoteWorkspace {
    type Result = Answer<AttachCommand>;

    fn handle(&mut self, attach: AttachCommand, ctx: &mut Self::Context) -> Self::Result {
        self.handle(
            Attach { attach, caller: steps::command::no_caller(), events: None, follow_output: false, told: [0; 2] },
            ctx,
        )
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
        named::<GetServerInfo>(
            self,
            async move { Retry::new(&core).until_answered(|| attendant::server_info(&core)).await },
        )
    }
}

impl Handler<WaitReady> for RemoteWorkspace {
    type Result = Answer<WaitReady>;

    fn handle(&mut self, WaitReady { timeout }: WaitReady, _: &mut Self::Context) -> Self::Result {
        let core = self.core.clone();
        named::<WaitReady>(self, async move { steps::ready::wait_ready(&core, timeout).await })
    }
}

impl Handler<Hold> for RemoteWorkspace {
    type Result = Answer<Hold>;

    fn handle(&mut self, _: Hold, _: &mut Self::Context) -> Self::Result {
        let held = steps::hold::hold(&self.core);
        named::<Hold>(self, async move { Ok(held) })
    }
}

impl Handler<Rest> for RemoteWorkspace {
    type Result = ();

    fn handle(&mut self, _: Rest, _: &mut Self::Context) {
        self.core.rest();
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
        self.handle(Dismiss(OnRemove::Stop), ctx)
    }
}

impl Handler<Dismiss> for RemoteWorkspace {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Dismiss(on_remove): Dismiss, ctx: &mut Self::Context) -> Self::Result {
        let (ended, this) = (shut_down(self.core.clone(), on_remove), ctx.address());
        Box::pin(async move {
            ended.await;
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
