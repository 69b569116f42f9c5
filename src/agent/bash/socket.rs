use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason};
use futures::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

use super::{
    event::error_json,
    outgoing::{Outgoing, Unsent},
    request,
    search::Search,
    service::Refused,
    timestamp::Micros,
};
use crate::agent::{
    connection::admit,
    http::{ApiError, ApiResult, QueryParams},
    keys::presented_key,
    state::AgentState,
};

/// How long a client has for its first frame.
const AUTH_TIME: Duration = Duration::from_secs(10);
/// How long a client has to agree to a close.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// The largest frame and the largest message a client may send. A command of the greatest length fits, however escaped.
const MESSAGE_BYTES: usize = 2 << 20;
/// How many events are looked up at once.
const BATCH: usize = 16;

type State = web::Data<AgentState>;

/// `/sockets/bash-events`: sends every event of the log from now on, or from the beginning, and takes starts.
///
/// A subscriber has a place in the log and no queue: it reads the log at its own pace, so one that is slow costs next to
/// nothing and holds up nobody. One that does not accept a frame for too long, or that the log's retention overtakes, is closed with 1013.
pub(in crate::agent) async fn events_socket(
    request: HttpRequest,
    payload: web::Payload,
    state: State,
) -> ApiResult<HttpResponse> {
    if !request.headers().contains_key("sec-websocket-key") {
        return Err(ApiError::not_found());
    }
    let query = QueryParams::of(&request);
    let resend = match query.get("resend_mode") {
        None => query.get("resend_all").is_some_and(|value| matches!(value, "true" | "1")),
        Some("all") => true,
        Some(_) => return Ok(HttpResponse::new(StatusCode::FORBIDDEN)),
    };
    let presented = query.get("session_api_key").map(str::as_bytes).or_else(|| presented_key(&request));
    let admitted = state.keys.is_open() || presented.is_some();
    if admitted && !state.keys.accepts(presented) {
        return Ok(HttpResponse::new(StatusCode::FORBIDDEN));
    }
    let (response, _, messages) = actix_ws::handle(&request, payload)
        .map_err(|error| ApiError::bad_request(format!("not a WebSocket handshake: {error}")))?;
    let mut messages =
        messages.max_frame_size(MESSAGE_BYTES).aggregate_continuations().max_continuation_size(MESSAGE_BYTES);
    let (response, body) = response.into_parts();
    let (outgoing, body) = Outgoing::new(body);
    actix_rt::spawn(async move {
        if admitted || authenticate(&state, &mut messages).await {
            admit(&request);
            drop(request);
            serve(state, outgoing, messages, resend).await;
        } else {
            close(outgoing, &mut messages, CloseCode::Other(4001), "Authentication failed").await;
        }
    });
    Ok(response.set_body(body))
}

async fn serve(state: State, outgoing: Outgoing, mut messages: AggregatedMessageStream, resend: bool) {
    let Some(place) = state.subscribe() else {
        return close(outgoing, &mut messages, CloseCode::Again, "Too many bash event connections").await;
    };
    let (newest, evicted) = state.bash.position();
    let cursor = if resend { Micros::MIN } else { newest };
    let mut subscriber = Subscriber { state, outgoing, cursor, evicted_before: evicted };
    let reason = subscriber.run(&mut messages).await;
    // Before the close, which a client that does not read draws out.
    drop(place);
    if let Some((code, text)) = reason {
        close(subscriber.outgoing, &mut messages, code, text).await;
    }
}

/// Reads the first frame, which must carry a key.
async fn authenticate(state: &AgentState, messages: &mut AggregatedMessageStream) -> bool {
    let first = async {
        loop {
            match messages.next().await {
                Some(Ok(AggregatedMessage::Text(text))) => return Some(text),
                Some(Ok(AggregatedMessage::Ping(_) | AggregatedMessage::Pong(_))) => {}
                _ => return None,
            }
        }
    };
    let Ok(Some(text)) = timeout(AUTH_TIME, first).await else { return false };
    let Ok(frame) = serde_json::from_str::<Value>(&text) else { return false };
    frame.get("type").and_then(Value::as_str) == Some("auth")
        && frame
            .get("session_api_key")
            .and_then(Value::as_str)
            .is_some_and(|key| state.keys.accepts(Some(key.as_bytes())))
}

