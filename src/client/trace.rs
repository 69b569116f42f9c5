//! Which piece of work a request belongs to, as its headers say.

use std::{future::Future, sync::Arc};

use awc::http::header::{HeaderName, HeaderValue};

use crate::protocol::{BAGGAGE_HEADER, TRACEPARENT_HEADER, Trace};

tokio::task_local! {
    /// The headers of the work that is being polled.
    static HEADERS: Vec<(HeaderName, HeaderValue)>;
}

/// Lets every request that this work sends say that it belongs to a trace. What the work hands to other tasks is left aside:
/// the searches that a workspace's commands share belong to none of them.
pub(crate) async fn traced<F: Future>(trace: Arc<Trace>, work: F) -> F::Output {
    HEADERS.scope(headers(&trace), work).await
}

/// Lets work that goes to another task say what this one does.
pub(crate) fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    HEADERS.scope(current(), work)
}

/// The headers for a request that is sent now.
pub(super) fn current() -> Vec<(HeaderName, HeaderValue)> {
    HEADERS.try_with(Clone::clone).unwrap_or_default()
}

fn headers(trace: &Trace) -> Vec<(HeaderName, HeaderValue)> {
    let parent = trace.traceparent().map(|parent| (TRACEPARENT_HEADER, parent.to_string()));
    let baggage = trace.baggage().map(|baggage| (BAGGAGE_HEADER, baggage));
    parent
        .into_iter()
        .chain(baggage)
        .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?)))
        .collect()
}
