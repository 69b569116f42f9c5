use std::time::Duration;

use actix_web::{HttpRequest, http::StatusCode, web};
use futures::{Stream, StreamExt};
use serde_json::{Value, json};

use super::{ApiError, ApiResult, Fault, json_error::json_invalid};

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

/// Reads a request's body, at most `limit` bytes of it.
pub(crate) async fn read_json(request: &HttpRequest, mut payload: web::Payload, limit: usize) -> ApiResult<JsonBody> {
    let mut bytes = web::BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| ApiError::bad_request(format!("cannot read the request body: {error}")))?;
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
