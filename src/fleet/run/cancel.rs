use tokio_util::sync::CancellationToken;

/// Ends a run: the first time, what runs is stopped and `finally` steps are carried out; the second time, these are
/// given up, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct CancelRun {
    pub(crate) first: CancellationToken,
    pub(crate) second: CancellationToken,
}

impl CancelRun {
    pub(crate) fn cancel(&self) {
        if self.first.is_cancelled() {
            self.second.cancel();
        }
        self.first.cancel();
    }
}
