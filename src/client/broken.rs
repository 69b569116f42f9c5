//! What a request that got no answer means.

use std::io;

use actix_http::error::ParseError;
use awc::error::{ConnectError, PayloadError, SendRequestError};

use super::dialer::DialError;
use crate::{ErrorKind, Failure};

/// A request that got no answer.
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// Whether the connection may just have been a pooled one that the server had closed.
    pub(super) was_cut: bool,
}

/// What awc's error means.
///
/// `Connect(_)` does not say that nothing was sent: `Disconnected` is a connection that ended before the answer.
pub(super) fn judge(error: SendRequestError) -> Broken {
    match error {
        SendRequestError::Connect(ConnectError::Disconnected) => cut("the connection was closed before an answer"),
        SendRequestError::Connect(ConnectError::Io(error)) => whole(not_connected(&error)),
        SendRequestError::Connect(ConnectError::Timeout) => whole(unreachable("the connection was not made in time")),
        SendRequestError::Connect(error) => whole(unreachable(&error.to_string())),
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => {
            cut(&format!("the connection broke before an answer: {error}"))
        }
        SendRequestError::Response(error) => whole(Failure::protocol(format!("the answer is not HTTP: {error}"))),
        SendRequestError::Url(error) => whole(Failure::invalid(format!("the request's address: {error}"))),
        SendRequestError::Http(error) => whole(Failure::invalid(format!("the request cannot be sent: {error}"))),
        SendRequestError::Timeout => cut("the answer did not come in time"),
        SendRequestError::Body(error) => cut(&format!("the request was not sent to its end: {error}")),
        error => cut(&error.to_string()),
    }
}

/// What a body that broke off means.
pub(super) fn body(error: &PayloadError) -> Failure {
    let what = match error {
        PayloadError::Io(error) | PayloadError::Incomplete(Some(error)) => error.to_string(),
        PayloadError::Incomplete(None) => "it is not complete".to_owned(),
        error => error.to_string(),
    };
    Failure::cut_short(format!("the answer broke off: {what}"))
}

fn not_connected(error: &io::Error) -> Failure {
    DialError::unwrap(error).unwrap_or_else(|| unreachable(&error.to_string()))
}

fn unreachable(reason: &str) -> Failure {
    Failure::not_sent(ErrorKind::Unreachable { reason: reason.to_owned() })
}

const fn whole(failure: Failure) -> Broken {
    Broken { failure, was_cut: false }
}

fn cut(reason: &str) -> Broken {
    Broken { failure: Failure::maybe_sent(ErrorKind::Unreachable { reason: reason.to_owned() }), was_cut: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Effect;

    #[test]
    fn a_connection_that_ended_is_not_one_that_was_never_made() {
        let ended = judge(SendRequestError::Connect(ConnectError::Disconnected));
        assert!(ended.was_cut);
        assert_eq!(ended.failure.effect, Effect::MaybeSent);
        let never = judge(SendRequestError::Connect(ConnectError::Timeout));
        assert!(!never.was_cut);
        assert_eq!(never.failure.effect, Effect::NotSent);
        let garbage = judge(SendRequestError::Response(ParseError::Version));
        assert_eq!((garbage.failure.kind.name(), garbage.failure.effect), ("protocol", Effect::MaybeSent));
    }
}
