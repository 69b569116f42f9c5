use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{HttpRequest, error::PayloadError, http::StatusCode, web};
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Sleep, sleep};

use super::{ApiError, ApiResult, Fault, json_error::json_invalid};
use crate::agent::{keys::Authorized, state::AgentState};

/// A request body as far as it can be told before anything is expected of it.
pub(crate) enum JsonBody {
    /// There was none.
    Absent,
    /// JSON, sent as such.
    Json(Value),
    /// Something that was not sent as JSON.
    Other(String),
}

impl JsonBody {
    /// The value; 422 when there was no body. A body that was not sent as JSON is a text.
    pub(crate) fn required(self) -> ApiResult<Value> {
        match self {
            Self::Absent => Err(ApiError::invalid(vec![Fault::missing().entry(&["body"], Value::Null)])),
            Self::Json(value) => Ok(value),
            Self::Other(text) => Ok(json!(text)),
        }
    }
}

/// A request's body whose reading fails when the client sends nothing for too long.
pub(crate) struct Timed<S> {
    body: S,
    time: Duration,
    /// Whether the time is for everything and not for each piece.
    in_all: bool,
    /// Runs while a piece is waited for.
    wait: Option<Pin<Box<Sleep>>>,
    expired: bool,
}

impl<S> Timed<S> {
    /// Waits this long for each piece.
    pub(crate) fn each(body: S, time: Duration) -> Self {
        Self { body, time, in_all: false, wait: None, expired: false }
    }

    /// Waits this long for all of it, from the first wait on.
    fn in_all(body: S, time: Duration) -> Self {
        Self { in_all: true, ..Self::each(body, time) }
    }
}

impl<S: Stream<Item = Result<web::Bytes, PayloadError>> + Unpin> Stream for Timed<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.expired {
            return Poll::Ready(None);
        }
        if let Poll::Ready(piece) = Pin::new(&mut self.body).poll_next(cx) {
            if !self.in_all {
                self.wait = None;
            }
            return Poll::Ready(piece);
        }
        let time = self.time;
        ready!(self.wait.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(cx));
        self.expired = true;
        Poll::Ready(Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))))
    }
}

/// The answer to a body that cannot be read.
pub(crate) fn unreadable(error: &PayloadError) -> ApiError {
    match error {
        PayloadError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            ApiError::detail(StatusCode::REQUEST_TIMEOUT, "The request body did not arrive in time")
        }
        error => ApiError::bad_request(format!("cannot read the request body: {error}")),
    }
}

/// Reads a request's body, of a length and in a time that the agent allows.
pub(crate) async fn read_json(request: &HttpRequest, payload: web::Payload, state: &AgentState) -> ApiResult<JsonBody> {
    let limit = state.max_json_body;
    // Without a key one must not be able to hold a connection by sending a byte now and then.
    let mut payload = match Authorized::check(request) {
        Ok(_) => Timed::each(payload, state.idle_timeout),
        Err(_) => Timed::in_all(payload, state.idle_timeout),
    };
    let mut bytes = web::BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| unreadable(&error))?;
        if bytes.len() + chunk.len() > limit {
            drain(payload).await;
            let detail = format!("Request body too large: the limit is {limit} bytes");
            return Err(ApiError::detail(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        bytes.extend_from_slice(&chunk);
    }
    if bytes.is_empty() {
        return Ok(JsonBody::Absent);
    }
    let text = String::from_utf8_lossy(&bytes);
    if !is_json(request) {
        return Ok(JsonBody::Other(text.into_owned()));
    }
    match serde_json::from_str(&text) {
        Ok(value) => Ok(JsonBody::Json(value)),
        Err(error) => Err(ApiError::invalid(vec![json_invalid(&text, &error)])),
    }
}

fn is_json(request: &HttpRequest) -> bool {
    let Some(kind) = request.headers().get("content-type").and_then(|value| value.to_str().ok()) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.strip_prefix("application/").is_some_and(|sub| sub == "json" || sub.ends_with("+json"))
}

/// How much of an unwanted body is read before the answer, and for how long. A client that only writes never sees an
/// answer that comes before it has finished; one that sends more than this loses its connection.
const DRAIN_BYTES: usize = 256 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// Reads and forgets the rest of a body.
pub(crate) async fn drain<T, E>(mut payload: impl Stream<Item = Result<T, E>> + Unpin)
where
    T: AsRef<[u8]>,
{
    let read_all = async {
        let mut seen = 0;
        while let Some(Ok(chunk)) = payload.next().await {
            seen += chunk.as_ref().len();
            if seen > DRAIN_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, read_all).await;
}
