use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use crate::{
    messages::Held,
    workspace::{attendant, core::Core},
};

/// Holds the workspace until the answer is dropped, or the workspace ends.
pub(crate) fn hold(core: &Rc<Core>) -> Held {
    let (guard, closing) = (attendant::hold(core), core.closing.clone());
    let dropped = CancellationToken::new();
    let until = dropped.clone();
    actix_rt::spawn(async move {
        tokio::select! {
            () = until.cancelled() => {}
            () = closing.cancelled() => {}
        }
        drop(guard);
    });
    Held { _until_dropped: dropped.drop_guard() }
}
