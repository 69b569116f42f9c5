//! What of a client's frames is read, and when: the WebSocket library keeps all that comes until a frame is whole, however
//! long that says it is.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{dev::Payload, error::PayloadError};
use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture};
use tokio_util::sync::CancellationToken;

use super::socket::MOST;
use crate::client::{announced, extended};

/// The most bytes of the first message, with what comes before it.
const FIRST: usize = 4 << 10;

/// The bytes of a client. As long as the gate is closed only those of its first message come through; whatever is behind it
/// is not even read.
pub(super) struct Gate {
    payload: Payload,
    open: CancellationToken,
    opened: BoxFuture<'static, ()>,
    frames: Frames,
    /// What has come through while the gate was closed.
    before: usize,
    /// Whether the first message came through.
    first_is_through: bool,
    /// What came and waits for the gate.
    held: Bytes,
    is_broken: bool,
}

impl Gate {
    /// A gate before these bytes, which is opened by cancelling the token.
    pub(super) fn new(payload: Payload, open: CancellationToken) -> Self {
        Self {
            payload,
            opened: open.clone().cancelled_owned().boxed(),
            open,
            frames: Frames::default(),
            before: 0,
            first_is_through: false,
            held: Bytes::new(),
            is_broken: false,
        }
    }

    /// What of the bytes that are held may pass.
    fn pass(&mut self) -> Result<Bytes, TooLong> {
        let mut at = 0;
        let is_open = self.open.is_cancelled();
        while at < self.held.len() && (is_open || !self.first_is_through) {
            let room = if is_open { usize::MAX } else { FIRST - self.before };
            let step = self.frames.follow(&self.held[at..], room)?;
            at += step.bytes;
            if !is_open {
                self.before += step.bytes;
                self.first_is_through = step.ends_message;
            }
        }
        Ok(self.held.split_to(at))
    }
}

impl Stream for Gate {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_broken {
            return Poll::Ready(None);
        }
        loop {
            match this.pass() {
                Ok(bytes) if !bytes.is_empty() => return Poll::Ready(Some(Ok(bytes))),
                Ok(_) => {}
                Err(TooLong) => {
                    this.is_broken = true;
                    return Poll::Ready(Some(Err(PayloadError::Overflow)));
                }
            }
            if this.first_is_through && !this.open.is_cancelled() {
                std::task::ready!(this.opened.poll_unpin(cx));
                continue;
            }
            match std::task::ready!(this.payload.poll_next_unpin(cx)) {
                Some(Ok(bytes)) => this.held = bytes,
                end => return Poll::Ready(end),
            }
        }
    }
}

/// A frame is longer than may be.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

/// Where in its frames a stream of bytes is.
#[derive(Default)]
struct Frames {
    /// The head of a frame, as far as it has come.
    head: Vec<u8>,
    /// How much of a frame has still to come behind its head.
    left: u64,
    /// Whether the frame is the last of a message.
    ends_message: bool,
}

/// What was followed.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    bytes: usize,
    /// Whether a message ends there.
    ends_message: bool,
}

impl Frames {
    /// Follows bytes, of which there are some, to the end of a head or of a frame, or of the bytes. A frame has
    /// [`MOST`] bytes at most, and may need so much `room`, with what is still to come of its head.
    fn follow(&mut self, bytes: &[u8], room: usize) -> Result<Step, TooLong> {
        if self.left > 0 {
            let step = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= step as u64;
            return Ok(Step { bytes: step, ends_message: self.left == 0 && self.ends_message });
        }
        let missing = self.missing();
        let step = missing.min(bytes.len());
        self.head.extend_from_slice(&bytes[..step]);
        if self.missing() > 0 {
            return if step >= room { Err(TooLong) } else { Ok(Step { bytes: step, ends_message: false }) };
        }
        let length = announced(&self.head).ok_or(TooLong)?;
        if length > MOST as u64 || length.saturating_add(step as u64) > room as u64 {
            return Err(TooLong);
        }
        // Pings and the like come between messages, and their numbers begin with 8.
        self.ends_message = self.head[0] & 0x80 != 0 && self.head[0] & 0x0f < 8;
        self.left = length;
        self.head.clear();
        Ok(Step { bytes: step, ends_message: length == 0 && self.ends_message })
    }

    /// How many bytes of the head are missing, as far as that can be said.
    fn missing(&self) -> usize {
        let Some(second) = self.head.get(1) else { return 2 - self.head.len() };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        (2 + extended(*second) + mask).saturating_sub(self.head.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest head of a frame.
    const HEAD: usize = 14;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            126..65536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend(std::iter::repeat_n(7, length));
        frame
    }

    fn gate(pieces: Vec<Vec<u8>>) -> (Gate, CancellationToken) {
        let pieces = futures::stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece))));
        let open = CancellationToken::new();
        (Gate::new(Payload::Stream { payload: pieces.boxed_local() }, open.clone()), open)
    }

    /// What comes through, and whether that is all there is.
    async fn through(gate: &mut Gate) -> Result<usize, PayloadError> {
        let mut bytes = 0;
        while let Some(Some(piece)) = gate.next().now_or_never() {
            bytes += piece?.len();
        }
        Ok(bytes)
    }

    #[actix_rt::test]
    async fn only_the_first_message_comes_through_before_the_gate_is_opened() {
        let before = [frame(0x89, 5), frame(0x01, 3), frame(0x89, 0), frame(0x80, 300)].concat();
        let behind = [frame(0x81, 70_000), frame(0x81, 1)].concat();
        let all = [before.clone(), behind.clone()].concat();
        for size in [1, 3, 7, 1000, all.len()] {
            let (mut gate, open) = gate(all.chunks(size).map(<[u8]>::to_vec).collect());
            assert_eq!(through(&mut gate).await.unwrap(), before.len(), "{size}");
            open.cancel();
            assert_eq!(through(&mut gate).await.unwrap(), behind.len(), "{size}");
        }
    }

    #[actix_rt::test]
    async fn a_frame_that_is_too_long_is_refused_when_it_says_so() {
        let head = |length: usize| frame(0x81, length)[..HEAD].to_vec();
        for (is_open, length, fits) in [
            (false, FIRST - 8, true),
            (false, FIRST, false),
            (false, MOST, false),
            (true, MOST, true),
            (true, MOST + 1, false),
        ] {
            let (mut gate, open) = gate(vec![head(length)]);
            if is_open {
                open.cancel();
            }
            assert_eq!(through(&mut gate).await.is_ok(), fits, "{is_open} {length}");
        }
        let (mut pinging, _closed) = gate(vec![frame(0x89, 100); 50]);
        assert!(through(&mut pinging).await.is_err(), "the bound is for all that comes before the key");
    }
}
