//! Sends a request and waits for its answer, within bounds.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use awc::{
    ClientResponse,
    body::{BodySize, MessageBody},
    error::SendRequestError,
    http::{
        Method, StatusCode, Uri,
        header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
    },
};
use bytes::Bytes;
use log::debug;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::{
    agent_client::AgentClient,
    body::{self, Bounds, header},
    broken::{self, Broken},
    limits::bounded,
    pool::Lent,
    status::{self, Refusal},
    target::Target,
    trace,
    turns::turn_for,
    watch::Watch,
};
use crate::{Effect, ErrorKind, Failure};

/// A request.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) json: Option<Bytes>,
    pub(super) header: Vec<(HeaderName, HeaderValue)>,
    /// How long the head of the answer may take.
    pub(super) wait: Duration,
    /// Whether it takes a place among the transfers, not among the polls.
    pub(super) long: bool,
    /// How large a JSON answer may be, where it has no reason to be as large as the client's limits allow.
    pub(super) most: usize,
}

/// The most bytes of an answer that says little. The longest that does repeats a command, each byte of it escaped.
pub(super) const SMALL: usize = 4 << 20;

impl Call {
    pub(super) fn get(client: &AgentClient, target: Target) -> Self {
        Self::new(client, Method::GET, target)
    }

    pub(super) fn post(client: &AgentClient, target: Target) -> Self {
        Self::new(client, Method::POST, target)
    }

    pub(super) fn new(client: &AgentClient, method: Method, target: Target) -> Self {
        let wait = client.limits().answer_timeout;
        Self { method, target, json: None, header: Vec::new(), wait, long: false, most: usize::MAX }
    }

    pub(super) fn json(mut self, body: impl Into<Bytes>) -> Self {
        self.json = Some(body.into());
        self.header.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header.push((name, value));
        self
    }

    pub(super) fn long(mut self, wait: Duration) -> Self {
        self.wait = bounded(wait);
        self.long = true;
        self
    }

    /// Says that the answer is a small one.
    pub(super) const fn small(mut self) -> Self {
        self.most = SMALL;
        self
    }

    /// The request in messages: method and route.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

impl AgentClient {
    /// The answer to a request, read as JSON.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, Failure> {
        let (name, most) = (call.name(), call.most);
        let mut answer = self.answer(call).await?;
        let bounds = Bounds::json(self.limits()).at_most(most);
        self.read_json(&mut answer, bounds, &name).await
    }

    /// The body of an answer to `what`, in memory that may have had another one. A failure has none of what the server repeats of
    /// the secrets.
    pub(super) async fn read_body(
        &self,
        memory: Vec<u8>,
        answer: &mut ClientResponse,
        bounds: Bounds,
        what: &str,
    ) -> Result<Vec<u8>, Failure> {
        body::read(memory, answer, bounds, what).await.map_err(|failure| self.secrets().hide(failure))
    }

    /// The body of an answer to `what`, read as JSON. A failure has none of what the server repeats of the secrets.
    pub(super) async fn read_json<T: DeserializeOwned>(
        &self,
        answer: &mut ClientResponse,
        bounds: Bounds,
        what: &str,
    ) -> Result<T, Failure> {
        let body = self.read_body(Vec::new(), answer, bounds, what).await?;
        turn_for(body.len()).await;
        self.secrets().reading(&body, |body| body::parse(body, answer.headers(), what))
    }

