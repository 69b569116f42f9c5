use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// Ends a run: the first time, what runs is stopped and `finally` steps are carried out; the second time, these are
/// given up, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct CancelRun {
    pub(crate) first: CancellationToken,
    pub(crate) second: CancellationToken,
    /// Whether somebody asked for it. What ends a run for another reason does not count as asking.
    asked: Arc<AtomicBool>,
}

impl CancelRun {
    pub(crate) fn cancel(&self) {
        if self.asked.swap(true, Ordering::Relaxed) {
            self.second.cancel();
        }
        self.first.cancel();
    }

    /// Ends the run because it has no use any more, however often. `finally` steps are carried out, unless somebody has asked
    /// twice to end it, before or after this.
    #[cfg(any(feature = "cli", test))]
    pub(crate) fn end(&self) {
        self.first.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_asking_twice_gives_up_the_finally_steps() {
        let cancel = CancelRun::default();
        let state = |cancel: &CancelRun| (cancel.first.is_cancelled(), cancel.second.is_cancelled());
        // Two sinks fail, then Ctrl-C, and one more sink fails.
        cancel.end();
        cancel.clone().end();
        assert_eq!(state(&cancel), (true, false));
        cancel.clone().cancel();
        cancel.end();
        assert_eq!(state(&cancel), (true, false));
        cancel.cancel();
        assert_eq!(state(&cancel), (true, true));
    }
}
