//! Reads the body of an answer: whole, or not at all.

use std::time::Duration;

use awc::{
    ClientResponse,
    http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName},
};
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Deserialize;
use tokio::{
    task::coop::consume_budget,
    time::{Instant, timeout},
};

use super::{
    broken,
    excerpt::{excerpt, shown},
    limits::ClientLimits,
};
use crate::{ErrorKind, Failure};

/// The slowest that a large JSON answer may come.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// The most that is reserved on the word of a Content-Length.
const RESERVE: u64 = 4 << 20;

/// From this size on a body grows fourfold.
const GROWS_FAST: usize = 64 << 10;

/// How a body is bounded.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) bytes: usize,
    pub(super) idle: Duration,
    pub(super) total: Duration,
}

impl Bounds {
    /// The bounds of a JSON answer.
    pub(super) const fn json(limits: &ClientLimits) -> Self {
        Self { bytes: limits.max_json_bytes, idle: limits.idle_timeout, total: limits.answer_timeout }
    }

    /// The same for an answer that has no reason to be larger than this.
    pub(super) fn at_most(self, bytes: usize) -> Self {
        Self { bytes: self.bytes.min(bytes), ..self }
    }

    /// The bounds of an error's text, of which the beginning is enough.
    pub(super) const fn error(limits: &ClientLimits) -> Self {
        Self { bytes: 256 << 10, idle: limits.answer_timeout, total: limits.answer_timeout }
    }
}

/// A header of an answer as text.
pub(super) fn header(headers: &HeaderMap, name: impl Into<HeaderName>) -> Option<&str> {
    headers.get(name.into())?.to_str().ok()
}

/// The length that an answer announces.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    header(headers, CONTENT_LENGTH)?.trim().parse().ok()
}

/// Refuses an answer that was compressed. Every request says that none may be: a few bytes could become any number, and a
/// file would not be the one that was asked for.
pub(super) fn check_encoding(headers: &HeaderMap, what: &str) -> Result<(), Failure> {
    match headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("something")) {
        None | Some("identity" | "") => Ok(()),
        Some(encoding) => Err(Failure::protocol(format!(
            "the answer to {what} is compressed ({}), which was not asked for: let nothing on the way to the server do so",
            excerpt(encoding.as_bytes())
        ))),
    }
}

/// The whole body of an answer to `what`, in memory that may have had another one.
pub(super) async fn read(
    mut body: Vec<u8>,
    answer: &mut ClientResponse,
    bounds: Bounds,
    what: &str,
) -> Result<Vec<u8>, Failure> {
    check_encoding(answer.headers(), what)?;
    let announced = announced(answer.headers());
    let too_large = || too_large(what, bounds.bytes);
    if announced.is_some_and(|length| length > bounds.bytes as u64) {
        return Err(too_large());
    }
    body.clear();
    let expected = announced.unwrap_or_default().min(RESERVE) as usize;
    if body.capacity() < expected {
        body = Vec::with_capacity(expected);
    }
    let start = Instant::now();
    while let Some(chunk) = next(answer, bounds, start, body.len(), what).await? {
        if body.len() + chunk.len() > bounds.bytes {
            return Err(too_large());
        }
        grow(&mut body, chunk.len(), bounds.bytes);
        body.extend_from_slice(&chunk);
    }
    // awc reports a connection that ended early as the end of the body.
    match announced {
        Some(length) if length != body.len() as u64 => Err(truncated(what, body.len() as u64, length)),
        _ => Ok(body),
    }
}

/// Makes room for more of a body that may have `most` bytes. A large one is copied each time that it grows, so it grows by more than
/// a vector would; memory that nothing is written to is not taken.
fn grow(body: &mut Vec<u8>, more: usize, most: usize) {
    if body.len() > GROWS_FAST && body.capacity() - body.len() < more {
        body.reserve_exact(more.max((3 * body.len()).min(most - body.len())));
    }
}

/// The beginning of the body of an error, as much as came in time.
pub(super) async fn read_error(answer: &mut ClientResponse, bounds: Bounds) -> Vec<u8> {
    let mut body = Vec::new();
    let start = Instant::now();
    while let Ok(Some(chunk)) = next(answer, bounds, start, body.len(), "").await {
        body.extend_from_slice(&chunk);
        if body.len() > bounds.bytes {
            break;
        }
    }
    body.truncate(bounds.bytes);
    body
}

async fn next(
    answer: &mut ClientResponse,
    bounds: Bounds,
    start: Instant,
    got: usize,
    what: &str,
) -> Result<Option<Bytes>, Failure> {
    // Pieces may be small and many, and none of them a reason to wait: others have to have their turn all the same.
    consume_budget().await;
    let allowance = bounds.total + Duration::from_secs(got as u64 / BYTES_PER_SECOND);
    let limit = bounds.idle.min(allowance.saturating_sub(start.elapsed()));
    // A timeout alone would never come where there is always another piece, however small.
    let piece = if limit.is_zero() { None } else { timeout(limit, answer.next()).await.ok() };
    match piece {
        Some(Some(Ok(chunk))) => Ok(Some(chunk)),
        Some(Some(Err(error))) => Err(broken::body(&error)),
        Some(None) => Ok(None),
        None => Err(Failure::maybe_sent(ErrorKind::Deadline {
            waiting_for: format!("reading the answer to {what} ({got} bytes came)"),
            limit: bounds.idle.min(allowance),
        })),
    }
}

/// Reads a body as JSON, whatever its content type says.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], headers: &HeaderMap, what: &str) -> Result<T, Failure> {
    if body.is_empty() {
        return Err(Failure::protocol(format!("the answer to {what} is empty, or does not say how long it is")));
    }
    let error = match serde_json::from_slice(body) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // It may repeat what it found in place of something else, however long that is.
    let why = shown(&error.to_string());
    if error.is_data() {
        return Err(Failure::protocol(format!("the answer to {what} has not the expected form: {why}")));
    }
    let content_type = header(headers, CONTENT_TYPE).unwrap_or("no content type");
    if content_type.starts_with("application/json") {
        let reason = format!("the answer to {what} is broken JSON ({} bytes): {why}", body.len());
        // What merely ends too early may come whole another time.
        return Err(if error.is_eof() { Failure::cut_short(reason) } else { Failure::protocol(reason) });
    }
    Err(Failure::protocol(format!(
        "this is not an agent server: it answered {what} with `{}` ({})",
        excerpt(body),
        excerpt(content_type.as_bytes())
    )))
}

/// A body that ended before its announced length.
pub(super) fn truncated(what: &str, got: u64, announced: u64) -> Failure {
    Failure::cut_short(format!("the answer to {what} is cut short: {got} of {announced} bytes came"))
}

fn too_large(what: &str, limit: usize) -> Failure {
    Failure::protocol(format!("the answer to {what} is larger than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_grows_fast_and_not_beyond_its_bound() {
        let most = 40 * GROWS_FAST;
        let (mut body, mut growths) = (Vec::new(), 0);
        while body.len() < most {
            let (before, more) = (body.capacity(), 1000.min(most - body.len()));
            grow(&mut body, more, most);
            body.resize(body.len() + more, 0);
            growths += usize::from(body.capacity() != before && body.len() > 2 * GROWS_FAST);
            assert!(body.capacity() <= most.max(4 * GROWS_FAST), "{}", body.capacity());
        }
        assert!(growths <= 3, "{growths}");
    }
}
