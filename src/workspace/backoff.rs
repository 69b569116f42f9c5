//! Trying again what does no harm when it is carried out twice.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    caller,
    core::{Core, count},
};
use crate::{Effect, ErrorKind, Failure};

/// The waits between the tries of one operation.
const WAITS: Waits = Waits { first: Duration::from_millis(100), longest: Duration::from_secs(5) };

/// For how long a server is asked again that has never answered anything, or nothing but server errors.
pub(super) const NEVER_ANSWERED: Duration = Duration::from_secs(2);

/// How often an operation is tried again that the server itself fails at (500). Most such failures stay: a disk is full, or a
/// name too long.
const MOST_FAULTS: u32 = 2;

/// The wait after so many tries: the first, doubled each time, up to the longest.
pub(crate) fn doubled(first: Duration, longest: Duration, times: u32) -> Duration {
    first.saturating_mul(2u32.saturating_pow(times)).min(longest)
}

/// The waits between tries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Waits {
    /// How long to wait after a failure, by how many there were before: longer each time, a quarter more or less by chance, so
    /// that many do not come back at once, and no less than the server asks for. `jitter` is between 0 and 1.
    pub(super) fn after(self, tries: u32, failure: &Failure, jitter: f64) -> Duration {
        let wait = doubled(self.first, self.longest, tries).mul_f64(0.75 + jitter / 2.0);
        match &failure.kind {
            ErrorKind::ServerError { retry_after: Some(asked), .. } => wait.max(asked.mul_f64(1.0 + jitter / 4.0)),
            _ => wait,
        }
    }
}

/// Asks again while the failure may pass, until it would be later than `give_up`. For what the runtime does for itself.
pub(super) async fn until_answered<T, F: Future<Output = Result<T, Failure>>>(
    give_up: Instant,
    waits: Waits,
    request: impl Fn() -> F,
) -> Result<T, Failure> {
    until_settled(give_up, waits, ErrorKind::is_transient, request).await
}

/// The same where it is up to the caller which failures may pass.
pub(super) async fn until_settled<T, F: Future<Output = Result<T, Failure>>>(
    give_up: Instant,
    waits: Waits,
    may_pass: impl Fn(&ErrorKind) -> bool,
    request: impl Fn() -> F,
) -> Result<T, Failure> {
    let mut tries = 0;
    loop {
        match request().await {
            Err(failure) if may_pass(&failure.kind) => {
                // There is little time, whatever the server would like.
                let wait = waits.after(tries, &failure, fastrand::f64()).min(waits.longest);
                if Instant::now() + wait >= give_up {
                    return Err(failure);
                }
                actix_rt::time::sleep(wait).await;
                tries += 1;
            }
            result => return result,
        }
    }
}

/// Repeats the requests of one operation that do no harm when they are carried out twice, within one bound for all of them:
/// [`retry_for`](super::WorkspaceConfig::retry_for). Nothing is repeated once nobody waits for the operation any more, the
/// workspace ends, or its server is found to be away.
pub(super) struct Retry {
    core: Rc<Core>,
    /// From when on the bound counts.
    since: Rc<Cell<Instant>>,
    tries: Cell<u32>,
    faults: Cell<u32>,
    /// Cancelled when nobody wants the operation carried out any more, where that is told in this way too.
    caller: Option<CancellationToken>,
}

impl Retry {
    /// For an operation that begins now.
    pub(super) fn new(core: &Rc<Core>) -> Self {
        Self {
            core: core.clone(),
            since: Rc::new(Cell::new(Instant::now())),
            tries: Cell::new(0),
            faults: Cell::new(0),
            caller: None,
        }
    }

    /// The same for somebody who may cancel it and still wait for the answer.
    pub(super) fn for_caller(core: &Rc<Core>, caller: &CancellationToken) -> Self {
        Self { caller: Some(caller.clone()), ..Self::new(core) }
    }

    /// Lets the bound count from when a transfer last got on. What moves is to set it.
    pub(super) fn clock(&self) -> Rc<Cell<Instant>> {
        self.since.clone()
    }

    /// Asks until there is an answer, or a failure that stays.
    pub(super) async fn until_answered<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        request: impl Fn() -> F,
    ) -> Result<T, Failure> {
        loop {
            match request().await {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.pause(failure).await?,
            }
        }
    }

    /// Waits before another try.
    ///
    /// # Errors
    /// The failure itself, when there is to be no other.
    pub(super) async fn pause(&self, failure: Failure) -> Result<(), Failure> {
        let wait = WAITS.after(self.tries.get(), &failure, fastrand::f64());
        if !self.may_pass(&failure) || self.since.get().elapsed() + wait >= self.bound() {
            return Err(failure);
        }
        log::debug!("{}: once more in {wait:?}, after: {failure}", self.core.config.name);
        tokio::select! {
            () = actix_rt::time::sleep(wait) => {}
            () = caller::gone() => return Err(failure),
            () = self.cancelled() => return Err(failure),
            () = self.core.closing.cancelled() => return Err(failure),
        }
        if self.core.health.check().is_err() {
            return Err(failure);
        }
        self.tries.set(self.tries.get() + 1);
        count(&self.core.counters.retries);
        Ok(())
    }

    async fn cancelled(&self) {
        match &self.caller {
            Some(caller) => caller.cancelled().await,
            None => std::future::pending().await,
        }
    }

    fn bound(&self) -> Duration {
        let bound = self.core.config.retry_for;
        if self.core.health.has_answered() { bound } else { bound.min(NEVER_ANSWERED) }
    }

    /// Whether another try may go better.
    fn may_pass(&self, failure: &Failure) -> bool {
        if !failure.kind.is_transient()
            || caller::is_gone()
            || self.caller.as_ref().is_some_and(CancellationToken::is_cancelled)
            || self.core.closing.is_cancelled()
            || self.core.health.check().is_err()
        {
            return false;
        }
        match failure.kind {
            // A gateway's words are told apart from those of the server: what is behind it may be back in a moment.
            ErrorKind::ServerError { status: 500 | 501 | 505..=511, .. } => {
                self.faults.set(self.faults.get() + 1);
                self.faults.get() <= MOST_FAULTS
            }
            // Nobody is there, and nobody ever was.
            ErrorKind::Unreachable { .. } if failure.effect == Effect::NotSent => self.core.health.has_answered(),
            ErrorKind::Deadline { .. } => self.core.health.has_answered(),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wait_doubles_up_to_the_longest_and_never_overflows() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..6).map(|times| doubled(first, longest, times).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(doubled(first, longest, u32::MAX), longest);
    }

    fn busy(retry_after: Option<Duration>) -> Failure {
        Failure::not_sent(ErrorKind::ServerError { status: 503, detail: String::new(), retry_after })
    }

    proptest! {
        #[test]
        fn a_wait_is_never_shorter_than_the_server_asks_for(tries in 0..40u32, asked in 0..100_000u64, jitter in 0.0..1.0f64) {
            let asked = Duration::from_millis(asked);
            prop_assert!(WAITS.after(tries, &busy(Some(asked)), jitter) >= asked);
            let wait = WAITS.after(tries, &busy(None), jitter);
            prop_assert!(wait >= WAITS.first.mul_f64(0.75) && wait <= WAITS.longest.mul_f64(1.25));
        }
    }
}
