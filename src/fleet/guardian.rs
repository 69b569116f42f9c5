use std::{rc::Rc, time::Instant};

use actix::{Context, dev::channel::AddressReceiver};

use crate::{
    RemoteWorkspace,
    workspace::{Core, Exit, Guarded, Limits, Restarts},
};

/// Runs the actor of a workspace to its end, and starts it again when it panics or stops unasked.
///
/// Steps, running commands and all that is known of the workspace are in its core, which stays; so do the mailbox and the
/// address. An actor that fails too often is not trusted with another message: it stays to say so until it is removed.
///
/// The future is kept small, for each workspace has one: the actor's context is made in it rather than given to it, and what only
/// a failure needs is in a box.
pub(super) async fn guard(core: Rc<Core>, mailbox: AddressReceiver<RemoteWorkspace>) {
    let mut actor = Guarded::new(Context::with_receiver(mailbox), RemoteWorkspace::guarded(core.clone()));
    let mut restarts = None;
    loop {
        let failure = match actor.run().await {
            Exit::Stopped if core.closing.is_cancelled() => break,
            Exit::Stopped => "its actor stopped unasked".to_owned(),
            Exit::Panicked(said) => format!("its actor panicked: {said}"),
        };
        let restarts = restarts.get_or_insert_with(|| Box::new(Restarts::new(Limits::ACTOR)));
        Box::pin(failed(&core, failure, restarts)).await;
        if !actor.restart() {
            break;
        }
    }
    // Whatever ended the actor: nothing is left that could ask for anything, and what runs has nobody any more.
    core.close();
}

/// Takes in that the actor failed, and waits until it is to be started again.
async fn failed(core: &Core, failure: String, restarts: &mut Restarts) {
    log::error!("{}: {failure}", core.config.name);
    core.record.failed(failure.clone());
    match restarts.failed(Instant::now(), fastrand::f64()) {
        Some(wait) => {
            actix_rt::time::sleep(wait).await;
            core.record.restarts.set(core.record.restarts.get() + 1);
        }
        None if core.record.is_given_up() => actix_rt::time::sleep(Limits::ACTOR.longest_wait).await,
        None => give_up(core, &failure),
    }
}

fn give_up(core: &Core, failure: &str) {
    let Limits { most, window, .. } = Limits::ACTOR;
    core.record.give_up(format!(
        "{failure}, for more than the {most} times within {window:?} that it is started again: \
         the workspace was stopped; remove it, and add it again"
    ));
    core.close();
}
