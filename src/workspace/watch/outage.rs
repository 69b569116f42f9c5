use std::time::{Duration, Instant};

use crate::{ErrorKind, Failure, workspace::doubled};

/// A refusal has to last this long before it is believed: a sandbox that is being resumed elsewhere, or whose key is
/// being changed, answers so for a moment.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A row of failed looks at a command.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    tries: u32,
    last: Option<Failure>,
}

/// What to do after a failed look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Look again after this time.
    Retry(Duration),
    /// The outage has lasted too long.
    GiveUp,
}

impl Outage {
    pub(super) fn over(&mut self) {
        *self = Self::default();
    }

    /// The failure that lasts.
    pub(super) fn last(&self) -> Option<&Failure> {
        self.last.as_ref()
    }

    /// Takes a failure in. `jitter` is between 0 and 1.
    pub(super) fn failed(&mut self, failure: Failure, now: Instant, max_outage: Duration, jitter: f64) -> Verdict {
        let patience = match &failure.kind {
            ErrorKind::Gone { .. }
            | ErrorKind::Unauthorized { .. }
            | ErrorKind::Rejected { .. }
            | ErrorKind::NotFound { .. }
            | ErrorKind::Tls { .. } => REFUSAL_PATIENCE.min(max_outage),
            _ => max_outage,
        };
        let since = *self.since.get_or_insert(now);
        self.tries += 1;
        let asked = match &failure.kind {
            ErrorKind::ServerError { retry_after: Some(wait), .. } => *wait,
            _ => Duration::ZERO,
        };
        self.last = Some(failure);
        if now.duration_since(since) >= patience && self.tries > 2 {
            return Verdict::GiveUp;
        }
        let wait = doubled(SHORTEST_WAIT, LONGEST_WAIT, self.tries - 1);
        Verdict::Retry(wait.mul_f64(0.75 + jitter / 2.0).max(asked.min(max_outage)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give_up_after(kind: ErrorKind) -> Duration {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let mut now = start;
        loop {
            match outage.failed(Failure::not_sent(kind.clone()), now, Duration::from_secs(60), 0.5) {
                Verdict::Retry(wait) => now += wait,
                Verdict::GiveUp => return now - start,
            }
        }
    }

    #[test]
    fn a_lost_connection_is_waited_for_and_a_refusal_is_believed_soon() {
        let lost = give_up_after(ErrorKind::Unreachable { reason: String::new() });
        assert!((60..64).contains(&lost.as_secs()), "{lost:?}");
        let gone = give_up_after(ErrorKind::Gone { reason: String::new() });
        assert!((1000..2500).contains(&gone.as_millis()), "{gone:?}");
    }
}
