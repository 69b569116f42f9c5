//! Passes the requests of others on to a server as they are: whatever method, path and body, with this client's key.

use std::{
    cell::Cell,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use awc::{
    ClientResponse,
    body::{BodyStream, SizedStream},
    http::{Method, StatusCode, header::HeaderMap},
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::LocalBoxStream};
use log::debug;
use tokio::time::{Instant, timeout_at};

use super::{
    agent_client::AgentClient,
    body::{announced, truncated},
    broken::{self, Broken},
    exchange::{late, note, uri},
    limits::bounded,
    pool::Lent,
    target::Target,
    watch::Watch,
};
use crate::Failure;

/// Below what of a server a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    /// The server itself.
    Root,
    /// The API prefix of the connection.
    Api,
}

/// A request that somebody else made.
pub(crate) struct Passed {
    pub(crate) method: Method,
    pub(crate) below: Below,
    /// The path from there on, with its query, as it stands on the wire.
    pub(crate) path: String,
    /// Its headers, but for those of the connection and those of this client.
    pub(crate) headers: HeaderMap,
    pub(crate) body: PassedBody,
    /// How long the head of the answer may take, once all is sent.
    pub(crate) wait: Duration,
}

/// What goes with a request.
pub(crate) enum PassedBody {
    /// Nothing.
    None,
    /// These bytes.
    Whole(Bytes),
    /// Bytes that come while they are sent, and how many they are where that is known.
    Stream { size: Option<u64>, pieces: LocalBoxStream<'static, std::io::Result<Bytes>> },
}

/// What a server answered, whatever it says.
pub(crate) struct PassedAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
}

/// The body of an answer. It ends with a failure where it is not whole.
pub(crate) struct AnswerBody {
    answer: ClientResponse,
    name: String,
    size: Option<u64>,
    got: u64,
    watch: Rc<Watch>,
    /// How many connections of the pool had ended when the last piece came.
    ends: u64,
    is_over: bool,
}

impl AgentClient {
    /// Sends a request of somebody else and waits for the head of its answer. It is sent over a new connection once more
    /// where the first was a pooled one that the server had closed, and only a GET or HEAD without a body.
    pub(crate) async fn pass(&self, request: Passed) -> Result<PassedAnswer, Failure> {
        let Passed { method, below, path, headers, body, wait } = request;
        let target = self.below(below, &path);
        let name = format!("{method} {target}");
        let once_more = matches!(body, PassedBody::None) && matches!(method, Method::GET | Method::HEAD);
        let mut lent = self.lend(true);
        let mut result = self.send_passed(&lent, &method, &target, &headers, body, wait).await;
        if once_more && result.as_ref().is_err_and(|broken| broken.was_cut) {
            lent = self.fresh();
            result = self.send_passed(&lent, &method, &target, &headers, PassedBody::None, wait).await;
        }
        let answer = result.map_err(|broken| {
            debug!("{name}: {}", broken.failure);
            self.secrets().hide(broken.failure)
        })?;
        debug!("{name}: {}", answer.status());
        note(answer.status(), &lent.watch);
        Ok(passed(answer, &method, name, lent.watch))
    }

    /// The target of a path that somebody else asks for.
    pub(super) fn below(&self, below: Below, path: &str) -> Target {
        match below {
            Below::Root => self.root(path),
            Below::Api => self.api(path),
        }
    }

    async fn send_passed(
        &self,
        lent: &Lent,
        method: &Method,
        target: &Target,
        headers: &HeaderMap,
        body: PassedBody,
        wait: Duration,
    ) -> Result<ClientResponse, Broken> {
        let mut request = lent.client.request(method.clone(), uri(target)?);
        let own = request.headers_mut();
        for name in headers.keys() {
            own.remove(name);
        }
        for (name, value) in headers {
            own.append(name.clone(), value.clone());
        }
        let is_streamed = matches!(body, PassedBody::Stream { .. });
        let sent = Rc::new(Sent { moved: Cell::new(Instant::now()), all: Cell::new(!is_streamed) });
        let sending = match body {
            PassedBody::None => request.send(),
            PassedBody::Whole(bytes) => request.send_body(bytes),
            PassedBody::Stream { size: Some(size), pieces } => {
                request.send_body(SizedStream::new(size, Sent::follow(&sent, pieces)))
            }
            PassedBody::Stream { size: None, pieces } => {
                request.send_body(BodyStream::new(Sent::follow(&sent, pieces)))
            }
        };
        let mut sending = pin!(sending);
        loop {
            let patience = if sent.all.get() { bounded(wait) } else { self.limits().idle_timeout };
            let deadline = sent.moved.get() + patience;
            match timeout_at(deadline, sending.as_mut()).await {
                Ok(result) => return result.map_err(|error| lent.watch.explain(broken::judge(error))),
                Err(_) if Instant::now() >= sent.moved.get() + patience => {
                    return Err(late(&format!("{method} {target}"), patience, false));
                }
                // It has moved on meanwhile.
                Err(_) => {}
            }
        }
    }
}

/// How far the body of a request is.
struct Sent {
    moved: Cell<Instant>,
    all: Cell<bool>,
}

impl Sent {
    fn follow(
        sent: &Rc<Self>,
        pieces: LocalBoxStream<'static, std::io::Result<Bytes>>,
    ) -> LocalBoxStream<'static, std::io::Result<Bytes>> {
        let (sent, end) = (Rc::clone(sent), Rc::clone(sent));
        let followed = pieces.inspect(move |_| sent.moved.set(Instant::now()));
        let finished = futures::stream::poll_fn(move |_| {
            end.all.set(true);
            Poll::Ready(None)
        });
        followed.chain(finished).boxed_local()
    }
}

fn passed(answer: ClientResponse, method: &Method, name: String, watch: Rc<Watch>) -> PassedAnswer {
    let status = answer.status();
    let has_none = *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let size = if has_none { None } else { announced(answer.headers()) };
    let (headers, ends) = (answer.headers().clone(), watch.ends());
    let body = AnswerBody { answer, name, size, got: 0, watch, ends, is_over: has_none };
    PassedAnswer { status, headers, body }
}

impl AnswerBody {
    /// How many bytes come, where the server says so.
    pub(crate) const fn size(&self) -> Option<u64> {
        self.size
    }

    /// What is missing at the end. awc reports a connection that ended early as the end of the body.
    fn shortfall(&self) -> Option<Failure> {
        match self.size {
            Some(size) if size != self.got => Some(truncated(&self.name, self.got, size)),
            // The last chunk says that all has come, and the connection stays. Any connection of the pool that ended in
            // just this moment may have been this one.
            None if self.watch.ends() != self.ends => {
                Some(Failure::cut_short(format!("the answer to {} is cut short after {} bytes", self.name, self.got)))
            }
            _ => None,
        }
    }
}

impl Stream for AnswerBody {
    type Item = Result<Bytes, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(self.answer.poll_next_unpin(cx));
        self.is_over = !matches!(piece, Some(Ok(_)));
        Poll::Ready(match piece {
            Some(Ok(bytes)) => {
                self.got += bytes.len() as u64;
                self.ends = self.watch.ends();
                Some(Ok(bytes))
            }
            Some(Err(error)) => Some(Err(broken::body(&error))),
            None => self.shortfall().map(Err),
        })
    }
}
