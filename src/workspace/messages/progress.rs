use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TransferProgress {
    /// How many bytes have been moved. It falls when a transfer has to begin again.
    pub done: u64,
    /// How many there are, where that is known. Of a directory, the bytes of its tar stream.
    pub total: Option<u64>,
    /// How often the transfer has begun, this time included. One that goes on where it was cut has not begun again.
    pub attempt: u32,
}

/// What is told how far a transfer is: when it begins, ten times a second at most while it goes on, and when all has been moved.
///
/// It is called on the thread that moves the bytes, which waits for it meanwhile: it should do no more than note the numbers or
/// send them on.
#[derive(Clone)]
pub struct OnProgress(Arc<dyn Fn(TransferProgress) + Send + Sync>);

impl OnProgress {
    /// Tells this function.
    #[must_use]
    pub fn new(tell: impl Fn(TransferProgress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(crate) fn tell(&self, progress: TransferProgress) {
        (self.0)(progress);
    }
}

impl fmt::Debug for OnProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnProgress(..)")
    }
}

/// Gives a transfer the method that lets somebody be told how far it is.
macro_rules! tells_progress {
    ($message:ty) => {
        impl $message {
            /// Tells this function how far it is; see [`OnProgress`](crate::messages::OnProgress).
            #[must_use]
            pub fn with_progress(
                mut self,
                tell: impl Fn(crate::messages::TransferProgress) + Send + Sync + 'static,
            ) -> Self {
                self.progress = Some(crate::messages::OnProgress::new(tell));
                self
            }
        }
    };
}
pub(super) use tells_progress;
