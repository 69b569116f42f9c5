//! Requests that may be lost, as a service is killed under them.

use std::time::{Duration, Instant};

use awc::http::StatusCode;
use futures::StreamExt as _;
use serde_json::Value;

/// How long something is tried again.
const PATIENCE: Duration = Duration::from_secs(300);

const PAUSE: Duration = Duration::from_millis(20);

/// Sends a request with an `Idempotency-Key` once.
pub(crate) async fn post_once(url: &str, key: &str, body: &Value) -> Result<(StatusCode, Value), String> {
    let client = awc::Client::builder().timeout(Duration::from_secs(60)).finish();
    let request = client.post(url).insert_header(("idempotency-key", key));
    let mut answer = request.send_json(body).await.map_err(|error| error.to_string())?;
    let body = answer.body().limit(16 << 20).await.map_err(|error| error.to_string())?;
    Ok((answer.status(), serde_json::from_slice(&body).map_err(|error| error.to_string())?))
}

/// Sends a request with a key until it is answered, as somebody does who does not know whether it arrived.
pub(crate) async fn post_until_answered(url: &str, key: &str, body: &Value) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        match post_once(url, key, body).await {
            Ok((status, answer)) if status.is_success() => return answer,
            Ok((StatusCode::SERVICE_UNAVAILABLE, _)) | Err(_) => {}
            Ok((status, answer)) => panic!("{url}: {status} {answer}"),
        }
        assert!(Instant::now() < until, "{url} is not answered");
        actix_rt::time::sleep(PAUSE).await;
    }
}

/// A server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// Follows server-sent events to their end, over as many connections as it takes, each from where the one before it was.
pub(crate) async fn follow(url: &str) -> Vec<Event> {
    let until = Instant::now() + PATIENCE;
    let mut events: Vec<Event> = Vec::new();
    loop {
        let client = awc::Client::builder().disable_timeout().finish();
        let mut request = client.get(url);
        if let Some(last) = events.last() {
            request = request.insert_header(("last-event-id", last.id.to_string()));
        }
        if let Ok(mut answer) = request.send().await {
            assert!(answer.status().is_success(), "{url}: {} after {:?}", answer.status(), events.last());
            let mut text = Vec::new();
            while let Some(Ok(piece)) = answer.next().await {
                text.extend_from_slice(&piece);
                take_whole(&mut text, &mut events);
            }
            if events.last().is_some_and(|event| event.name == "end") {
                return events;
            }
        }
        assert!(Instant::now() < until, "{url} does not come to its end: {:?}", events.last());
        actix_rt::time::sleep(PAUSE).await;
    }
}

/// Takes the events out that are whole.
fn take_whole(text: &mut Vec<u8>, events: &mut Vec<Event>) {
    while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
        let block = String::from_utf8(text.drain(..end + 2).collect()).unwrap();
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let (Some(id), Some(name), Some(data)) = (field("id: "), field("event: "), field("data: ")) else { continue };
        events.push(Event { id: id.parse().unwrap(), name, data: serde_json::from_str(&data).unwrap_or(Value::Null) });
    }
}

/// What was told of one stream.
pub(crate) fn text_of(events: &[Event], stream: &str) -> String {
    let of_stream = events.iter().filter(|event| event.name == stream);
    of_stream.map(|event| event.data.as_str().unwrap()).collect()
}

/// Waits until a resource is in this state, also over the service's end.
pub(crate) async fn until_state(url: &str, state: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let client = awc::Client::builder().timeout(Duration::from_secs(60)).finish();
        let found: Option<Value> = match client.get(url).send().await {
            Ok(mut answer) => answer.json().limit(64 << 20).await.ok(),
            Err(_) => None,
        };
        if let Some(found) = found.as_ref().filter(|found| found["state"] == state) {
            return found.clone();
        }
        assert!(Instant::now() < until, "{url} does not get {state}: {found:?}");
        actix_rt::time::sleep(PAUSE).await;
    }
}
