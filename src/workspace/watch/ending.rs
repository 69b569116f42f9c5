use std::time::{Duration, Instant};

/// How long after a stop its final event may take before the workspace gives up on it.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long reading goes on for a caller that has given the command up, after its processes have ended.
pub(super) const READ_ON: Duration = Duration::from_secs(2);

/// How long after a command's time, rounded up to whole seconds, its final event may take. The server, whose own bound
/// is a second longer than that, needs up to two seconds to end the command.
const TIMEOUT_PATIENCE: Duration = Duration::from_millis(3500);

/// A start that took longer than this says little of how long the way to the server is.
const LONGEST_WAY: Duration = Duration::from_secs(1);

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

    /// For how long, by the server's clock, the command was surely left alone that was to be ended after `decided`. A stop
    /// reaches the server some time after that: as a server takes the time of a start when it gets it, and the command is
    /// counted from when the answer was here, by a whole way there and back. What is ended for its time may take no longer.
    pub(super) fn left_alone(self, decided: Duration, timeout: Option<Duration>, way: Duration) -> Duration {
        match (self.why, timeout) {
            (Why::TimedOut, Some(timeout)) => timeout.min(decided),
            _ => decided.saturating_add(way.min(LONGEST_WAY)),
        }
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

    #[test]
    fn a_command_is_left_alone_until_a_stop_has_reached_its_server_and_not_beyond_its_time() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let stopped = Ending::stopped(now);
        assert_eq!(stopped.left_alone(ms(500), None, ms(30)), ms(530));
        assert_eq!(stopped.left_alone(ms(500), Some(ms(200)), Duration::ZERO), ms(500));
        assert_eq!(stopped.left_alone(ms(500), None, ms(20_000)), ms(500) + LONGEST_WAY);
        let timed_out = Ending::timed_out(now, now, ms(500));
        assert_eq!(timed_out.left_alone(ms(503), Some(ms(500)), ms(30)), ms(500));
    }
}
