//! On whose behalf a message is sent, for those who wait until all that they began has ended.

use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

tokio::task_local! {
    /// On whose behalf the work is done that is being polled.
    static CURRENT: Behalf;
}

/// Goes along with a message and with all that it begins: its step, its command, and the end of that command's processes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behalf {
    /// Kept for as long as something goes on.
    _work: Option<TaskTrackerToken>,
    under_way: bool,
}

impl Behalf {
    /// Of those who wait for this work, if anybody does.
    pub(crate) fn of(work: Option<&TaskTracker>) -> Self {
        Self { _work: work.map(TaskTracker::token), under_way: false }
    }

    /// Of something that has begun and has steps to come, which a drain lets end.
    pub(crate) fn under_way(self) -> Self {
        Self { under_way: true, ..self }
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Of the one for whom this task works. What is handed to other tasks has to take it along.
    pub(crate) fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// Does something on this behalf.
    pub(crate) fn during<T>(&self, act: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), act)
    }

    /// Does work on this behalf, which ends with it.
    pub(crate) async fn carry_out<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }
}
