use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{
    HttpResponse,
    body::SizedStream,
    http::{
        Method, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap},
    },
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};

use super::{
    Request,
    answer::Refusal,
    headers,
    hide::{Hider, hidden},
    pieces::{Broken, Pieces},
    ways::{self, Lent, UnderWay},
};
use crate::{
    ErrorKind, Failure,
    client::{AnswerBody, Passed, PassedAnswer, PassedBody},
};

/// How long the head of an answer may take: a conversation may be thought about for long.
const WAIT: Duration = Duration::from_secs(3600);

/// The waits before a request that does no harm is sent again.
const AGAIN: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(300), Duration::from_secs(1)];

/// Up to this size an answer is looked into as a whole, and then says how long it is.
const WHOLE: u64 = 256 << 10;

/// The body of a request.
pub(super) enum Body {
    /// As it comes from the client.
    Streamed(Pieces),
    /// The beginning was read already, and the rest comes from the client.
    Begun(Bytes, Pieces),
    /// It was read already.
    Whole(Bytes),
}

/// Passes a request on, and its answer back.
pub(super) async fn pass(request: &Request, body: Body) -> Result<HttpResponse, Refusal> {
    let lent = ways::client(&request.workspace).await?;
    let answer = ask(request, &lent, body).await?;
    answered(request, answer, lent).await
}

/// Passes a request on and returns what the workspace answers.
pub(super) async fn ask(request: &Request, lent: &Lent, body: Body) -> Result<PassedAnswer, Refusal> {
    let http = &request.http;
    let size = headers::announced(http);
    let mut broken = Broken::default();
    let body = match body {
        Body::Whole(bytes) => PassedBody::Whole(bytes),
        Body::Streamed(_) if size == Some(0) => PassedBody::None,
        Body::Begun(begun, pieces) => {
            let (rest, noted) = pieces.passed();
            broken = noted;
            PassedBody::Stream { size, pieces: stream::iter([Ok(begun)]).chain(rest).boxed_local() }
        }
        Body::Streamed(pieces) => {
            let (pieces, noted) = pieces.passed();
            broken = noted;
            PassedBody::Stream { size, pieces }
        }
    };
    let passed_headers = headers::of_request(http, &request.route, &lent.way);
    let only_reads =
        matches!(body, PassedBody::None) && matches!(*http.method(), Method::GET | Method::HEAD) && is_data(request);
    let mut waits = AGAIN.iter().filter(|_| only_reads);
    let mut body = Some(body);
    loop {
        let (below, path) = request.route.target();
        let passed = Passed {
            method: http.method().clone(),
            below,
            path,
            headers: passed_headers.clone(),
            body: body.take().unwrap_or(PassedBody::None),
            wait: WAIT,
        };
        let answer = lent.client.pass(passed).await;
        match waits.next() {
            Some(wait) if may_pass(&answer) => tokio::time::sleep(wait.mul_f64(1.0 + fastrand::f64() / 4.0)).await,
            // What was wrong with the request says more than that it could not be passed on.
            _ => return answer.map_err(|failure| broken.take().unwrap_or_else(|| failure.into())),
        }
    }
}

/// Whether a path is one of data. Those of health say how the server does now, whatever that is.
fn is_data(request: &Request) -> bool {
    request.route.target().0 == crate::client::Below::Api
}

/// Whether a request that does no harm may go better a moment later.
fn may_pass(answer: &Result<PassedAnswer, Failure>) -> bool {
    match answer {
        Ok(answer) => matches!(
            answer.status,
            StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
        ),
        Err(failure) => matches!(failure.kind, ErrorKind::Unreachable { .. }),
    }
}

/// The answer of a workspace as the client gets it.
pub(super) async fn answered(request: &Request, answer: PassedAnswer, lent: Lent) -> Result<HttpResponse, Refusal> {
    let Lent { way, under_way, .. } = lent;
    let headers = headers::of_answer(&answer.headers, &request.http, &request.route, &way);
    let mut response = HttpResponse::build(answer.status);
    if let Some(reason) = reason(answer.status) {
        response.reason(reason);
    }
    for (name, value) in &headers {
        response.append_header((name.clone(), value.clone()));
    }
    if *request.http.method() == Method::HEAD {
        let size = answer.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        return Ok(response.body(SizedStream::new(size.unwrap_or(0), stream::empty::<Result<Bytes, Failure>>())));
    }
    let size = answer.body.size();
    if !(request.route.tells_commands() && is_json(&answer.headers)) {
        let body = Kept { body: answer.body, _under_way: under_way };
        return Ok(match size {
            Some(size) => response.body(SizedStream::new(size, body)),
            None => response.streaming(body),
        });
    }
    if size.is_some_and(|size| size <= WHOLE) {
        return Ok(response.body(hidden(&whole(answer.body).await?)));
    }
    let body = Kept { body: answer.body, _under_way: under_way };
    Ok(response.streaming(hiding(body)))
}

/// What a status is called today, where it had another name before. What the server called it is not known any more.
fn reason(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => Some("Content Too Large"),
        StatusCode::UNPROCESSABLE_ENTITY => Some("Unprocessable Content"),
        _ => None,
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.contains("json"))
}

async fn whole(mut body: AnswerBody) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

/// The same text without the runtime's heads.
fn hiding(body: Kept) -> impl Stream<Item = Result<Bytes, Failure>> {
    stream::unfold(Some((body, Hider::default())), async |state| {
        let (mut body, mut hider) = state?;
        Some(match body.next().await {
            Some(Ok(piece)) => (Ok(hider.take(&piece)), Some((body, hider))),
            Some(Err(failure)) => (Err(failure), None),
            None => (Ok(hider.finish()), None),
        })
    })
    // An empty piece would be the end for whoever reads chunks.
    .filter(|piece| std::future::ready(!matches!(piece, Ok(bytes) if bytes.is_empty())))
    .boxed_local()
}

/// The body of an answer, which is under way until it is dropped.
struct Kept {
    body: AnswerBody,
    _under_way: UnderWay,
}

impl Stream for Kept {
    type Item = Result<Bytes, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = ready!(self.body.poll_next_unpin(cx));
        if let Some(Err(failure)) = &piece {
            // The client sees that its answer broke off, and not why.
            log::info!("an answer that was passed on broke off: {}", failure.kind);
        }
        Poll::Ready(piece)
    }
}
