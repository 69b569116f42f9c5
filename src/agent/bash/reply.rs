use std::io;

use actix_web::{HttpResponse, http::header::ContentType, web::Bytes};
use futures::{Stream, StreamExt, stream};
use serde_json::json;

use super::{
    event::{Event, text_of},
    json_text::push_escaped,
    log::Finished,
    search::Page,
};
use crate::agent::http::{ApiError, ApiResult};

/// An answer with up to this much text is made in memory; a larger one is sent as it is made, one chunk of output at a time.
const WHOLE_BYTES: usize = 256 << 10;

pub(super) fn json(body: String) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(body)
}

/// One event.
pub(super) async fn event(event: &Event) -> ApiResult<HttpResponse> {
    event.to_json().await.map(json).map_err(unreadable)
}

/// A list of events, absent ones as null.
pub(super) async fn batch(events: Vec<Option<Event>>) -> HttpResponse {
    let size = events.iter().flatten().map(Event::len).sum();
    let items = stream::iter(events).then(async |event| match event {
        Some(event) => event.to_json().await,
        None => Ok("null".to_owned()),
    });
    send(size, listed("[", items, "]".to_owned())).await
}

/// One page of a search.
pub(super) async fn page(page: Page) -> HttpResponse {
    let size = page.events.iter().map(Event::len).sum();
    let tail = format!("],\"next_page_id\":{}}}", json!(page.next));
    let items = stream::iter(page.events).then(async |event| event.to_json().await);
    send(size, listed("{\"items\":[", items, tail)).await
}

/// A whole command as one event, its output joined.
///
/// # Errors
/// Some of the output has been evicted already: half of it would look like all of it.
pub(super) async fn joined(finished: Finished) -> ApiResult<HttpResponse> {
    let Finished { outputs, incomplete } = finished;
    let Some(last) = outputs.last().cloned() else { return Err(ApiError::not_found()) };
    if incomplete {
        let missing = (last.order as usize + 1).saturating_sub(outputs.len());
        return Err(ApiError::internal(format_args!(
            "{missing} chunks of the command's output were evicted before it ended: start it in the background and read \
             its events while it runs, or let the agent keep more"
        )));
    }
    if let [only] = outputs.as_slice() {
        return event(&Event::Output(only.clone())).await;
    }
    let size = outputs.iter().map(|output| Event::Output(output.clone()).len()).sum();
    let has = |wanted: bool| outputs.iter().any(|output| pick(output, wanted).is_some());
    let (head, between, tail) = last.json_around();
    let edges = |wanted: bool| if has(wanted) { ("\"", "\"") } else { ("null", "") };
    let pieces = |wanted: bool| {
        let chosen: Vec<_> = outputs.iter().filter(|output| pick(output, wanted).is_some()).cloned().collect();
        stream::iter(chosen)
            .then(move |output| async move { Ok(escaped(text_of(pick(&output, wanted)).await?.as_deref())) })
    };
    let literal = |text: String| stream::once(async move { Ok(text) });
    let stdout = literal(format!("{head}{}", edges(true).0)).chain(pieces(true));
    let between = literal(format!("{}{between}{}", edges(true).1, edges(false).0));
    let stderr = between.chain(pieces(false)).chain(literal(format!("{}{tail}", edges(false).1)));
    Ok(send(size, stdout.chain(stderr)).await)
}

fn pick(output: &super::event::OutputRecord, stdout: bool) -> Option<&super::body::Body> {
    if stdout { output.stdout.as_ref() } else { output.stderr.as_ref() }
}

/// A text as it stands between the quotes of a JSON string.
fn escaped(text: Option<&str>) -> String {
    let mut json = String::new();
    push_escaped(&mut json, text.unwrap_or_default());
    json
}

fn unreadable(error: io::Error) -> ApiError {
    ApiError::internal(format_args!("cannot read the stored output: {error}"))
}

/// Items with commas between them, and what comes before and after.
fn listed(
    head: &'static str,
    items: impl Stream<Item = io::Result<String>> + 'static,
    tail: String,
) -> impl Stream<Item = io::Result<String>> + 'static {
    let items = items.enumerate().flat_map(|(at, item)| {
        let comma = (at > 0).then(|| Ok(",".to_owned()));
        stream::iter(comma.into_iter().chain([item]))
    });
    let head = stream::once(async move { Ok(head.to_owned()) });
    head.chain(items).chain(stream::once(async move { Ok(tail) }))
}

/// Sends the pieces of a JSON document. A piece that cannot be made breaks the connection, so that the client cannot
/// mistake what it got for the whole.
async fn send(size: usize, pieces: impl Stream<Item = io::Result<String>> + 'static) -> HttpResponse {
    if size > WHOLE_BYTES {
        let pieces = pieces.map(|piece| piece.map(Bytes::from));
        return HttpResponse::Ok().content_type(ContentType::json()).streaming(pieces);
    }
    let mut pieces = std::pin::pin!(pieces);
    let mut whole = String::new();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => whole.push_str(&piece),
            Err(error) => return unreadable(error).into_response(),
        }
    }
    json(whole)
}
