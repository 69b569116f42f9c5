use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{State, WatchKey};
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
    let plan = if alone || !state.watched.iter().any(|(key, other)| key != first && joins(other.want.as_ref(), now)) {
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

/// Whether a child's next look may be taken now.
fn joins(want: Option<&Want>, now: Instant) -> bool {
    want.is_some_and(|want| !want.must_be_alone() && want.at <= now + want.slack)
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
    let serves =
        state.watched.iter().filter(|(_, watched)| joins(watched.want.as_ref(), now)).map(|(key, _)| *key).collect();
    // Nothing of a running command is older than the oldest of them.
    let oldest = state.watched.values().map(|watched| watched.started).min();
    let seen = state.seen_until.map(|seen| seen.saturating_sub(OVERLAP).unwrap_or(seen));
    let query =
        EventQuery { kind: Some(BashEventKind::Output), timestamp_gte: oldest.max(seen), ..EventQuery::default() };
    Plan { query, serves, shared: true, reach: Reach::New }
}
