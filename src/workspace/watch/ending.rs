use std::time::{Duration, Instant};

/// How long after a stop its final event may take before the workspace gives up on it.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long reading goes on for a caller that has given the command up, after its processes have ended.
pub(super) const READ_ON: Duration = Duration::from_secs(2);

/// How long after a command's time, rounded up to whole seconds, its final event may take. The server, whose own bound
/// is a second longer than that, needs up to two seconds to end the command.
const TIMEOUT_PATIENCE: Duration = Duration::from_millis(3500);

/// Why a command is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Its time was up.
    TimedOut,
    /// Somebody asked for it.
    Stopped,
}

/// A command that is being ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) why: Why,
    pub(super) since: Instant,
    pub(super) give_up: Instant,
}

impl Ending {
    pub(super) fn stopped(now: Instant) -> Self {
        Self { why: Why::Stopped, since: now, give_up: now + STOP_PATIENCE }
    }

    /// Ends a command that was started at `started` and may take `timeout`.
    pub(super) fn timed_out(now: Instant, started: Instant, timeout: Duration) -> Self {
        let give_up = started + whole_seconds_up(timeout) + TIMEOUT_PATIENCE;
        Self { why: Why::TimedOut, since: now, give_up: give_up.max(now) }
    }
}

/// The next whole number of seconds.
pub(crate) fn whole_seconds_up(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(whole_seconds_up(Duration::from_millis(500)), Duration::from_secs(1));
        assert_eq!(whole_seconds_up(Duration::from_secs(2)), Duration::from_secs(2));
        assert_eq!(whole_seconds_up(Duration::ZERO), Duration::ZERO);
    }
}
