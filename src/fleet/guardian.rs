use std::{
    pin::Pin,
    rc::Rc,
    task::{self, Poll, ready},
    time::Instant,
};

use actix::{Context, dev::channel::AddressReceiver};
use futures::future::LocalBoxFuture;

use crate::{
    RemoteWorkspace,
    workspace::{Core, Exit, Guarded, Limits, Restarts},
};

/// Runs the actor of a workspace to its end, and starts it again when it panics or stops unasked.
///
/// Steps, running commands and all that is known of the workspace are in its core, which stays; so do the mailbox and the
/// address. An actor that fails too often is not trusted with another message: it stays to say so until it is removed.
///
/// Each workspace has one. It is a future written by hand, with what only a failure needs in a box, since its task has 512 bytes then; of
/// an async function it has 640, for which allocators take 768 as tasks are aligned to 128.
pub(super) struct Guardian<L> {
    core: Rc<Core>,
    actor: Guarded<RemoteWorkspace>,
    /// What is known of the actor's failures, once there was one.
    restarts: Option<Box<Restarts>>,
    /// The time until the actor is started again.
    pause: Option<LocalBoxFuture<'static, Box<Restarts>>>,
    /// Goes with the guardian.
    _listed: L,
}

impl<L> Guardian<L> {
    pub(super) fn new(core: Rc<Core>, mailbox: AddressReceiver<RemoteWorkspace>, listed: L) -> Self {
        let actor = Guarded::new(Context::with_receiver(mailbox), RemoteWorkspace::guarded(core.clone()));
        Self { core, actor, restarts: None, pause: None, _listed: listed }
    }
}

impl<L: Unpin> Future for Guardian<L> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            if let Some(pause) = &mut this.pause {
                this.restarts = Some(ready!(pause.as_mut().poll(cx)));
                this.pause = None;
                if !this.actor.restart() {
                    break;
                }
            }
            let failure = match ready!(this.actor.poll_run(cx)) {
                Exit::Stopped if this.core.closing.is_cancelled() => break,
                Exit::Stopped => "its actor stopped unasked".to_owned(),
                Exit::Panicked(said) => format!("its actor panicked: {said}"),
            };
            let restarts = this.restarts.take().unwrap_or_else(|| Box::new(Restarts::new(Limits::ACTOR)));
            this.pause = Some(Box::pin(failed(this.core.clone(), failure, restarts)));
        }
        // Whatever ended the actor: nothing is left that could ask for anything, and what runs has nobody any more.
        this.core.close();
        Poll::Ready(())
    }
}

/// Takes in that the actor failed, and waits until it is to be started again.
async fn failed(core: Rc<Core>, failure: String, mut restarts: Box<Restarts>) -> Box<Restarts> {
    log::error!("{}: {failure}", core.config.name);
    core.record.failed(failure.clone());
    match restarts.failed(Instant::now(), fastrand::f64()) {
        Some(wait) => {
            actix_rt::time::sleep(wait).await;
            core.record.restarts.set(core.record.restarts.get() + 1);
        }
        None if core.record.is_given_up() => actix_rt::time::sleep(Limits::ACTOR.longest_wait).await,
        None => give_up(&core, &failure),
    }
    restarts
}

fn give_up(core: &Core, failure: &str) {
    let Limits { most, window, .. } = Limits::ACTOR;
    core.record.give_up(format!(
        "{failure}, for more than the {most} times within {window:?} that it is started again: \
         the workspace was stopped; remove it, and add it again"
    ));
    core.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guardian_and_its_task_have_512_bytes() {
        // What tokio adds, the bookkeeping of a task, is 104 bytes.
        assert!(size_of::<Guardian<u64>>() <= 512 - 104, "{}", size_of::<Guardian<u64>>());
    }
}
