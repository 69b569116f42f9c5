//! The state machine of a workspace's health: what each thing that is heard of the server makes of it. No I/O, no clock.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// So many requests in a row have to get no answer before a server is held to be unreachable,
const LOST_IN_A_ROW: u32 = 3;

/// and for so long. One lost connection fails all the requests that were on it, all at once.
const LOST_FOR: Duration = Duration::from_millis(750);

/// So many answers in a row have to be server errors before a server is held to be degraded.
const FAULTS_IN_A_ROW: u32 = 3;

/// How a workspace's server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HealthState {
    /// Nothing has been heard of it yet under this connection.
    Connecting,
    /// It answers.
    Ready,
    /// It answers, but with server errors (5xx) only.
    Degraded,
    /// It has not answered several times in a row. Steps are turned away, and it is probed until it answers.
    Unreachable,
    /// The sandbox no longer exists, or another one is behind its address. Steps are turned away.
    Gone,
    /// The workspace has ended.
    Stopped,
}

impl HealthState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Connecting, Self::Ready, Self::Degraded, Self::Unreachable, Self::Gone, Self::Stopped];

    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Unreachable => "unreachable",
            Self::Gone => "gone",
            Self::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for HealthState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What is heard of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// It answered, and not with a server error.
    Answer,
    /// It answered with this server error.
    Fault(u16),
    /// It did not answer.
    Nothing(String),
    /// Something else answered that knows of no agent server.
    NoSandbox(String),
    /// Another sandbox is behind the address.
    Replaced(String),
    /// It is reached in another way from now on.
    NewLink,
    /// The workspace ends.
    End,
}

/// How a server does, and since when and why.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) state: HealthState,
    pub(super) since: Instant,
    /// Why, where the state is not a good one.
    pub(super) reason: Option<String>,
    /// Requests in a row without an answer, and when the first of them failed.
    lost: u32,
    lost_since: Instant,
    /// Answers in a row that were server errors.
    faults: u32,
    /// Whether the address is another sandbox's, so that its answers say nothing of this one.
    replaced: bool,
}

