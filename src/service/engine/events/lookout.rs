use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    FleetEvents, State,
    note::{CommandTold, Note, RunTold},
    ring::Ring,
};
use crate::{
    HealthState, Selector,
    fleet::{FleetStatus, WorkspaceInfo},
    protocol::EventId,
    service::{
        engine::{Engine, RunCounts, lock},
        store::{CommandState, RunRecord},
    },
};

/// How often what commands and runs did is told.
const FLUSH: Duration = Duration::from_millis(100);

/// How many flushes lie between two looks at the fleet.
const LOOK_EVERY: u64 = 10;

/// For how long events are kept when nobody reads, so that who comes back misses nothing.
const LINGER: Duration = Duration::from_secs(30);

/// How many workspaces one event tells of at most.
const BATCH: usize = 500;

/// Compares the fleet with what it was.
#[derive(Default)]
struct Lookout {
    known: HashMap<String, WorkspaceInfo>,
    last: Option<(Instant, FleetStatus)>,
    /// How far the runs were that went on.
    runs: HashMap<EventId, RunCounts>,
    /// How long commands took to start since the last look.
    starts: Vec<Duration>,
}

/// What is seen at one look.
struct Look {
    workspaces: Vec<WorkspaceInfo>,
    status: FleetStatus,
    runs: Vec<(Arc<RunRecord>, RunCounts)>,
}

/// What changed among the workspaces.
#[derive(Default, Serialize)]
struct Changes<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    added: Vec<&'a WorkspaceInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changed: Vec<Changed<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    removed: Vec<&'a str>,
}

#[derive(Serialize)]
struct Changed<'a> {
    name: &'a str,
    health: HealthState,
}

/// How the fleet does, told each second.
#[derive(Serialize)]
struct Stats<'a> {
    time: jiff::Timestamp,
    /// How many workspaces are in each state.
    health: BTreeMap<&'static str, usize>,
    /// Commands that ended in a second, of the time since the last look.
    commands_per_second: f64,
    /// Commands that started in a second.
    starts_per_second: f64,
    /// Bytes of output that were read in a second.
    output_bytes_per_second: f64,
    /// How long the commands that started since the last look took to start, from the request on; absent where none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ms: Option<Quantiles>,
    #[serde(flatten)]
    status: &'a FleetStatus,
}

#[derive(Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

impl Engine {
    /// Looks out until nobody has read for a while, or the service ends.
    pub(super) async fn look_out(self: Arc<Self>) {
        let mut lookout = Lookout::default();
        let mut ticks = interval(FLUSH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flushes = 0_u64;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.ending.cancelled() => return,
            }
            if !self.events.is_wanted() {
                return;
            }
            let look = if flushes.is_multiple_of(LOOK_EVERY) { Some(self.look().await) } else { None };
            flushes += 1;
            if lookout.tell(&self.events, look) {
                self.events.changed.send_replace(());
            }
        }
    }

    async fn look(&self) -> Look {
        let (workspaces, status) = (self.listed(Selector::all()).await, self.fleet.status().await);
        let runs = lock(&self.runs).values().map(|run| (run.record(), run.counts())).collect();
        Look { workspaces, status, runs }
    }
}

impl FleetEvents {
    /// Whether somebody reads or has just done so; otherwise everything is forgotten, and the next reader begins anew.
    fn is_wanted(&self) -> bool {
        let mut state = self.lock();
        let is_wanted = state.readers > 0 || state.left.is_some_and(|left| left.elapsed() < LINGER);
        if !is_wanted {
            let next = state.ring.as_ref().map_or(state.next, |ring| ring.next() + 1);
            *state = State { next, ..State::default() };
        }
        is_wanted
    }
}

impl Lookout {
    /// Makes events of what was noted and seen. Returns whether there are any.
    fn tell(&mut self, events: &FleetEvents, look: Option<Look>) -> bool {
        let (notes, is_flooded) = {
            let mut state = events.lock();
            (std::mem::take(&mut state.notes), std::mem::take(&mut state.is_flooded))
        };
        // Rendered aside, so that nobody who reads or notes waits for it.
        let mut told = Told(Vec::new());
        self.tell_notes(&notes, &mut told);
        let is_first = self.last.is_none();
        if let Some(Look { workspaces, status, runs }) = look {
            if is_first {
                self.known = workspaces.into_iter().map(|info| (info.name.clone(), info)).collect();
            } else {
                self.tell_workspaces(workspaces, &mut told);
            }
            self.tell_runs(runs, &mut told);
            self.tell_stats(&status, &mut told);
            self.last = Some((Instant::now(), status));
        }
        let mut state = events.lock();
        let next = state.next;
        let ring = state.ring.get_or_insert_with(|| Ring::new(events.boot, next));
        if is_flooded {
            ring.cut();
        }
        told.0.iter().for_each(|(name, data)| ring.push(name, data));
        is_first || is_flooded || !told.0.is_empty()
    }

