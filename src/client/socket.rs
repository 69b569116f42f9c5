//! The event socket.

use std::{fmt, rc::Rc, time::Duration};

use actix_codec::Framed;
use actix_http::ws::Item;
use awc::{
    BoxedSocket,
    error::{WsClientError, WsProtocolError},
    ws::{CloseCode, CloseReason, Frame, Message},
};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use serde::Serialize;
use tokio::{
    task::coop::consume_budget,
    time::{Instant, timeout, timeout_at},
};

use super::{
    agent_client::AgentClient,
    broken,
    excerpt::shown,
    exchange::uri,
    frame_bound::BoundedCodec,
    key::SessionKey,
    pool::Lent,
    secrets::Secrets,
    status::{self, Refusal},
    turns::Waiting,
};
use crate::{
    ErrorKind, Failure,
    protocol::{BashEvent, StartBashCommand},
};

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// The close code for a session key that is not accepted.
const BAD_KEY: u16 = 4001;

/// The first message to a server with a session key.
#[derive(Serialize)]
struct Auth<'a> {
    r#type: &'static str,
    session_api_key: &'a str,
}

/// The first message to a server with this key.
pub(super) fn auth(key: &SessionKey) -> Result<String, Failure> {
    serde_json::to_string(&Auth { r#type: "auth", session_api_key: key.expose() })
        .map_err(|error| Failure::invalid(error.to_string()))
}

/// A subscription to a server's events, as they happen.
///
/// It must be read all the time: a subscriber that stands still can freeze all commands of its server.
pub struct EventSocket {
    framed: Framed<BoxedSocket, BoundedCodec>,
    messages: Messages,
    /// What came and was not looked into yet.
    frame: Option<Frame>,
    /// For a turn to look into it.
    waiting: Waiting,
    secrets: Rc<Secrets>,
    idle: Duration,
    heard: Instant,
    is_asked: bool,
    is_over: bool,
}

impl AgentClient {
    /// Subscribes to the server's events; with `resend_all`, to those of its log first.
    ///
    /// # Errors
    /// As any request. `Unauthorized` may come only with the first event, since the key is in the first message.
    pub async fn event_socket(&self, resend_all: bool) -> Result<EventSocket, Failure> {
        let limits = *self.limits();
        let target = self.root("/sockets/bash-events").with_some("resend_mode", resend_all.then_some("all"));
        let uri = uri(&target).map_err(|broken| broken.failure)?;
        let lent = self.duplex();
        let connecting = lent.client.ws(uri).max_frame_size(limits.max_socket_frame).connect();
        let patience = limits.connect_timeout + limits.answer_timeout;
        let (_, framed) = match timeout(patience, connecting).await {
            Ok(result) => result.map_err(|error| not_connected(error, &lent))?,
            Err(_) => return Err(silent("the event socket to open", patience)),
        };
        let mut socket = EventSocket {
            framed: framed.into_map_codec(|codec| BoundedCodec::new(codec, limits.max_socket_frame)),
            messages: Messages::new(limits.max_socket_frame),
            frame: None,
            waiting: Waiting::default(),
            secrets: self.secrets().clone(),
            idle: limits.idle_timeout,
            heard: Instant::now(),
            is_asked: false,
            is_over: false,
        };
        if let Some(key) = self.key() {
            socket.send(Message::Text(auth(key)?.into())).await?;
        }
        Ok(socket)
    }
}

impl EventSocket {
    /// The next event, or `None` when the server has ended the subscription in peace. Nothing comes after a failure.
    ///
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<BashEvent, Failure>> {
        while !self.is_over {
            // Messages that mean nothing may come without end, and others have to have their turn all the same.
            consume_budget().await;
            match self.step().await {
                Ok(None) => {}
                Ok(Some(event)) => return Some(Ok(event)),
                Err(failure) => {
                    self.is_over = true;
                    return Some(Err(failure));
                }
            }
        }
        None
    }

    /// Asks the server to start a command. Its answer is the command's event.
    ///
    /// # Errors
    /// The socket is broken, or takes nothing for the idle timeout.
    pub async fn send_start(&mut self, start: &StartBashCommand) -> Result<(), Failure> {
        self.send_json(start).await
    }

    /// Ends the subscription. Commands go on.
    pub async fn close(mut self) {
        let _ = timeout(FAREWELL, self.framed.send(Message::Close(Some(CloseCode::Normal.into())))).await;
    }

    /// Takes a frame, or asks a server that is silent for a sign of life.
    async fn step(&mut self) -> Result<Option<BashEvent>, Failure> {
        if self.frame.is_none() {
            self.frame = self.hear().await?;
        }
        if let Some(Frame::Text(text) | Frame::Continuation(Item::Last(text))) = &self.frame {
            self.waiting.turn_for(text.len() + self.messages.len()).await;
        }
        match self.frame.take() {
            Some(frame) => self.take(frame).await,
            None => Ok(None),
        }
    }

    /// Waits for a frame. `None` after a question whether the server is there.
    async fn hear(&mut self) -> Result<Option<Frame>, Failure> {
        let quiet = self.idle / 2;
        let patience = if self.is_asked { quiet * 2 } else { quiet };
        match timeout_at(self.heard + patience, self.framed.next()).await {
            Ok(Some(Ok(frame))) => {
                self.heard = Instant::now();
                self.is_asked = false;
                Ok(Some(frame))
            }
            Ok(Some(Err(error))) => Err(self.unreadable(&error)),
            Ok(None) => Err(lost("it was closed without a word")),
            Err(_) if self.is_asked => Err(silent("a sign of life on the event socket", patience)),
            Err(_) => {
                self.is_asked = true;
                self.send(Message::Ping(Bytes::new())).await.map(|()| None)
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<Option<BashEvent>, Failure> {
        match frame {
            Frame::Text(text) => self.secrets.reading(&text, event).map(Some),
            Frame::Continuation(item) => {
                self.messages.join(item)?.map(|whole| self.secrets.reading(&whole, event)).transpose()
            }
            Frame::Ping(payload) => self.send(Message::Pong(payload)).await.map(|()| None),
            Frame::Pong(_) => Ok(None),
            Frame::Binary(_) => Err(Failure::protocol("the event socket sent a binary message")),
            Frame::Close(reason) => {
                self.is_over = true;
                let _ = timeout(FAREWELL, self.framed.send(Message::Close(reason.clone()))).await;
                closed(reason).map(|()| None).map_err(|failure| self.secrets.hide(failure))
            }
        }
    }

    async fn send_json(&mut self, message: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(message).map_err(|error| Failure::invalid(error.to_string()))?;
        self.send(Message::Text(text.into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Failure> {
        match timeout(self.idle, self.framed.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(lost(&error.to_string())),
            Err(_) => Err(silent("the event socket to take a message", self.idle)),
        }
    }

    fn unreadable(&self, error: &WsProtocolError) -> Failure {
        match error {
            WsProtocolError::Io(error) => lost(&error.to_string()),
            WsProtocolError::Overflow => self.messages.too_large(),
            error => Failure::protocol(format!("the event socket: {error}")),
        }
    }
}

/// Puts messages together that come in pieces.
pub(super) struct Messages {
    /// A message of which more is to come.
    partial: Option<BytesMut>,
    most: usize,
}

impl Messages {
    /// Messages of at most so many bytes.
    pub(super) const fn new(most: usize) -> Self {
        Self { partial: None, most }
    }

    /// How much there is of a message of which more is to come.
    fn len(&self) -> usize {
        self.partial.as_ref().map_or(0, BytesMut::len)
    }

    /// Takes a piece, and returns the message that it completes.
    pub(super) fn join(&mut self, item: Item) -> Result<Option<BytesMut>, Failure> {
        let (piece, is_last) = match item {
            Item::FirstText(_) if self.partial.is_some() => {
                return Err(Failure::protocol("the event socket began a message within another"));
            }
            Item::FirstText(piece) => {
                self.partial = Some(BytesMut::new());
                (piece, false)
            }
            Item::FirstBinary(_) => return Err(Failure::protocol("the event socket sent a binary message")),
            Item::Continue(piece) => (piece, false),
            Item::Last(piece) => (piece, true),
        };
        let Some(partial) = &mut self.partial else {
            return Err(Failure::protocol("the event socket sent the rest of a message without its beginning"));
        };
        if partial.len() + piece.len() > self.most {
            return Err(self.too_large());
        }
        partial.extend_from_slice(&piece);
        Ok(if is_last { self.partial.take() } else { None })
    }

    fn too_large(&self) -> Failure {
        Failure::protocol(format!("the event socket sent a message larger than {} bytes", self.most))
    }
}

impl fmt::Debug for EventSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSocket").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

pub(super) fn event(text: &[u8]) -> Result<BashEvent, Failure> {
    serde_json::from_slice(text).map_err(|error| {
        Failure::protocol(format!("the event socket sent a message that is no event: {}", shown(&error.to_string())))
    })
}

/// What the server's farewell means.
pub(super) fn closed(reason: Option<CloseReason>) -> Result<(), Failure> {
    let Some(CloseReason { code, description }) = reason else { return Ok(()) };
    let code = u16::from(code);
    let detail = description
        .map(|description| shown(&description))
        .unwrap_or_else(|| format!("the event socket was closed with code {code}"));
    let kind = match code {
        1000 | 1001 => return Ok(()),
        BAD_KEY => ErrorKind::Unauthorized { status: 401, detail },
        1011..=1013 => ErrorKind::ServerError { status: code, detail, retry_after: None },
        _ => ErrorKind::Protocol {
            reason: format!("the event socket was closed with code {code}: {detail}"),
            cut_short: false,
        },
    };
    Err(Failure::maybe_sent(kind))
}

pub(super) fn not_connected(error: WsClientError, lent: &Lent) -> Failure {
    match error {
        WsClientError::SendRequest(error) => lent.watch.explain(broken::judge(error)).failure,
        WsClientError::InvalidResponseStatus(status) if status.as_u16() == 404 => {
            Failure::not_sent(ErrorKind::NotFound { detail: "there is no event socket".to_owned() })
        }
        WsClientError::InvalidResponseStatus(status) if status.as_u16() >= 300 => status::failure(&Refusal {
            status: status.as_u16(),
            retry_after: None,
            location: None,
            content_type: None,
            body: b"",
        }),
        error => Failure::protocol(format!("the answer to a request for the event socket is no socket: {error}")),
    }
}

fn lost(why: &str) -> Failure {
    Failure::maybe_sent(ErrorKind::Unreachable { reason: format!("the event socket broke: {why}") })
}

pub(super) fn silent(waiting_for: &str, limit: Duration) -> Failure {
    Failure::maybe_sent(ErrorKind::Deadline { waiting_for: format!("waiting for {waiting_for}"), limit })
}