impl Machine {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: HealthState::Connecting,
            since: now,
            reason: None,
            lost: 0,
            lost_since: now,
            faults: 0,
            replaced: false,
        }
    }

    /// Failed requests in a row.
    pub(super) fn failures(&self) -> u32 {
        self.lost.max(self.faults)
    }

    /// Whether the state is one that an answer ends, so that it is worth asking.
    pub(super) fn is_to_be_probed(&self) -> bool {
        matches!(self.state, HealthState::Unreachable | HealthState::Gone) && !self.replaced
    }

    /// Takes in what was heard.
    pub(super) fn hear(&mut self, heard: Heard, now: Instant) {
        match (self.state, heard) {
            (HealthState::Stopped, _) => {}
            (_, Heard::End) => self.enter(HealthState::Stopped, None, now),
            (_, Heard::NewLink) => *self = Self::new(now),
            _ if self.replaced => {}
            (_, Heard::Replaced(reason)) => {
                self.replaced = true;
                self.enter(HealthState::Gone, Some(reason), now);
            }
            (_, Heard::Answer) => {
                (self.lost, self.faults) = (0, 0);
                self.enter(HealthState::Ready, None, now);
            }
            (_, Heard::NoSandbox(reason)) => {
                (self.lost, self.faults) = (0, 0);
                self.enter(HealthState::Gone, Some(reason), now);
            }
            (state, Heard::Fault(status)) => {
                (self.lost, self.faults) = (0, self.faults.saturating_add(1));
                let was_away = matches!(state, HealthState::Unreachable | HealthState::Gone);
                if was_away || self.faults >= FAULTS_IN_A_ROW {
                    self.enter(HealthState::Degraded, Some(format!("the server answers {status}")), now);
                }
            }
            (_, Heard::Nothing(reason)) => self.lose(reason, now),
        }
    }

    fn lose(&mut self, reason: String, now: Instant) {
        if self.lost == 0 {
            self.lost_since = now;
        }
        self.lost = self.lost.saturating_add(1);
        self.faults = 0;
        if self.lost >= LOST_IN_A_ROW && now.saturating_duration_since(self.lost_since) >= LOST_FOR {
            self.enter(HealthState::Unreachable, Some(reason), now);
        }
    }

    fn enter(&mut self, state: HealthState, reason: Option<String>, now: Instant) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
        self.reason = reason;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nothing() -> Heard {
        Heard::Nothing("connection refused".to_owned())
    }

    /// What becomes of a new workspace that hears these, each so many milliseconds after the one before.
    fn after(heard: &[(u64, Heard)]) -> Machine {
        let mut now = Instant::now();
        let mut machine = Machine::new(now);
        for (later, heard) in heard {
            now += Duration::from_millis(*later);
            machine.hear(heard.clone(), now);
        }
        machine
    }

    #[test]
    fn one_lost_connection_is_no_outage_however_many_requests_were_on_it() {
        let lost: Vec<_> = std::iter::once((0, Heard::Answer)).chain((0..20).map(|_| (1, nothing()))).collect();
        assert_eq!(after(&lost).state, HealthState::Ready);
        assert_eq!(after(&[(0, nothing()), (60_000, nothing())]).state, HealthState::Connecting);
    }

    #[test]
    fn a_row_of_lost_requests_is_an_outage_until_an_answer() {
        let mut row = vec![(0, nothing()), (400, nothing()), (400, nothing())];
        let lost = after(&row);
        assert_eq!((lost.state, lost.reason.as_deref()), (HealthState::Unreachable, Some("connection refused")));
        assert!(lost.is_to_be_probed());
        row.push((10, Heard::Answer));
        assert_eq!(after(&row).state, HealthState::Ready);
        assert_eq!(after(&row).reason, None);
        // An answer in between begins a new row.
        assert_eq!(after(&[row.clone(), row[..2].to_vec()].concat()).state, HealthState::Ready);
    }

    #[test]
    fn server_errors_in_a_row_degrade_and_are_contact() {
        let fault = || (1, Heard::Fault(502));
        assert_eq!(after(&[(0, Heard::Answer), fault(), fault()]).state, HealthState::Ready);
        assert_eq!(after(&[(0, Heard::Answer), fault(), fault(), fault()]).state, HealthState::Degraded);
        let away = [(0, nothing()), (900, nothing()), (900, nothing())];
        assert_eq!(after(&[&away[..], &[fault()]].concat()).state, HealthState::Degraded);
    }

    #[test]
    fn another_sandbox_is_not_this_one_however_well_it_answers() {
        let replaced = [(0, Heard::Answer), (1, Heard::Replaced("another".into())), (1, Heard::Answer)];
        let gone = after(&replaced);
        assert_eq!((gone.state, gone.is_to_be_probed()), (HealthState::Gone, false));
        let moved = [&replaced[..], &[(1, Heard::NewLink)]].concat();
        assert_eq!(after(&moved).state, HealthState::Connecting);
        // What only a gateway says may pass.
        let refused = [(0, Heard::NoSandbox("404".into()))];
        assert_eq!((after(&refused).state, after(&refused).is_to_be_probed()), (HealthState::Gone, true));
        assert_eq!(after(&[&refused[..], &[(1, Heard::Answer)]].concat()).state, HealthState::Ready);
    }

    fn any_heard() -> impl Strategy<Value = Heard> {
        prop_oneof![
            4 => Just(Heard::Answer),
            4 => Just(nothing()),
            3 => Just(Heard::Fault(500)),
            1 => Just(Heard::NoSandbox("404".into())),
            1 => Just(Heard::Replaced("another".into())),
            1 => Just(Heard::NewLink),
            1 => Just(Heard::End),
        ]
    }

    proptest! {
        #[test]
        fn the_last_words_decide(heard in proptest::collection::vec((0..500u64, any_heard()), 1..40)) {
            let machine = after(&heard);
            let ended = heard.iter().any(|(_, heard)| *heard == Heard::End);
            prop_assert_eq!(machine.state == HealthState::Stopped, ended);
            if ended {
                return Ok(());
            }
            let linked = heard.iter().rposition(|(_, heard)| *heard == Heard::NewLink).map_or(0, |at| at + 1);
            let heard = &heard[linked..];
            let replaced = heard.iter().any(|(_, heard)| matches!(heard, Heard::Replaced(_)));
            let row = heard.iter().rev().take_while(|(_, heard)| *heard == nothing()).count();
            match heard.last() {
                None => prop_assert_eq!(machine.state, HealthState::Connecting),
                _ if replaced => prop_assert_eq!(machine.state, HealthState::Gone),
                Some((_, Heard::Answer)) => prop_assert_eq!(machine.state, HealthState::Ready),
                Some((_, Heard::NoSandbox(_))) => prop_assert_eq!(machine.state, HealthState::Gone),
                Some((_, Heard::Fault(_))) => prop_assert_ne!(machine.state, HealthState::Unreachable),
                Some(_) => {
                    let span: u64 = heard[heard.len() - row + 1..].iter().map(|(later, _)| later).sum();
                    if row >= 3 && span >= 750 {
                        prop_assert_eq!(machine.state, HealthState::Unreachable);
                    } else {
                        prop_assert_ne!(machine.state, HealthState::Unreachable);
                    }
                }
            }
            prop_assert_eq!(machine.reason.is_some(), !matches!(machine.state, HealthState::Ready | HealthState::Connecting));
        }
    }
}