/// Closes a socket and waits for the client to agree, for a while: when reading ends first, the close frame is not sent.
async fn close(outgoing: Outgoing, messages: &mut AggregatedMessageStream, code: CloseCode, text: &str) {
    let reason = CloseReason { code, description: (!text.is_empty()).then(|| text.to_owned()) };
    let closed = async {
        if outgoing.close(reason).await.is_ok() {
            while let Some(Ok(message)) = messages.next().await {
                if matches!(message, AggregatedMessage::Close(_)) {
                    break;
                }
            }
        }
    };
    let _ = timeout(CLOSE_TIME, closed).await;
}

/// Why a socket is closed by us; `None` when the client has left.
type Closing = Option<(CloseCode, &'static str)>;

struct Subscriber {
    state: State,
    outgoing: Outgoing,
    /// The newest event that was sent.
    cursor: Micros,
    /// Evictions up to here happened before the socket was opened.
    evicted_before: Micros,
}

impl Subscriber {
    async fn run(&mut self, messages: &mut AggregatedMessageStream) -> Closing {
        let state = self.state.clone();
        loop {
            let next = state.bash.next_event();
            tokio::pin!(next);
            next.as_mut().enable();
            if let Err(closing) = self.send_new().await {
                return closing;
            }
            let message = tokio::select! {
                () = next => continue,
                () = state.stopping.cancelled() => return Some((CloseCode::Restart, "the agent is stopping")),
                message = messages.next() => message,
            };
            match message {
                Some(Ok(message)) => {
                    if let Err(closing) = self.take(message).await {
                        return closing;
                    }
                }
                Some(Err(_)) => return Some((CloseCode::Protocol, "cannot read the frame")),
                None => return None,
            }
        }
    }

    /// Sends the events that are new since the last time. Between batches the socket's own frames get their turn.
    async fn send_new(&mut self) -> Result<(), Closing> {
        loop {
            let (_, evicted) = self.state.bash.position();
            if evicted > self.cursor.max(self.evicted_before) {
                return Err(Some((CloseCode::Again, "too slow: events were evicted before they could be sent")));
            }
            let from = Some(self.cursor.saturating_add(1));
            let page = self.state.bash.search(&Search { from, limit: BATCH, ..Search::default() });
            if page.events.is_empty() {
                return Ok(());
            }
            for event in &page.events {
                in_time(self.state.subscriber_stall, self.outgoing.event(event)).await?;
                self.cursor = event.at();
            }
        }
    }

    async fn send(&mut self, text: &str) -> Result<(), Closing> {
        in_time(self.state.subscriber_stall, self.outgoing.text(text)).await
    }

    async fn take(&mut self, message: AggregatedMessage) -> Result<(), Closing> {
        match message {
            AggregatedMessage::Text(text) => self.take_text(&text).await,
            AggregatedMessage::Binary(_) => self.send(&error_json("KeyError", "'text'")).await,
            AggregatedMessage::Ping(bytes) => in_time(self.state.subscriber_stall, self.outgoing.pong(bytes)).await,
            AggregatedMessage::Pong(_) => Ok(()),
            AggregatedMessage::Close(reason) => Err(Some((reason.map_or(CloseCode::Normal, |reason| reason.code), ""))),
        }
    }

    async fn take_text(&mut self, text: &str) -> Result<(), Closing> {
        if is_late_auth(text) {
            return Ok(());
        }
        let problem = match request::from_frame(text) {
            Err(problem) => problem,
            Ok(start) => match self.state.bash.start(start, None) {
                Ok(_) => return Ok(()),
                Err(Refused::TooMany(most)) => {
                    ("RuntimeError", format!("{most} commands are running, which is the limit"))
                }
                Err(Refused::Closed) => ("RuntimeError", "Bash event service is closed".to_owned()),
            },
        };
        self.send(&error_json(problem.0, &problem.1)).await
    }
}

/// Waits until a message was sent, and says how to close when it was not.
async fn in_time(stall: Duration, sent: impl Future<Output = Result<(), Unsent>>) -> Result<(), Closing> {
    match timeout(stall, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Unsent::Gone)) => Err(None),
        Ok(Err(Unsent::Unreadable)) => Err(Some((CloseCode::Error, "cannot read the stored output"))),
        Err(_) => Err(Some((CloseCode::Again, "too slow: a frame was not accepted in time"))),
    }
}

/// Whether a frame is a key that came after the socket was let in.
fn is_late_auth(text: &str) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return false };
    fields.get("type").and_then(Value::as_str) == Some("auth")
        && fields.keys().all(|name| name == "type" || name == "session_api_key")
}
