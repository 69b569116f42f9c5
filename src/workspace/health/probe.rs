//! Asks a server that is away, or idle, whether it is there.

use std::{
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use super::LinkObserver;
use crate::{
    ErrorKind, Failure,
    client::Observer as _,
    workspace::{attendant, core::Core, doubled},
};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long one probe may take. A server that takes connections and says nothing would hold it up for as long as any
/// request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// No server is probed more often than this while nothing is asked of it.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// How long to wait before a probe, by how many there were. `jitter` is between 0 and 1.
fn wait_before(probes: u32, jitter: f64) -> Duration {
    doubled(FIRST_WAIT, LONGEST_WAIT, probes).mul_f64(0.75 + jitter / 4.0)
}

/// Probes a server that is away until something makes it more than that. What the probes hear, the client's observer
/// takes in as from any other request.
pub(super) async fn until_it_answers(core: Weak<Core>) {
    let mut probes = 0;
    loop {
        let Some(strong) = core.upgrade() else { return };
        let closing = strong.closing.clone();
        if closing.is_cancelled() || !strong.health.is_to_be_probed() {
            strong.health.end_probing();
            return;
        }
        let wait = wait_before(probes, fastrand::f64());
        strong.health.probe_at(Instant::now() + wait);
        drop(strong);
        probes += 1;
        tokio::select! {
            () = actix_rt::time::sleep(wait) => {}
            () = closing.cancelled() => continue,
        }
        let Some(strong) = core.upgrade() else { return };
        if !strong.health.is_to_be_probed() {
            continue;
        }
        let asked = async { strong.client()?.alive().await };
        match actix_rt::time::timeout(PATIENCE, asked).await {
            // While it was away it may have been replaced.
            Ok(Ok(_)) => attendant::look(&strong).await,
            Ok(Err(_)) => {}
            Err(_) => unanswered(&strong),
        }
    }
}

/// Probes a workspace for as long as it lives, where it is configured so. Called once a workspace, on its arbiter.
pub(crate) fn probe_while_idle(core: &Rc<Core>) {
    if let Some(interval) = core.config.probe_interval {
        actix_rt::spawn(while_idle(Rc::downgrade(core), interval));
    }
}

/// Lets the health hear of a request that was given up before the client would have done so.
fn unanswered(core: &Rc<Core>) {
    let kind = ErrorKind::Deadline { waiting_for: "waiting for a sign of life".to_owned(), limit: PATIENCE };
    LinkObserver::of(core).failed(&Failure::maybe_sent(kind));
}

/// Asks a server of which nothing was heard for an interval whether it is there, until the workspace ends.
async fn while_idle(core: Weak<Core>, interval: Duration) {
    let interval = interval.max(SHORTEST_INTERVAL);
    let mut next = Instant::now() + interval;
    loop {
        let Some(closing) = core.upgrade().map(|core| core.closing.clone()) else { return };
        tokio::select! {
            () = actix_rt::time::sleep_until(next.into()) => {}
            () = closing.cancelled() => return,
        }
        let Some(core) = core.upgrade() else { return };
        let heard = core.health.last_answer().map(|at| at + interval);
        next = match heard {
            Some(due) if due > Instant::now() => due,
            _ => {
                // One that is away is probed already.
                if !core.health.is_to_be_probed()
                    && actix_rt::time::timeout(PATIENCE, attendant::look(&core)).await.is_err()
                {
                    unanswered(&core);
                }
                Instant::now() + interval
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_begin_after_a_second_and_end_up_half_a_minute_apart() {
        let waits: Vec<u64> = (0..8).map(|probes| wait_before(probes, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert!(wait_before(0, 0.0) >= Duration::from_millis(750));
        assert!(wait_before(u32::MAX, 1.0) <= LONGEST_WAIT);
    }
}
