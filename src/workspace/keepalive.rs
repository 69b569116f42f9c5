//! When a sandbox needs a sign of use, so that it is not reaped while a command runs or somebody holds it.

use std::time::{Duration, Instant};

/// Signs of use are never sent more often than this, whatever limit a server announces.
const SHORTEST: Duration = Duration::from_millis(250);

/// How a sandbox that is in use is kept from being reaped as idle.
///
/// Polling for output is no use in the eyes of an agent server. So while a command runs or the workspace is held, a
/// request that counts as use is sent in time: a read of a directory as a file, which is refused and does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Keepalive {
    /// When half the time is over that the server announces as `runtime_idle_timeout_seconds`; never where it announces
    /// none.
    #[default]
    Auto,
    /// So long after the last use, whatever the server announces. At least 250 ms.
    Every(Duration),
    /// Never.
    Off,
}

impl Keepalive {
    /// How long after the last use another is due.
    pub(crate) fn interval(self, announced: Option<Duration>) -> Option<Duration> {
        match self {
            Self::Auto => announced.map(|limit| limit / 2),
            Self::Every(interval) => Some(interval),
            Self::Off => None,
        }
        .map(|interval| interval.max(SHORTEST))
    }
}

/// What is known of a sandbox's use.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Use {
    last: Option<Instant>,
    /// The idle time after which the sandbox is reaped, where it was announced.
    pub(crate) limit: Option<Duration>,
    /// After a sign that could not be sent: when to try again.
    retry: Option<Instant>,
}

impl Use {
    /// Takes in what the server said when asked at `asked`.
    pub(crate) fn learn(&mut self, asked: Instant, idle: Duration, limit: Option<Duration>) {
        self.last = self.last.max(asked.checked_sub(idle));
        self.limit = limit;
    }

    /// A sign of use was sent.
    pub(crate) fn used(&mut self, now: Instant) {
        (self.last, self.retry) = (Some(now), None);
    }

    /// A sign of use was to be sent, and was not.
    pub(crate) fn failed(&mut self, now: Instant, keepalive: Keepalive) {
        self.retry = keepalive.interval(self.limit).map(|interval| now + (interval / 4).max(SHORTEST));
    }

    /// When the next sign is due; `None` when none is needed.
    pub(crate) fn due(&self, keepalive: Keepalive) -> Option<Instant> {
        let due = self.last?.checked_add(keepalive.interval(self.limit)?)?;
        Some(self.retry.map_or(due, |retry| due.max(retry)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn half_the_announced_time_after_the_last_use_and_never_unasked() {
        let (mut used, now) = (Use::default(), Instant::now() + 100 * S);
        assert_eq!(used.due(Keepalive::Auto), None);
        used.learn(now, 2 * S, None);
        assert_eq!(used.due(Keepalive::Auto), None);
        assert_eq!(used.due(Keepalive::Every(5 * S)), Some(now + 3 * S));
        used.learn(now, 2 * S, Some(30 * S));
        assert_eq!(used.due(Keepalive::Auto), Some(now + 13 * S));
        assert_eq!(used.due(Keepalive::Off), None);
        used.used(now + 13 * S);
        assert_eq!(used.due(Keepalive::Auto), Some(now + 28 * S));
    }

    #[test]
    fn a_sign_that_could_not_be_sent_is_tried_again_soon() {
        let (mut used, now) = (Use::default(), Instant::now() + 100 * S);
        used.learn(now, 20 * S, Some(30 * S));
        used.failed(now, Keepalive::Auto);
        assert_eq!(used.due(Keepalive::Auto), Some(now + 15 * S / 4));
    }

    proptest! {
        /// Whoever sends a sign when it is due sends at most one in each interval, whatever the server says meanwhile, and
        /// the sandbox is never idle for longer than the interval and the wait before it was first asked.
        #[test]
        fn at_most_one_in_an_interval(limit in 2..120u64, idles in proptest::collection::vec(0..200u64, 1..40)) {
            let (keepalive, limit) = (Keepalive::Auto, Duration::from_secs(limit));
            let start = Instant::now() + 1000 * S;
            let (mut used, mut now, mut sent) = (Use::default(), start, Vec::new());
            for idle in idles {
                used.learn(now, Duration::from_secs(idle), Some(limit));
                let due = used.due(keepalive).unwrap();
                prop_assert!(due <= now + limit / 2);
                if due <= now {
                    used.used(now);
                    sent.push(now);
                }
                now += S;
            }
            prop_assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= limit / 2));
        }
    }
}
