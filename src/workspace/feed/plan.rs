use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{State, WatchKey, Watched};
use crate::{
    client::EventQuery,
    protocol::{BashEventKind, EventId},
};

/// A shared search looks back this far behind what was seen already: an event file that is being written is skipped
/// by a search that finds newer ones.
const OVERLAP: SignedDuration = SignedDuration::from_secs(1);

/// After so many shared searches a command gets one of its own. It goes by the command's own events, and so finds an
/// event for which the overlap was too short because others had moved the shared time on.
const SHARED_IN_A_ROW: u32 = 8;

/// How far back a first search looks that others share. It brings what all commands wrote since, which may be much.
const FARTHEST_BACK: SignedDuration = SignedDuration::from_secs(10);

/// When a child wants news, and of what.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    /// When.
    pub(crate) at: Instant,
    /// How much earlier is as good.
    pub(crate) slack: Duration,
    /// By the server's clock, the time from which on it wants events.
    pub(crate) since: Timestamp,
    /// The order after which it wants them.
    pub(crate) after_order: Option<u64>,
    pub(crate) reach: Reach,
}

/// How far back a child has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Reach {
    /// What is new. A search that others share will do.
    #[default]
    New,
    /// From where it stands, which is behind what searches and the socket have brought since.
    Behind,
    /// What is new by its order, whatever its time: the server's clock may have been set back.
    AnyTime,
    /// From the first event on, since something is missing.
    Everything,
}

impl Want {
    fn must_be_alone(&self) -> bool {
        self.reach != Reach::New
    }
}

/// One search and whom it serves.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) query: EventQuery,
    pub(super) serves: Vec<WatchKey>,
    /// Whether it looks at all commands.
    pub(super) shared: bool,
    /// How far back it looks for those whom it serves.
    pub(super) reach: Reach,
}

/// Decides the next search. `None`: nobody is due.
pub(super) fn plan(state: &mut State, now: Instant) -> Option<Plan> {
    set_apart(state);
    let mut due: Vec<(WatchKey, EventId, &Want, u32)> = state
        .watched
        .iter()
        .filter_map(|(key, watched)| Some((*key, watched.id, watched.want.as_ref()?, watched.shared)))
        .filter(|(_, _, want, _)| want.at <= now)
        .collect();
    // Who must be asked about alone comes first, then the one who has waited longest.
    due.sort_by_key(|(_, _, want, shared)| (!want.must_be_alone(), *shared < SHARED_IN_A_ROW, want.at));
    let (first, id, want, shared) = due.first()?;
    let alone = want.must_be_alone() || *shared >= SHARED_IN_A_ROW || state.watched.len() == 1;
    let plan = if alone || !state.watched.iter().any(|(key, other)| key != first && joins(other, now)) {
        Plan { query: query_alone(*id, want), serves: vec![*first], shared: false, reach: want.reach }
    } else {
        shared_plan(state, now)
    };
    for key in &plan.serves {
        if let Some(watched) = state.watched.get_mut(key) {
            watched.want = None;
            watched.shared = if plan.shared { watched.shared + 1 } else { 0 };
        }
    }
    Some(plan)
}

/// Lets those search alone who stand far behind the others, as long as no search that others share has told how far
/// everything was seen: a command that was attached to, or that has long been silent, would have such a search bring again
/// what the others have got.
fn set_apart(state: &mut State) {
    if state.seen_until.is_some() {
        return;
    }
    let newest = state.watched.values().map(|watched| watched.stands_at).max();
    let Some(bound) = newest.and_then(|newest| newest.checked_sub(FARTHEST_BACK).ok()) else { return };
    for watched in state.watched.values_mut().filter(|watched| watched.stands_at < bound) {
        watched.shared = SHARED_IN_A_ROW;
    }
}

/// Whether a child's next look may be taken now, and shared.
fn joins(watched: &Watched, now: Instant) -> bool {
    let may_share = |want: &Want| !want.must_be_alone() && want.at <= now + want.slack;
    watched.shared < SHARED_IN_A_ROW && watched.want.as_ref().is_some_and(may_share)
}

fn query_alone(id: EventId, want: &Want) -> EventQuery {
    let (timestamp_gte, order_gt) = match want.reach {
        Reach::Everything => (None, None),
        Reach::AnyTime => (None, want.after_order),
        Reach::New | Reach::Behind => (Some(want.since), want.after_order),
    };
    EventQuery {
        kind: Some(BashEventKind::Output),
        command_id: Some(id),
        timestamp_gte,
        order_gt,
        ..EventQuery::default()
    }
}

fn shared_plan(state: &State, now: Instant) -> Plan {
    let serves = state.watched.iter().filter(|(_, watched)| joins(watched, now)).map(|(key, _)| *key).collect();
    let sharing = state.watched.values().filter(|watched| watched.shared < SHARED_IN_A_ROW);
    let oldest = sharing.map(|watched| watched.stands_at).min();
    let seen = state.seen_until.map(|seen| seen.saturating_sub(OVERLAP).unwrap_or(seen));
    let query =
        EventQuery { kind: Some(BashEventKind::Output), timestamp_gte: oldest.max(seen), ..EventQuery::default() };
    Plan { query, serves, shared: true, reach: Reach::New }
}

#[cfg(test)]
mod tests {
    use actix::{AsyncContext as _, Context};

    use super::*;
    use crate::workspace::watch::CommandWatch;

    const NOW: i64 = 1_800_000_000;

    /// Commands that are all due, and stand so many seconds behind now.
    fn state(behind: &[i64], now: Instant) -> State {
        let mut state = State::default();
        for (key, behind) in (1..).zip(behind) {
            let since = Timestamp::from_second(NOW - behind).unwrap();
            let want = Want { at: now, slack: Duration::ZERO, since, after_order: None, reach: Reach::New };
            let watched = Watched {
                id: EventId::random(),
                watch: Context::<CommandWatch>::new().address(),
                want: Some(want),
                stands_at: since,
                shared: 0,
                at: now,
                head: None,
                instance: None,
            };
            state.watched.insert(WatchKey(key), watched);
        }
        state
    }

    /// What is searched for one after another: whom it serves, and from how many seconds before now on.
    fn plans(mut state: State, now: Instant) -> Vec<(Vec<u64>, Option<i64>)> {
        let next = || {
            let plan = plan(&mut state, now)?;
            let mut serves: Vec<u64> = plan.serves.iter().map(|key| key.0).collect();
            serves.sort_unstable();
            Some((serves, plan.query.timestamp_gte.map(|from| NOW - from.as_second())))
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn commands_that_stand_close_to_each_other_share_a_search_from_the_last_of_them_on() {
        let now = Instant::now();
        assert_eq!(plans(state(&[0, 3, 9], now), now), [(vec![1, 2, 3], Some(9))]);
    }

    #[test]
    fn one_that_stands_far_behind_searches_alone_until_it_is_known_what_was_seen() {
        let now = Instant::now();
        assert_eq!(plans(state(&[0, 3600, 3], now), now), [(vec![2], Some(3600)), (vec![1, 3], Some(3))]);
        let mut seen = state(&[0, 3600, 3], now);
        seen.seen_until = Some(Timestamp::from_second(NOW).unwrap());
        assert_eq!(plans(seen, now), [(vec![1, 2, 3], Some(1))]);
    }
}
