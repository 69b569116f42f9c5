use std::{cell::Cell, rc::Rc};

use actix_http::ws::Item;
use actix_ws::{CloseReason, Session};
use bytes::Bytes;
use bytestring::ByteString;
use tokio::sync::mpsc;

/// How much may wait for a client that does not read. The workspace's side is always read: a subscriber that stands still
/// can freeze all commands of its server.
const WAITING: usize = 32 << 20;

/// In what pieces a long message is sent, so that little of it waits beyond what is counted here.
const PIECE: usize = 64 << 10;

/// A message on its way to a client.
pub(super) enum Outgoing {
    Text(ByteString),
    Binary(Bytes),
    Pong(Bytes),
    Ping,
    Close(Option<CloseReason>),
}

/// The client does not read.
#[derive(Debug)]
pub(super) struct TooSlow;

/// What waits for a client.
#[derive(Clone)]
pub(super) struct Outbox {
    messages: mpsc::UnboundedSender<Outgoing>,
    waiting: Rc<Cell<usize>>,
}

impl Outbox {
    /// An outbox that sends to this client, on a task of its own.
    pub(super) fn to(session: Session) -> Self {
        // What is in it is counted, and bounded so.
        let (messages, taken) = mpsc::unbounded_channel();
        let waiting = Rc::new(Cell::new(0));
        actix_web::rt::spawn(deliver(session, taken, Rc::clone(&waiting)));
        Self { messages, waiting }
    }

    /// Puts a message behind the others.
    pub(super) fn put(&self, message: Outgoing) -> Result<(), TooSlow> {
        let waiting = self.waiting.get() + message.cost();
        if waiting > WAITING && self.waiting.get() > 0 {
            return Err(TooSlow);
        }
        self.waiting.set(waiting);
        self.messages.send(message).map_err(|_| TooSlow)
    }

    /// Whether the client is gone.
    pub(super) async fn closed(&self) {
        self.messages.closed().await;
    }
}

impl Outgoing {
    fn cost(&self) -> usize {
        // Even a message of nothing takes some memory.
        64 + match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Ping | Self::Close(_) => 0,
        }
    }
}

async fn deliver(mut session: Session, mut messages: mpsc::UnboundedReceiver<Outgoing>, waiting: Rc<Cell<usize>>) {
    while let Some(message) = messages.recv().await {
        let cost = message.cost();
        let sent = match message {
            Outgoing::Text(text) if text.len() <= PIECE => session.text(text).await,
            Outgoing::Text(text) => in_pieces(&mut session, text.into_bytes(), Item::FirstText).await,
            Outgoing::Binary(bytes) if bytes.len() <= PIECE => session.binary(bytes).await,
            Outgoing::Binary(bytes) => in_pieces(&mut session, bytes, Item::FirstBinary).await,
            Outgoing::Pong(bytes) => session.pong(&bytes).await,
            Outgoing::Ping => session.ping(b"").await,
            Outgoing::Close(reason) => {
                // The client has gone first.
                let _ = session.close(reason).await;
                return;
            }
        };
        if sent.is_err() {
            return;
        }
        waiting.set(waiting.get() - cost);
    }
}

async fn in_pieces(
    session: &mut Session,
    mut bytes: Bytes,
    first: impl FnOnce(Bytes) -> Item,
) -> Result<(), actix_ws::Closed> {
    session.continuation(first(bytes.split_to(PIECE))).await?;
    while bytes.len() > PIECE {
        session.continuation(Item::Continue(bytes.split_to(PIECE))).await?;
    }
    session.continuation(Item::Last(bytes)).await
}
