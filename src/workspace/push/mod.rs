//! Output that a server tells of by itself, over its event socket, while a command runs for long.
//!
//! The socket is another source of the same news: what comes is handed to the children as the pages of a search are, and
//! searches go on, ever more seldom, to make sure. So a socket that breaks, or says nothing, delays and loses nothing.

mod session;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    panic::AssertUnwindSafe,
    rc::Rc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{backoff::doubled, core::Core, supervision::panic_text};
use crate::{ErrorKind, Failure};

/// How long a command has run before a socket is opened on its account. Most have ended by then, and what it costs is made up for by
/// the next eight looks that it saves.
pub(crate) const LONG: Duration = Duration::from_millis(100);

/// How long it takes at least until a socket is tried again that was lost.
const FIRST_REST: Duration = Duration::from_secs(1);
/// The same at most, and at once for a server that has no place for another subscriber.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A socket that was open for so long did not fail for the reason of the one before.
const STABLE: Duration = Duration::from_secs(60);

/// Whether the output of commands that run for long is pushed by their server, over its event socket, or searched for.
///
/// A workspace holds one socket while such commands run. Where the server refuses it, and while it is away, output is
/// searched for as ever. Results are the same either way; with pushing they come sooner, and cost fewer requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Push {
    /// Where the server announces that it pushes output as it comes and that a slow subscriber holds up nobody
    /// (capability `bash_event_push_v1`), as the embedded agent server does.
    #[default]
    Auto,
    /// On any server. OpenHands agent servers push output when a megabyte has come together or the command ends, and a
    /// subscriber that is stopped (by SIGSTOP, say) freezes all commands of its server until it goes on or ends.
    Always,
    /// Never.
    Never,
}

/// How the event socket of a workspace stands.
#[derive(Default)]
pub(crate) struct Pushing {
    /// Whether the server announces that pushing does it no harm. Absent until it has been asked.
    announced: Cell<Option<bool>>,
    /// Whether the server, as it is reached now, has said no.
    refused: Cell<bool>,
    /// Whether no socket may be open, since this process is about to be stopped.
    suspended: Cell<bool>,
    /// Whether a session goes on, be its socket open already or not.
    running: Cell<bool>,
    live_since: Cell<Option<Instant>>,
    failures: Cell<u32>,
    retry_at: Cell<Option<Instant>>,
    /// Told when `suspended` is set.
    suspending: Notify,
    /// Told when a session has ended.
    ended: Notify,
}

impl Pushing {
    /// Takes in what the server says of itself.
    pub(crate) fn announce(&self, announced: bool) {
        self.announced.set(Some(announced));
    }

    /// Whether it is for the server to say whether it pushes, and it was not asked yet.
    pub(crate) fn is_unknown(&self, push: Push) -> bool {
        push == Push::Auto && self.announced.get().is_none()
    }

    /// The server is reached in another way, and may be another.
    pub(crate) fn new_link(&self) {
        self.announced.set(None);
        self.refused.set(false);
        self.failures.set(0);
        self.retry_at.set(None);
    }

    /// How long the socket has been open, if it is.
    pub(crate) fn live_for(&self) -> Option<Duration> {
        Some(self.live_since.get()?.elapsed())
    }

    /// Closes the socket and opens none, or lets it be open again: the next look at a command that runs for long opens it.
    pub(crate) fn set_suspended(&self, suspended: bool) {
        self.suspended.set(suspended);
        self.suspending.notify_waiters();
    }

    /// Waits until no session goes on, and so no socket is open.
    pub(crate) async fn closed(&self) {
        loop {
            let ended = self.ended.notified();
            if !self.running.get() {
                return;
            }
            ended.await;
        }
    }

    async fn suspended(&self) {
        loop {
            let suspending = self.suspending.notified();
            if self.suspended.get() {
                return;
            }
            suspending.await;
        }
    }

    fn may_begin(&self, push: Push, now: Instant) -> bool {
        let wanted = match push {
            Push::Auto => self.announced.get() == Some(true),
            Push::Always => true,
            Push::Never => false,
        };
        let rested = self.retry_at.get().is_none_or(|at| at <= now);
        wanted && rested && !(self.running.get() || self.suspended.get() || self.refused.get())
    }

    /// Takes in how a session failed, and decides when to try again. `jitter` is between 0 and 1: the subscribers of a gateway
    /// that went away must not all come back at once.
    fn failed(&self, failure: &Failure, lived: Duration, now: Instant, jitter: f64) {
        let failures = if lived >= STABLE { 0 } else { self.failures.get() };
        self.failures.set(failures.saturating_add(1));
        let rest = match &failure.kind {
            // Another try under the same address and key would end no better.
            ErrorKind::Unauthorized { .. } | ErrorKind::NotFound { .. } | ErrorKind::InvalidInput { .. } => {
                self.refused.set(true);
                LONGEST_REST
            }
            ErrorKind::ServerError { status: 1013, .. } => LONGEST_REST,
            _ => doubled(FIRST_REST, LONGEST_REST, failures),
        };
        self.retry_at.set(Some(now + rest.mul_f64(0.75 + jitter / 4.0)));
    }
}

/// Opens the socket if it is wanted and not open. For a command that has run for [`LONG`].
pub(crate) fn begin(core: &Rc<Core>) {
    if core.pushing.may_begin(core.config.push, Instant::now()) {
        core.pushing.running.set(true);
        actix_rt::spawn(session(core.clone()));
    }
}

/// Holds one socket to its end. A panic is a failure as any other, or sessions would follow each other without rest.
async fn session(core: Rc<Core>) {
    let ended = AssertUnwindSafe(session::run(core.clone())).catch_unwind().await;
    let Err(payload) = ended else { return };
    let reason = format!("the reading of the event socket panicked: {}", panic_text(&*payload));
    log::error!("{}: {reason}", core.config.name);
    core.record.failed(reason.clone());
    let failure = Failure::not_sent(ErrorKind::Panicked { reason });
    core.pushing.failed(&failure, Duration::ZERO, Instant::now(), fastrand::f64());
}
