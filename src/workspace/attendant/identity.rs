use std::time::{Duration, Instant};

use crate::{protocol::ServerInfo, workspace::feed::WatchedCommand};

/// Uptimes are whole seconds of a wall clock, and an answer takes its time: boot times that differ by less are the same.
const TOLERANCE: Duration = Duration::from_millis(2500);

/// Which start of which server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// New at each start. Only the embedded agent server tells it.
    instance: Option<String>,
    /// When it started, by this machine's clock, which cannot be set: milliseconds since an instant that is the same for
    /// all. It is up to a second late, for whole seconds of uptime are told.
    booted: i64,
}

impl Identity {
    /// By what a server said when asked at `asked`. `base` has to be the same for all identities that are compared.
    pub(super) fn of(info: &ServerInfo, asked: Instant, base: Instant) -> Self {
        let asked = i64::try_from(asked.saturating_duration_since(base).as_millis()).unwrap_or(i64::MAX);
        // A float that is too large saturates, and one that is none is 0.
        let uptime = (info.uptime * 1000.0) as i64;
        Self { instance: info.instance_id.clone(), booted: asked.saturating_sub(uptime) }
    }

    /// Whether the server has been started anew between these two.
    pub(super) fn is_restart_of(&self, earlier: &Self) -> bool {
        match (&self.instance, &earlier.instance) {
            (Some(now), Some(then)) => now != then,
            _ => self.booted.saturating_sub(earlier.booted) > millis(TOLERANCE),
        }
    }

    /// Whether a command that was started at `at` was surely started by an earlier server.
    pub(super) fn is_younger_than(&self, at: Instant, base: Instant) -> bool {
        since(at, base).saturating_add(millis(TOLERANCE)) < self.booted
    }

    /// Whether a command that was started at `at` may have been started by an earlier server.
    pub(super) fn may_be_younger_than(&self, at: Instant, base: Instant) -> bool {
        since(at, base) < self.booted
    }

    /// Whether this start of a server has started a command; `None` where servers do not tell.
    pub(super) fn has_started(&self, watched: &WatchedCommand) -> Option<bool> {
        Some(self.instance.as_deref()? == watched.instance.as_deref()?)
    }

    /// Whether a command may have been started by an earlier server.
    pub(super) fn may_be_younger_than_command(&self, watched: &WatchedCommand, base: Instant) -> bool {
        self.has_started(watched).map_or_else(|| self.may_be_younger_than(watched.at, base), |started| !started)
    }

    /// How long the server has been running.
    pub(super) fn age(&self, now: Instant, base: Instant) -> Duration {
        let age = millis(now.saturating_duration_since(base)).saturating_sub(self.booted);
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    }
}

/// Milliseconds from `base` to a time that may be before it, as the start of a command can be that was attached to.
fn since(at: Instant, base: Instant) -> i64 {
    match at.checked_duration_since(base) {
        Some(later) => millis(later),
        None => -millis(base.saturating_duration_since(at)),
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(uptime: f64, instance: Option<&str>) -> ServerInfo {
        serde_json::from_value(serde_json::json!({ "uptime": uptime, "idle_time": 0, "instance_id": instance }))
            .unwrap()
    }

    #[test]
    fn an_instance_decides_where_there_is_one() {
        let base = Instant::now();
        let at = |uptime, instance| Identity::of(&info(uptime, instance), base + Duration::from_secs(100), base);
        assert!(at(50.0, Some("b")).is_restart_of(&at(50.0, Some("a"))));
        assert!(!at(1.0, Some("a")).is_restart_of(&at(50.0, Some("a"))));
        assert!(at(1.0, Some("a")).is_restart_of(&at(50.0, None)));
        assert!(!at(60.0, None).is_restart_of(&at(50.0, None)), "a clock that was set forward");
    }

    #[test]
    fn the_age_of_commands_is_told_with_doubt() {
        let base = Instant::now();
        let (asked, at) = (base + Duration::from_secs(100), |seconds| base + Duration::from_secs(seconds));
        let server = Identity::of(&info(10.0, None), asked, base);
        assert!(server.is_younger_than(at(80), base) && server.may_be_younger_than(at(89), base));
        assert!(!server.is_younger_than(at(89), base) && !server.may_be_younger_than(at(91), base));
        assert_eq!(server.age(asked, base), Duration::from_secs(10));
    }

    #[test]
    fn nonsense_is_taken_for_some_time() {
        let base = Instant::now();
        for uptime in [-1e300, 1e300, -5.0] {
            let odd = Identity::of(&info(uptime, None), base, base);
            let _ = (odd.is_restart_of(&odd), odd.age(base, base), odd.is_younger_than(base, base));
        }
    }

    proptest! {
        /// The same server is never taken for another, however the seconds are cut and however long answers take; one that
        /// was started 4 s later or more always is.
        #[test]
        fn only_a_restart_is_one(
            boot in 0..100_000u64, first in 0..100_000u64, later in 0..100_000u64, slow in 0..1000u64, again in 4_000..100_000u64,
        ) {
            let base = Instant::now();
            let ask = |boot: u64, at: u64| {
                // The server reads its clock at some time while the answer is waited for.
                let uptime = ((at + slow - boot) / 1000) as f64;
                Identity::of(&info(uptime, None), base + Duration::from_millis(at), base)
            };
            let (first, later) = (boot + first, boot + first + later);
            let before = ask(boot, first);
            prop_assert!(!ask(boot, later).is_restart_of(&before));
            let restarted = boot + again;
            prop_assert!(ask(restarted, restarted.max(later)).is_restart_of(&before));
        }
    }
}
