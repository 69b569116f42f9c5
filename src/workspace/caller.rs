//! Whether somebody still waits for the answer to a message, as what carries it out can tell.

use std::future::Future;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// Cancelled when nobody waits any more for what is being polled.
    static GONE: CancellationToken;
}

/// Carries work out and sends its result, whether anybody still waits for it or not. The work can tell.
pub(super) async fn answer<T>(work: impl Future<Output = T>, mut answer: oneshot::Sender<T>) {
    let gone = CancellationToken::new();
    let work = GONE.scope(gone.clone(), work);
    tokio::pin!(work);
    let result = tokio::select! {
        biased;
        result = &mut work => result,
        () = answer.closed() => {
            gone.cancel();
            work.await
        }
    };
    // Whoever asked may have stopped waiting; what was asked for is done all the same.
    let _ = answer.send(result);
}

/// Whether nobody waits any more. Of work for which that cannot be known, somebody always waits.
pub(super) fn is_gone() -> bool {
    GONE.try_with(CancellationToken::is_cancelled).unwrap_or(false)
}

/// Waits until nobody waits any more.
pub(super) async fn gone() {
    match GONE.try_with(Clone::clone) {
        Ok(gone) => gone.cancelled().await,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn work_is_carried_out_to_its_end_and_can_tell_that_nobody_waits() {
        let (sender, receiver) = oneshot::channel();
        let (told, heard) = oneshot::channel();
        let work = async move {
            assert!(!is_gone());
            gone().await;
            assert!(is_gone());
            // The receiver is there until the end of the test.
            let _ = told.send(7);
        };
        let answering = actix_rt::spawn(answer(work, sender));
        drop(receiver);
        assert_eq!(heard.await, Ok(7));
        answering.await.unwrap();
        assert!(!is_gone(), "what nobody sent as a message is always waited for");
    }
}
