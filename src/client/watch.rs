//! What happens on the connections of one pool, told to the requests that wait for them.

use std::cell::Cell;

use tokio::time::Instant;

use super::broken::Broken;
use crate::{ErrorKind, Failure};

/// Notes of a pool's dialer and streams.
#[derive(Default)]
pub(super) struct Watch {
    dialing: Cell<usize>,
    last_dialed: Cell<Option<Instant>>,
    ends: Cell<u64>,
    tainted: Cell<bool>,
    /// Whether any of the connections was encrypted, so that what it says is not ours to guess at.
    encrypted: Cell<bool>,
    heard: Cell<Heard>,
}

/// What has come over connections that are not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Heard {
    #[default]
    Nothing,
    Something,
    /// A record of TLS.
    Tls,
}

/// How a record of TLS begins that a server sends which does not understand what it got: an alert, of any version 3.
const TLS_ALERT: [u8; 2] = [21, 3];

impl Watch {
    /// Notes what came first over a connection that is not encrypted.
    pub(super) fn heard(&self, bytes: &[u8]) {
        if self.heard.get() == Heard::Nothing && !bytes.is_empty() {
            self.heard.set(if bytes.starts_with(&TLS_ALERT) { Heard::Tls } else { Heard::Something });
        }
    }

    /// Notes that a connection is encrypted.
    pub(super) fn encrypted(&self) {
        self.encrypted.set(true);
    }

    /// Says more of why a request got no answer, where a server was spoken to without TLS that wants it.
    pub(super) fn explain(&self, mut broken: Broken) -> Broken {
        match (self.encrypted.get(), self.heard.get()) {
            (false, Heard::Tls) => Broken {
                failure: Failure::not_sent(ErrorKind::Tls {
                    reason: "the server speaks TLS; write https:// rather than http:// before its host".to_owned(),
                }),
                was_cut: false,
            },
            (false, Heard::Nothing) if broken.was_cut => {
                if let ErrorKind::Unreachable { reason } = &mut broken.failure.kind {
                    reason.push_str(" (if the server speaks TLS, write https:// before its host)");
                }
                broken
            }
            _ => broken,
        }
    }

    /// Notes that a connection is being made, until the guard is dropped.
    pub(super) fn dial(&self) -> Dialing<'_> {
        self.dialing.set(self.dialing.get() + 1);
        Dialing(self)
    }

    /// Whether a connection is being made.
    pub(super) fn is_dialing(&self) -> bool {
        self.dialing.get() > 0
    }

    /// When the last connection was made or given up.
    pub(super) fn last_dialed(&self) -> Option<Instant> {
        self.last_dialed.get()
    }

    /// Notes that a peer closed its side.
    pub(super) fn ended(&self) {
        self.ends.set(self.ends.get() + 1);
    }

    /// How often a peer closed its side.
    pub(super) fn ends(&self) -> u64 {
        self.ends.get()
    }

    /// Notes that the pool must not lend one of its connections again.
    pub(super) fn taint(&self) {
        self.tainted.set(true);
    }

    /// Whether the pool may hold a connection that it must not lend again.
    pub(super) fn is_tainted(&self) -> bool {
        self.tainted.get()
    }
}

/// A connection that is being made.
pub(super) struct Dialing<'a>(&'a Watch);

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.dialing.set(self.0.dialing.get() - 1);
        self.0.last_dialed.set(Some(Instant::now()));
    }
}
