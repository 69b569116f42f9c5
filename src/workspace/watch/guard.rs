use std::{
    cell::Cell,
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
pub(super) async fn guard(
    core: Rc<Core>,
    id: EventId,
    mut watch: Guarded<CommandWatch>,
    rest: Rc<Cell<Option<Duration>>>,
) {
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