    fn tell_notes(&mut self, notes: &[Note], told: &mut Told) {
        for note in notes {
            match note {
                Note::Command(record) => {
                    if record.state == CommandState::Running
                        && let Some(started) = record.started
                    {
                        self.starts.push(started.duration_since(record.created).unsigned_abs());
                    }
                    told.push("command", &CommandTold::from(&**record));
                }
                Note::Run(record, counts) => told.push("run", &RunTold::new(record, counts)),
            }
        }
    }

    fn tell_runs(&mut self, runs: Vec<(Arc<RunRecord>, RunCounts)>, told: &mut Told) {
        let before = std::mem::take(&mut self.runs);
        for (record, counts) in runs {
            if before.get(&record.id) != Some(&counts) {
                told.push("run", &RunTold::new(&record, &counts));
            }
            self.runs.insert(record.id, counts);
        }
    }

    fn tell_workspaces(&mut self, list: Vec<WorkspaceInfo>, told: &mut Told) {
        let mut before = std::mem::take(&mut self.known);
        let (mut added, mut changed) = (Vec::new(), Vec::new());
        for info in list {
            match before.remove(&info.name) {
                Some(was) if was.host == info.host && was.labels == info.labels => {
                    if was.health != info.health {
                        changed.push((info.name.clone(), info.health));
                    }
                }
                // One that was removed and added again may be elsewhere.
                _ => added.push(info.name.clone()),
            }
            self.known.insert(info.name.clone(), info);
        }
        let removed: Vec<&str> = before.keys().map(String::as_str).collect();
        for names in removed.chunks(BATCH) {
            told.push("workspaces", &Changes { removed: names.to_vec(), ..Changes::default() });
        }
        for names in added.chunks(BATCH) {
            let added = names.iter().filter_map(|name| self.known.get(name)).collect();
            told.push("workspaces", &Changes { added, ..Changes::default() });
        }
        for batch in changed.chunks(BATCH) {
            let changed = batch.iter().map(|(name, health)| Changed { name, health: *health }).collect();
            told.push("workspaces", &Changes { changed, ..Changes::default() });
        }
    }

    fn tell_stats(&mut self, status: &FleetStatus, told: &mut Told) {
        let mut health = BTreeMap::new();
        for info in self.known.values() {
            *health.entry(info.health.name()).or_insert(0) += 1;
        }
        let (elapsed, before) = match &self.last {
            Some((at, before)) => (at.elapsed().as_secs_f64().max(0.001), before.totals),
            None => (1.0, status.totals),
        };
        #[allow(clippy::cast_precision_loss, reason = "no such count is lost below 2^53")]
        let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / elapsed * 10.0).round() / 10.0;
        let stats = Stats {
            time: jiff::Timestamp::now(),
            health,
            commands_per_second: rate(status.totals.commands_finished, before.commands_finished),
            starts_per_second: rate(status.totals.commands_started, before.commands_started),
            output_bytes_per_second: rate(status.totals.output_bytes, before.output_bytes),
            start_ms: Quantiles::of(std::mem::take(&mut self.starts)),
            status,
        };
        told.push("stats", &stats);
    }
}

/// Events that are to be put into the ring.
struct Told(Vec<(&'static str, Box<serde_json::value::RawValue>)>);

impl Told {
    fn push(&mut self, name: &'static str, data: &impl Serialize) {
        // They are structures of texts and numbers, which JSON can always hold.
        if let Ok(data) = serde_json::value::to_raw_value(data) {
            self.0.push((name, data));
        }
    }
}

impl Quantiles {
    fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        let last = durations.len().checked_sub(1)?;
        let at = |part: usize| (durations[last * part / 100].as_secs_f64() * 10_000.0).round() / 10.0;
        Some(Self { p50: at(50), p99: at(99) })
    }
}
