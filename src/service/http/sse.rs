use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, http::header::CACHE_CONTROL, web};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use prometheus_client::metrics::gauge::Gauge;

use super::{Problem, ProblemKind};
use crate::service::{
    server::Shared,
    store::{Frame, FrameKind, Log},
};

/// How much is sent at once to one reader.
const PIECE: usize = 64 << 10;

/// How often something is sent when nothing happens, so that whatever is in between does not close the connection.
const ALIVE: Duration = Duration::from_secs(15);

/// Sends a log as server-sent events, from where the reader was, to its end and as it grows. The id of an event is the
/// position behind it. A reader that does not take them costs its connection and nothing else: they are read from the log
/// when it is ready for more.
pub(crate) fn follow_log(
    request: &HttpRequest,
    log: Arc<Log>,
    last: impl FnOnce() -> Option<Bytes> + 'static,
) -> Result<HttpResponse, Problem> {
    let from = position(request)?;
    // A position that is none is told now, and not in the middle.
    log.read(from, 1).map_err(|error| Problem::new(ProblemKind::InvalidRequest, error.to_string()))?;
    let shared = request.app_data::<web::Data<Shared>>();
    let closing = shared.map(|shared| shared.closing.clone()).unwrap_or_default();
    let reader = shared.map(|shared| Reader::new(&shared.metrics.readers));
    let events = stream::unfold(Some((log, from, Some(last))), move |state| {
        let (closing, _reader) = (closing.clone(), &reader);
        async move {
            let (log, at, last) = state?;
            let news = tokio::select! {
                news = tokio::time::timeout(ALIVE, log.wait(at)) => news,
                // Whoever reads comes back, to the next service if there is one, and goes on where this one ended.
                () = closing.cancelled() => return None,
            };
            match news {
                Err(_) => return Some((Ok::<_, std::io::Error>(Bytes::from_static(b": \n\n")), Some((log, at, last)))),
                Ok(()) if log.is_over(at) => {
                    let end = last.and_then(|last| last()).unwrap_or_default();
                    return Some((Ok(event(at, "end", &end)), None));
                }
                Ok(()) => {}
            }
            match log.read(at, PIECE) {
                Ok(frames) => {
                    let at = frames.last().map_or(at, |frame| frame.end);
                    Some((Ok(render(&frames)), Some((log, at, last))))
                }
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(events)))
}

/// Somebody who reads, as long as it is there.
pub(crate) struct Reader(Gauge);

impl Reader {
    pub(crate) fn new(readers: &Gauge) -> Self {
        readers.inc();
        Self(readers.clone())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Where a reader was: `Last-Event-ID`, which browsers send when they come back, or `from` in the query.
fn position(request: &HttpRequest) -> Result<u64, Problem> {
    let header = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let query = request.query_string().split('&').find_map(|pair| pair.strip_prefix("from="));
    match header.or(query) {
        None => Ok(0),
        Some(text) => text.parse().map_err(|_| {
            Problem::new(ProblemKind::InvalidRequest, format!("`{}` is no position", text.escape_debug()))
        }),
    }
}

fn render(frames: &[Frame]) -> Bytes {
    let mut bytes = BytesMut::new();
    for frame in frames {
        match frame.kind {
            FrameKind::Stdout => put(&mut bytes, frame.end, "stdout", &text(&frame.payload)),
            FrameKind::Stderr => put(&mut bytes, frame.end, "stderr", &text(&frame.payload)),
            FrameKind::Cut => put(&mut bytes, frame.end, "truncated", b"null"),
            FrameKind::Event | FrameKind::Result => put(&mut bytes, frame.end, "event", &frame.payload),
        }
    }
    bytes.freeze()
}

/// Output as a JSON text: it may have any line break in it, and the data of an event none.
fn text(payload: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&String::from_utf8_lossy(payload)).unwrap_or_default()
}

fn event(id: u64, name: &str, data: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    put(&mut bytes, id, name, data);
    bytes.freeze()
}

fn put(bytes: &mut BytesMut, id: u64, name: &str, data: &[u8]) {
    bytes.put_slice(format!("id: {id}\nevent: {name}\ndata: ").as_bytes());
    bytes.put_slice(data);
    bytes.put_slice(b"\n\n");
}
