use std::{
    cell::Cell,
    future::Future,
    rc::Rc,
    time::{Duration, Instant},
};

use super::CommandWatch;
use crate::{
    protocol::EventId,
    workspace::{
        core::{Core, count},
        supervision::{Exit, Guarded, Limits, Restarts},
    },
};

/// Runs the watch of a command to its end, and starts it again when it panics.
///
/// It is started again at once, so that the feed never waits for it, and told how long to rest. One that panics too often
/// is dropped, which settles the command as one whose outcome is unknown.
#[expect(
    clippy::manual_async_fn,
    reason = "an async function has room for its arguments twice, and the watch is large"
)]
pub(super) fn guard(
    core: Rc<Core>,
    id: EventId,
    mut watch: Guarded<CommandWatch>,
    rest: Rc<Cell<Option<Duration>>>,
) -> impl Future<Output = ()> {
    async move {
        let mut restarts = Restarts::new(Limits::ACTOR);
        while let Exit::Panicked(said) = watch.run().await {
            let failure = format!("the watch of command {id} panicked: {said}");
            log::error!("{}: {failure}", core.config.name);
            core.record.failed(failure);
            let Some(wait) = restarts.failed(Instant::now(), fastrand::f64()) else { return };
            count(&core.record.command_restarts);
            rest.set(Some(wait));
            if !watch.restart() {
                return;
            }
        }
    }
}
