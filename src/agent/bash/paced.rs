use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    web::Bytes,
};
use tokio::sync::Notify;

/// Tells how much of an answer's body has been taken by its connection.
///
/// The WebSocket library queues dozens of frames for a client that does not read. A frame of output can be megabytes long,
/// so whoever sends waits for each to be taken before the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace(Rc<Taken>);

#[derive(Debug, Default)]
struct Taken {
    bytes: Cell<u64>,
    /// Whether the body is gone, and with it whoever took from it.
    ended: Cell<bool>,
    more: Notify,
}

impl Pace {
    /// Bytes that were taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.0.bytes.get()
    }

    /// Waits until this many bytes were taken. False when that will not happen any more.
    pub(super) async fn reaches(&self, bytes: u64) -> bool {
        while self.taken() < bytes {
            if self.0.ended.get() {
                return false;
            }
            self.0.more.notified().await;
        }
        true
    }

    /// A body whose taking is told.
    pub(super) fn follow(&self, body: BoxBody) -> BoxBody {
        BoxBody::new(Paced { body, pace: self.clone() })
    }
}

struct Paced {
    body: BoxBody,
    pace: Pace,
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.pace.0.ended.set(true);
        self.pace.0.more.notify_one();
    }
}

impl MessageBody for Paced {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_next(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &polled {
            let taken = &self.pace.0;
            taken.bytes.set(taken.bytes.get() + bytes.len() as u64);
            taken.more.notify_one();
        }
        polled
    }
}
