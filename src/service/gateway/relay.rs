use std::time::{Duration, Instant};

use actix_codec::Framed;
use actix_http::ws::Item;
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason};
use awc::{
    BoxedSocket,
    ws::{Frame, Message},
};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures::{SinkExt as _, StreamExt as _, stream::SplitSink};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    bash::{Start, understood},
    hide::hidden,
    outbox::{Outbox, Outgoing},
    socket::is_auth,
    ways::UnderWay,
};
use crate::{
    client::BoundedCodec,
    protocol::{CommandHead, EventId},
};

/// How often both sides are asked for a sign of life, and how long they may be silent.
const ASK: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(65);

/// How long a workspace may take a message.
const TAKES: Duration = Duration::from_secs(60);

/// The most bytes of a message that comes in pieces.
const MOST: usize = 16 << 20;

/// How many messages of a client wait for the workspace before the client does.
const WAITING: usize = 16;

/// A client and a socket of its workspace.
pub(super) struct Relay {
    pub(super) outbox: Outbox,
    pub(super) messages: AggregatedMessageStream,
    pub(super) framed: Framed<BoxedSocket, BoundedCodec>,
    /// Whether messages of the client start commands, and those of the workspace tell of them.
    pub(super) tells_commands: bool,
    pub(super) may_write: bool,
    pub(super) under_way: UnderWay,
    /// Cancelled when the service ends.
    pub(super) closing: CancellationToken,
}

/// Why a relay ends: what each side is told.
struct End {
    client: Option<CloseReason>,
    workspace: Option<CloseReason>,
}

impl Relay {
    /// Passes messages both ways until one side ends.
    pub(super) async fn run(self) {
        let Self { outbox, messages, framed, tells_commands, may_write, under_way, closing } = self;
        let (sink, mut frames) = framed.split();
        let (to_workspace, taken) = mpsc::channel(WAITING);
        let sending = actix_web::rt::spawn(send(sink, taken));
        let mut relay =
            Running { outbox, to_workspace, tells_commands, may_write, partial: None, hears: [Instant::now(); 2] };
        let mut messages = messages;
        let mut ticks = tokio::time::interval(ASK);
        let end = loop {
            let room = relay.to_workspace.clone();
            let next = tokio::select! {
                frame = frames.next() => relay.of_workspace(frame.map(|frame| frame.map_err(|error| error.to_string()))),
                message = async {
                    // A client is read as fast as its workspace takes what it sends.
                    let permit = room.reserve().await;
                    (permit.is_ok(), messages.next().await)
                } => match message {
                    (true, Some(Ok(message))) => relay.of_client(message),
                    (false, _) => Err(End::both(CloseCode::Away, "the workspace takes no more messages")),
                    (_, Some(Err(error))) => Err(End::both(CloseCode::Protocol, &error.to_string())),
                    (_, None) => Err(End { client: None, workspace: Some(CloseCode::Away.into()) }),
                },
                () = relay.outbox.closed() => Err(End { client: None, workspace: Some(CloseCode::Away.into()) }),
                () = closing.cancelled() => Err(End::both(CloseCode::Away, "the service ends")),
                _ = ticks.tick() => relay.tick(),
            };
            if let Err(end) = next {
                break end;
            }
        };
        let _ = relay.outbox.put(Outgoing::Close(end.client));
        let _ = relay.to_workspace.try_send(Message::Close(end.workspace));
        drop(relay);
        // What the workspace still sends is read and thrown away, so that it is not held up.
        let drained = async { while frames.next().await.is_some_and(|frame| frame.is_ok()) {} };
        let _ = tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(sending, drained) }).await;
        drop(under_way);
    }
}

