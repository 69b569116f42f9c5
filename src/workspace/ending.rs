use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::core::Core;

/// How long a step that is being carried out may go on after a shutdown was asked for.
const STEP_PATIENCE: Duration = Duration::from_secs(5);

/// How long the processes of commands may take to end after a shutdown was asked for.
const TASK_PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of the running commands of a workspace that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRemove {
    /// They are stopped.
    #[default]
    Stop,
    /// They run on, unwatched, bounded by the server's own timeout. Whoever waits for one is told so.
    Detach,
}

/// Ends the work of a workspace: what waits is turned away, and what runs is stopped or left alone.
/// Nothing begins any more from the call on, polled or not.
pub(crate) fn shut_down(core: Rc<Core>, on_remove: OnRemove) -> impl Future<Output = ()> {
    if on_remove == OnRemove::Detach {
        core.record.detaching.set(true);
    }
    core.close();
    async move {
        // A step that is starting a command leaves a command behind that has to be ended as well.
        if actix_rt::time::timeout(STEP_PATIENCE, core.queue.idle()).await.is_err() {
            log::warn!("{}: shut down in the middle of a step", core.config.name);
        }
        core.feed.emptied().await;
        core.tasks.close();
        if actix_rt::time::timeout(TASK_PATIENCE, core.tasks.wait()).await.is_err() {
            log::warn!("{}: shut down before all processes of its commands were ended", core.config.name);
        }
    }
}

/// Turns away what waits and what comes, but for the further steps of what has begun. Returns how much waited, and how many
/// ends of commands were noted before.
pub(crate) fn let_end(core: &Core, reason: &str) -> (usize, usize) {
    core.record.close(reason);
    let noted = core.record.note_ends();
    (core.queue.let_end(), noted)
}

/// Lets what runs end by itself until a time, and stops the rest.
pub(crate) async fn drain(core: Rc<Core>, until: Instant) -> usize {
    let work_ends = async {
        core.queue.idle().await;
        core.feed.emptied().await;
    };
    if actix_rt::time::timeout(until.saturating_duration_since(Instant::now()), work_ends).await.is_err() {
        shut_down(core.clone(), OnRemove::Stop).await;
    }
    core.queue.close();
    let (unfinished_steps, _) = core.queue.load();
    unfinished_steps
}