    /// The answer to a request, once its head has come and says that it went well.
    pub(super) async fn answer(&self, call: Call) -> Result<ClientResponse, Failure> {
        let (mut answer, _) = self.exchange(&call).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.refusal(&mut answer).await)
    }

    /// The failure that an answer tells of.
    pub(super) async fn refusal(&self, answer: &mut ClientResponse) -> Failure {
        let body = body::read_error(answer, Bounds::error(self.limits())).await;
        self.refusal_with(answer, &body)
    }

    /// The failure that an answer tells of, its body already read.
    pub(super) fn refusal_with(&self, answer: &ClientResponse, body: &[u8]) -> Failure {
        let (headers, secrets) = (answer.headers(), self.secrets());
        // What answers may repeat what it was asked with.
        let failure = status::failure(&Refusal {
            status: answer.status().as_u16(),
            retry_after: header(headers, RETRY_AFTER),
            location: header(headers, LOCATION).map(|text| secrets.without(text)).as_deref(),
            content_type: header(headers, CONTENT_TYPE).map(|text| secrets.without(text)).as_deref(),
            body: &secrets.without_in(body),
        });
        let failure = secrets.hide(failure);
        if matches!(answer.status(), StatusCode::NOT_FOUND | StatusCode::GONE) {
            self.tell(|observer| observer.failed(&failure));
        }
        failure
    }

    /// Sends a request and waits for the head of its answer, whatever it says.
    ///
    /// A GET whose connection ended is sent once more over a new one, since the first was likely a pooled one that the
    /// server had just closed. Nothing else is ever sent twice.
    pub(super) async fn exchange(&self, call: &Call) -> Result<(ClientResponse, Rc<Watch>), Failure> {
        let mut lent = self.lend(call.long);
        let mut result = self.attempt(call, &lent).await;
        if let Err(broken) = &result
            && broken.was_cut
            && call.method == Method::GET
        {
            debug!("{}: {}; once more over a new connection", call.name(), broken.failure);
            self.tell(|observer| observer.was_cut());
            lent = self.fresh();
            result = self.attempt(call, &lent).await;
        }
        match &result {
            Ok(answer) => {
                debug!("{}: {}", call.name(), answer.status());
                note(answer.status(), &lent.watch);
                self.tell_answered(answer.status());
            }
            Err(broken) => {
                debug!("{}: {}", call.name(), broken.failure);
                self.tell(|observer| observer.failed(&broken.failure));
            }
        }
        result.map(|answer| (answer, lent.watch)).map_err(|broken| broken.failure)
    }

    async fn attempt(&self, call: &Call, lent: &Lent) -> Result<ClientResponse, Broken> {
        let begun = Rc::new(Cell::new(false));
        let sending = {
            let mut request = lent.client.request(call.method.clone(), uri(&call.target)?);
            for header in call.header.iter().cloned().chain(trace::current()) {
                request = request.insert_header(header);
            }
            match &call.json {
                Some(json) => request.send_body(Tracked { bytes: json.clone(), begun: Rc::clone(&begun) }),
                None => request.send(),
            }
        };
        let untouched = call.json.is_some().then_some(&*begun);
        match wait(sending, &lent.watch, call.wait, self.limits().connect_timeout).await {
            Some(result) => result.map_err(|error| lent.watch.explain(broken::judge(error))),
            None => Err(late(&call.name(), call.wait, untouched.is_some_and(|begun| !begun.get()))),
        }
    }
}

/// Notes that a connection is not to be used again: an agent server that fails answers and then resets its connection.
/// A start that met the reset would be one of which nobody knows whether it ran. After an interim answer, which nobody asked
/// for, the real one may come, and must not be taken for that to the next request.
pub(super) fn note(status: StatusCode, watch: &Watch) {
    if status.is_server_error() || status.is_informational() {
        watch.taint();
    }
}

/// The URI of a target.
pub(super) fn uri(target: &Target) -> Result<Uri, Broken> {
    Uri::try_from(target.uri()).map_err(|error| Broken {
        failure: Failure::invalid(format!("{target} cannot be asked for: {error}")),
        was_cut: false,
    })
}

/// A request whose answer did not come in time.
pub(super) fn late(name: &str, limit: Duration, unsent: bool) -> Broken {
    let kind = ErrorKind::Deadline { waiting_for: format!("waiting for the answer to {name}"), limit };
    let effect = if unsent { Effect::NotSent } else { Effect::MaybeSent };
    Broken { failure: Failure { kind, effect }, was_cut: false }
}

/// Waits for an answer. The time in which a connection is made is not counted, since it has a bound of its own.
pub(super) async fn wait<F>(sending: F, watch: &Watch, limit: Duration, connecting: Duration) -> Option<F::Output>
where
    F: Future<Output = Result<ClientResponse, SendRequestError>>,
{
    let mut sending = pin!(sending);
    let start = Instant::now();
    let last = start + limit + connecting;
    let mut deadline = start + limit;
    loop {
        if let Ok(result) = timeout_at(deadline.min(last), sending.as_mut()).await {
            return Some(result);
        }
        let now = Instant::now();
        deadline = if watch.is_dialing() { now + limit } else { watch.last_dialed()? + limit };
        if deadline <= now || now >= last {
            return None;
        }
    }
}

/// A body that knows whether any of it was taken. awc takes it only when it has a connection.
struct Tracked {
    bytes: Bytes,
    begun: Rc<Cell<bool>>,
}

impl MessageBody for Tracked {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        self.begun.set(true);
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
    }
}