async fn send(mut sink: SplitSink<Framed<BoxedSocket, BoundedCodec>, Message>, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        let is_last = matches!(message, Message::Close(_));
        let sent = tokio::time::timeout(TAKES, sink.send(message)).await;
        if is_last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

struct Running {
    outbox: Outbox,
    to_workspace: mpsc::Sender<Message>,
    tells_commands: bool,
    may_write: bool,
    /// What came of a message of the workspace, and whether it is text.
    partial: Option<(BytesMut, bool)>,
    /// When the workspace and the client were heard last.
    hears: [Instant; 2],
}

impl End {
    fn both(code: CloseCode, why: &str) -> Self {
        let reason = |code| CloseReason { code, description: Some(why.chars().take(100).collect()) };
        Self { client: Some(reason(code)), workspace: Some(reason(CloseCode::Away)) }
    }
}

impl Running {
    /// Takes what the workspace sent.
    fn of_workspace(&mut self, frame: Option<Result<Frame, String>>) -> Result<(), End> {
        self.hears[0] = Instant::now();
        match frame {
            Some(Ok(Frame::Text(bytes))) => self.text(bytes),
            Some(Ok(Frame::Binary(bytes))) => self.put(Outgoing::Binary(bytes)),
            Some(Ok(Frame::Continuation(item))) => self.piece(item),
            Some(Ok(Frame::Ping(bytes))) => self.forward(Message::Pong(bytes)),
            Some(Ok(Frame::Pong(_))) => Ok(()),
            Some(Ok(Frame::Close(reason))) => Err(End { client: reason.clone(), workspace: reason }),
            Some(Err(error)) => Err(End::both(CloseCode::Error, &format!("the workspace's socket: {error}"))),
            None => Err(End::both(CloseCode::Away, "the workspace closed the socket without a word")),
        }
    }

    fn text(&self, bytes: Bytes) -> Result<(), End> {
        let bytes = if self.tells_commands { hidden(&bytes) } else { bytes };
        match ByteString::try_from(bytes) {
            Ok(text) => self.put(Outgoing::Text(text)),
            Err(_) => Err(End::both(CloseCode::Invalid, "the workspace sent a text that is not UTF-8")),
        }
    }

    fn piece(&mut self, item: Item) -> Result<(), End> {
        let broken = || End::both(CloseCode::Protocol, "the workspace sent pieces that do not belong together");
        let (piece, is_last) = match item {
            Item::FirstText(_) | Item::FirstBinary(_) if self.partial.is_some() => return Err(broken()),
            Item::FirstText(piece) => {
                self.partial = Some((BytesMut::new(), true));
                (piece, false)
            }
            Item::FirstBinary(piece) => {
                self.partial = Some((BytesMut::new(), false));
                (piece, false)
            }
            Item::Continue(piece) => (piece, false),
            Item::Last(piece) => (piece, true),
        };
        let (partial, _) = self.partial.as_mut().ok_or_else(broken)?;
        if partial.len() + piece.len() > MOST {
            return Err(End::both(CloseCode::Size, "the workspace sent a message that is too large"));
        }
        partial.extend_from_slice(&piece);
        match if is_last { self.partial.take() } else { None } {
            Some((whole, true)) => self.text(whole.freeze()),
            Some((whole, false)) => self.put(Outgoing::Binary(whole.freeze())),
            None => Ok(()),
        }
    }

    /// Takes what the client sent.
    fn of_client(&mut self, message: AggregatedMessage) -> Result<(), End> {
        self.hears[1] = Instant::now();
        match message {
            AggregatedMessage::Ping(bytes) => self.put(Outgoing::Pong(bytes)),
            AggregatedMessage::Pong(_) => Ok(()),
            AggregatedMessage::Close(reason) => Err(End { client: reason.clone(), workspace: reason }),
            // The key is the service's, and the workspace got its own, however often the client sends one.
            AggregatedMessage::Text(text) if is_auth(&text) => Ok(()),
            AggregatedMessage::Binary(bytes) if std::str::from_utf8(&bytes).is_ok_and(is_auth) => Ok(()),
            _ if !self.may_write => {
                Err(End::both(CloseCode::Policy, "the key allows to look and not to send anything"))
            }
            AggregatedMessage::Text(text) => self.start_or_forward(text),
            AggregatedMessage::Binary(bytes) => self.forward(Message::Binary(bytes)),
        }
    }

    /// Passes a message on; one that starts a command with a head before that. It goes over the socket itself, behind what made
    /// it a subscription, so that the client sees the command's own event.
    fn start_or_forward(&self, text: ByteString) -> Result<(), End> {
        if !self.tells_commands {
            return self.forward(Message::Text(text));
        }
        let sent = match understood(&text.clone().into_bytes()) {
            Start::Verbatim(body) => ByteString::try_from(body).unwrap_or(text),
            Start::Command(mut start) => {
                start.command.insert_str(0, &CommandHead::new(EventId::random()).to_string());
                serde_json::to_string(&start).map_or(text, ByteString::from)
            }
        };
        self.forward(Message::Text(sent))
    }

    fn tick(&self) -> Result<(), End> {
        if self.hears.iter().any(|heard| heard.elapsed() > SILENCE) {
            return Err(End::both(CloseCode::Away, "one side of the socket has fallen silent"));
        }
        self.put(Outgoing::Ping)?;
        self.forward(Message::Ping(Bytes::new()))
    }

    fn put(&self, message: Outgoing) -> Result<(), End> {
        self.outbox.put(message).map_err(|_| End::both(CloseCode::Again, "the client does not read what it is sent"))
    }

    fn forward(&self, message: Message) -> Result<(), End> {
        // A pong or a ping that finds no room is not missed: what waits there is a sign of life as well.
        let control = matches!(message, Message::Ping(_) | Message::Pong(_));
        match self.to_workspace.try_send(message) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) if control => Ok(()),
            Err(_) => Err(End::both(CloseCode::Away, "the workspace takes no more messages")),
        }
    }
}
