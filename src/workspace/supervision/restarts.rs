use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::workspace::doubled;

/// How often something may be started again, and after which waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many restarts there may be within the window.
    pub(crate) most: usize,
    pub(crate) window: Duration,
    /// The wait before the first restart; each further one within the window doubles it.
    pub(crate) first_wait: Duration,
    pub(crate) longest_wait: Duration,
}

impl Limits {
    /// For the actors of workspaces and the watches of commands.
    pub(crate) const ACTOR: Self = Self {
        most: 5,
        window: Duration::from_secs(60),
        first_wait: Duration::from_millis(50),
        longest_wait: Duration::from_secs(5),
    };
}

/// Decides whether and when something that failed is started again.
#[derive(Debug)]
pub(crate) struct Restarts {
    limits: Limits,
    /// When the failures within the window were, the oldest first.
    failures: VecDeque<Instant>,
}

impl Restarts {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, failures: VecDeque::new() }
    }

    /// Takes a failure in. Returns how long to wait before the restart, or `None` when there were too many. `jitter` is between
    /// 0 and 1, and varies the wait by a quarter to either side.
    pub(crate) fn failed(&mut self, now: Instant, jitter: f64) -> Option<Duration> {
        while self.failures.front().is_some_and(|first| now.duration_since(*first) >= self.limits.window) {
            self.failures.pop_front();
        }
        if self.failures.len() >= self.limits.most {
            return None;
        }
        let times = u32::try_from(self.failures.len()).unwrap_or(u32::MAX);
        self.failures.push_back(now);
        let wait = doubled(self.limits.first_wait, self.limits.longest_wait, times);
        Some(wait.mul_f64(0.75 + jitter / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_and_the_cap_ends_it() {
        let (mut restarts, now) = (Restarts::new(Limits::ACTOR), Instant::now());
        let waits: Vec<_> = std::iter::from_fn(|| restarts.failed(now, 0.5)).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800]);
    }

    #[test]
    fn what_is_longer_ago_than_the_window_is_forgotten() {
        let (mut restarts, mut now) = (Restarts::new(Limits::ACTOR), Instant::now());
        for _ in 0..100 {
            assert_eq!(restarts.failed(now, 0.5), Some(Limits::ACTOR.first_wait));
            now += Limits::ACTOR.window;
        }
    }

    proptest! {
        /// Whenever failures come: within any window there are never more restarts than allowed, one is only refused when
        /// there were as many, and no wait is longer than the longest.
        #[test]
        fn the_cap_holds(gaps in proptest::collection::vec(0..40u64, 0..60), jitter in 0.0..1.0f64) {
            let (mut restarts, mut now) = (Restarts::new(Limits::ACTOR), Instant::now());
            let mut granted: Vec<Instant> = Vec::new();
            for gap in gaps {
                now += Duration::from_secs(gap);
                let recent = granted.iter().filter(|at| now.duration_since(**at) < Limits::ACTOR.window).count();
                match restarts.failed(now, jitter) {
                    Some(wait) => {
                        prop_assert!(recent < Limits::ACTOR.most);
                        prop_assert!(wait <= Limits::ACTOR.longest_wait.mul_f64(1.25));
                        granted.push(now);
                    }
                    None => prop_assert_eq!(recent, Limits::ACTOR.most),
                }
            }
        }
    }
}
