use std::time::{Duration, Instant};

/// The first look is never later than this after the answer to the start.
const FIRST_LOOK: Duration = Duration::from_millis(5);
/// Looks are never closer together than this.
const SHORTEST: Duration = Duration::from_micros(2_500);
/// Looks are never further apart than this.
const LONGEST: Duration = Duration::from_secs(2);

/// How late a timer may be, and how long it takes until a server knows that a command has ended.
const LATE: Duration = Duration::from_millis(2);
/// From this age on that is made up for. Before, it would cost more looks than it is worth.
const LATE_COUNTS_FROM: Duration = Duration::from_millis(100);

/// Looks while output is pushed are never closer together than this.
const SHORTEST_WHEN_PUSHED: Duration = Duration::from_millis(100);
/// Looks while output is pushed are never further apart than this.
const LONGEST_WHEN_PUSHED: Duration = Duration::from_secs(30);

/// How long to wait for the first look at a command where the answer to a start takes `round_trip`.
pub(crate) fn first_look(round_trip: Duration) -> Duration {
    round_trip.min(FIRST_LOOK)
}

/// How long after a look at a command of this age the next one begins: 15 % of the age, less what else makes it late, so that the
/// end of a command is seen late by at most that share of its duration, and a long command costs few requests.
pub(crate) fn next_look(age: Duration) -> Duration {
    let late = if age < LATE_COUNTS_FROM { Duration::ZERO } else { LATE };
    (age * 15 / 100).saturating_sub(late).clamp(SHORTEST, LONGEST)
}

/// When a look is due that is to begin so long after another one, whose news have come only now. A server that takes long for them
/// rests for as long, or for the whole wait.
pub(crate) fn due(looked: Instant, wait: Duration, now: Instant) -> Instant {
    let took = now.saturating_duration_since(looked);
    (looked + wait).max(now + took.min(wait).max(SHORTEST))
}

/// As [`next_look`] while the server pushes output, of a command for which it has done so for this long. Looks then only make sure
/// that nothing was missed.
pub(crate) fn next_look_when_pushed(so_far: Duration) -> Duration {
    so_far.clamp(SHORTEST_WHEN_PUSHED, LONGEST_WHEN_PUSHED)
}

/// How early a look may be taken so that it shares a search with others: a quarter of the wait.
pub(crate) fn slack(wait: Duration) -> Duration {
    wait / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_costs_at_most_80_looks() {
        let (mut age, mut looks) = (first_look(Duration::from_millis(1)), 1);
        while age < Duration::from_secs(60) {
            age += next_look(age);
            looks += 1;
        }
        assert!(looks <= 80, "{looks}");
    }

    #[test]
    fn a_look_is_due_so_long_after_the_one_before_began_and_no_sooner_than_a_slow_server_has_rested() {
        let (looked, ms) = (Instant::now(), Duration::from_millis);
        assert_eq!(due(looked, ms(45), looked + ms(10)), looked + ms(45));
        assert_eq!(due(looked, ms(45), looked + ms(30)), looked + ms(60));
        assert_eq!(due(looked, ms(45), looked + ms(500)), looked + ms(545));
        assert_eq!(due(looked, ms(3), looked + ms(1)), looked + ms(1) + SHORTEST);
    }

    #[test]
    fn the_end_is_seen_late_by_at_most_15_percent_or_two_seconds() {
        for millis in [100, 1_000, 10_000, 100_000] {
            let age = Duration::from_millis(millis);
            assert!(next_look(age) <= (age * 15 / 100).min(LONGEST));
        }
    }
}
