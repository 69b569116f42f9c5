use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_codec::Encoder;
use actix_http::ws::{CloseReason, Codec, Item, Message};
use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    web::{Bytes, BytesMut},
};
use tokio::sync::mpsc;

use super::{body::Body, event::Event, json_text::push_escaped};

/// How much text a fragment carries before it is escaped.
const PIECE: usize = 32 << 10;

/// The way to the client of a socket.
///
/// A stored event can be megabytes long, and several times that as JSON. So that clients which do not read cost next to
/// nothing, a message is made in fragments, each only when the connection has room for it. The WebSocket library's own way
/// would queue dozens of whole messages.
pub(super) struct Outgoing {
    frames: mpsc::Sender<Bytes>,
    codec: Codec,
    /// What was made of the current message and is not in a frame yet.
    pending: String,
    /// Whether a part of the current message is in a frame.
    begun: bool,
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The client is gone.
    Gone,
    /// What is stored cannot be read.
    Unreadable,
}

impl Outgoing {
    /// The way, and the body of the answer that it goes through. `body` is what the WebSocket library would send; it tells
    /// the library when the connection has ended.
    pub(super) fn new(body: BoxBody) -> (Self, BoxBody) {
        let (frames, taken) = mpsc::channel(1);
        let outgoing = Self { frames, codec: Codec::new(), pending: String::new(), begun: false };
        (outgoing, BoxBody::new(Frames { taken, _body: body }))
    }

    /// Sends an event, read from where it is stored as fast as the client takes it.
    pub(super) async fn event(&mut self, event: &Event) -> Result<(), Unsent> {
        match event {
            Event::Command(command) => {
                let (head, tail) = command.json_around();
                self.push(head);
                for piece in pieces(&command.command) {
                    self.push_escaped(piece).await?;
                }
                self.push(&tail);
            }
            Event::Output(output) => {
                let (head, between, tail) = output.json_around();
                self.push(&head);
                self.value(output.stdout.as_ref()).await?;
                self.push(between);
                self.value(output.stderr.as_ref()).await?;
                self.push(tail);
            }
        }
        self.end().await
    }

    /// Sends a text that is short.
    pub(super) async fn text(&mut self, text: &str) -> Result<(), Unsent> {
        self.push(text);
        self.end().await
    }

    /// Answers a ping.
    pub(super) async fn pong(&mut self, bytes: Bytes) -> Result<(), Unsent> {
        self.frame(Message::Pong(bytes)).await
    }

    /// Sends the last frame. It may come between the fragments of a message that was given up.
    pub(super) async fn close(mut self, reason: CloseReason) -> Result<(), Unsent> {
        self.frame(Message::Close(Some(reason))).await
    }

    async fn value(&mut self, body: Option<&Body>) -> Result<(), Unsent> {
        let Some(body) = body else {
            self.push("null");
            return Ok(());
        };
        self.push("\"");
        let mut at = 0;
        while at < body.len() {
            let piece = body.piece(at, PIECE).await.map_err(|_| Unsent::Unreadable)?;
            at += piece.len();
            self.push_escaped(&piece).await?;
        }
        self.push("\"");
        Ok(())
    }

    fn push(&mut self, json: &str) {
        self.pending.push_str(json);
    }

    /// Adds text within quotes.
    async fn push_escaped(&mut self, text: &str) -> Result<(), Unsent> {
        push_escaped(&mut self.pending, text);
        if self.pending.len() < PIECE {
            return Ok(());
        }
        let piece = self.take_pending();
        let item = if self.begun { Item::Continue(piece) } else { Item::FirstText(piece) };
        self.begun = true;
        self.frame(Message::Continuation(item)).await
    }

    async fn end(&mut self) -> Result<(), Unsent> {
        if std::mem::take(&mut self.begun) {
            let piece = self.take_pending();
            return self.frame(Message::Continuation(Item::Last(piece))).await;
        }
        let text = std::mem::take(&mut self.pending);
        self.frame(Message::Text(text.into())).await
    }

    fn take_pending(&mut self) -> Bytes {
        std::mem::take(&mut self.pending).into()
    }

    async fn frame(&mut self, message: Message) -> Result<(), Unsent> {
        // Before anything is made of the message.
        let room = self.frames.reserve().await.map_err(|_| Unsent::Gone)?;
        let mut bytes = BytesMut::new();
        self.codec.encode(message, &mut bytes).map_err(|_| Unsent::Gone)?;
        room.send(bytes.freeze());
        Ok(())
    }
}

/// A text in parts of about [`PIECE`] bytes.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(text.floor_char_boundary(PIECE));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The body of a socket's answer.
struct Frames {
    taken: mpsc::Receiver<Bytes>,
    /// Dropped with this one, which is how the reading side learns of the end.
    _body: BoxBody,
}

impl MessageBody for Frames {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.taken.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}
