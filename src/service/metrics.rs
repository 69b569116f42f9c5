use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix_web::http::Method;
use futures::{FutureExt as _, future::BoxFuture};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{
    StoreError,
    store::{Change, CommandRecord, Order, Store, Table},
};
use crate::FleetStatus;
use bytes::Bytes;

/// What is counted and measured. Nothing of it is kept for each workspace: of those there may be very many.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_time: Family<RouteLabels, Histogram, fn() -> Histogram>,
    commands: Family<OutcomeLabels, Counter>,
    start_time: Histogram,
    commit_time: Histogram,
    /// Who reads server-sent events now.
    pub(super) readers: Gauge,
    /// Bytes of files and directories that came in.
    pub(super) uploaded: Counter,
    /// Bytes of files and directories that went out.
    pub(super) downloaded: Counter,
    fleet: FleetMetrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: String,
}

/// What the fleet tells when it is asked.
#[derive(Default)]
struct FleetMetrics {
    gauges: [Gauge; 7],
    counters: [Counter; 9],
}

const GAUGES: [(&str, &str); 7] = [
    ("workspaces", "Workspaces in the fleet"),
    ("workspaces_stopped", "Workspaces that take no further step"),
    ("workspaces_connected", "Workspaces that hold a client"),
    ("steps_running", "Steps being carried out"),
    ("steps_waiting", "Steps waiting for their turn, over all workspaces"),
    ("commands_running", "Commands being watched, those of runs included"),
    ("runs_running", "Runs that go on"),
];

const COUNTERS: [(&str, &str); 9] = [
    ("fleet_commands_started", "Commands started on workspaces, those of runs included"),
    ("fleet_commands_finished", "Commands whose end was seen, or given up on"),
    ("polls", "Searches for output"),
    ("poll_failures", "Searches for output that failed"),
    ("pushed_events", "Events of commands that servers pushed"),
    ("starts_recovered", "Starts whose answer was lost and that were found or sent again"),
    ("output_bytes", "Bytes of output read from workspaces"),
    ("workspace_restarts", "Restarts of workspace actors after a panic"),
    ("command_restarts", "Restarts of the watches of commands after a panic"),
];

impl FleetMetrics {
    fn set(&self, status: &FleetStatus) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let gauges = [
            status.workspaces,
            status.stopped_workspaces,
            status.connected_workspaces,
            status.running_steps,
            status.waiting_steps,
            status.running_commands,
            status.running_runs,
        ];
        for (gauge, value) in self.gauges.iter().zip(gauges) {
            gauge.set(count(value));
        }
        let totals = &status.totals;
        let counters = [
            totals.commands_started,
            totals.commands_finished,
            totals.polls,
            totals.poll_failures,
            totals.pushed_events,
            totals.starts_recovered,
            totals.output_bytes,
            totals.restarts,
            totals.command_restarts,
        ];
        for (counter, value) in self.counters.iter().zip(counters) {
            counter.inner().store(value, Ordering::Relaxed);
        }
    }
}

/// Half a millisecond to a minute.
fn times() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("wsfleet"),
            requests: Family::default(),
            request_time: Family::new_with_constructor(times),
            commands: Family::default(),
            start_time: times(),
            commit_time: times(),
            readers: Gauge::default(),
            uploaded: Counter::default(),
            downloaded: Counter::default(),
            fleet: FleetMetrics::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests by route and status", self.requests.clone());
        let text = "From a request to the head of its answer, by route";
        registry.register("http_request_duration_seconds", text, self.request_time.clone());
        registry.register("commands", "Commands of the service that have ended, by outcome", self.commands.clone());
        let text = "From the request for a command to its start on its workspace";
        registry.register("command_start_duration_seconds", text, self.start_time.clone());
        registry.register("store_commit_duration_seconds", "Until records are on the disk", self.commit_time.clone());
        registry.register("sse_readers", "Readers of server-sent events", self.readers.clone());
        registry.register("uploaded_bytes", "Bytes of files and directories that came in", self.uploaded.clone());
        registry.register("downloaded_bytes", "Bytes of files and directories that went out", self.downloaded.clone());
        for ((name, help), gauge) in GAUGES.iter().zip(&self.fleet.gauges) {
            registry.register(*name, *help, gauge.clone());
        }
        for ((name, help), counter) in COUNTERS.iter().zip(&self.fleet.counters) {
            registry.register(*name, *help, counter.clone());
        }
    }

    /// Takes in that a request was answered.
    pub(super) fn request(&self, method: &Method, route: &str, status: u16, took: Duration) {
        let method = match method.as_str() {
            known @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "HEAD") => known,
            // Whoever asks could make up any number of them.
            _ => "other",
        };
        let (method, route) = (method.to_owned(), route.to_owned());
        let labels = RouteLabels { method: method.clone(), route: route.clone() };
        self.request_time.get_or_create(&labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { method, route, status }).inc();
    }

    /// Takes in that a command was started.
    pub(super) fn command_started(&self, record: &CommandRecord) {
        if let Some(started) = record.started {
            self.start_time.observe(started.duration_since(record.created).as_secs_f64().max(0.0));
        }
    }

    /// Takes in that a command has ended.
    pub(super) fn command_ended(&self, record: &CommandRecord) {
        if let Some(outcome) = record.outcome {
            self.commands.get_or_create(&OutcomeLabels { outcome: outcome.to_string() }).inc();
        }
    }

    /// Everything as text, in the OpenMetrics format.
    pub(super) fn text(&self, status: &FleetStatus) -> String {
        self.fleet.set(status);
        let mut text = String::new();
        // A text takes whatever is written to it.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// A store whose commits are timed.
pub(super) struct Timed<S> {
    pub(super) store: S,
    pub(super) metrics: Arc<Metrics>,
}

impl<S> Timed<S> {
    fn timed<T: Send + 'static>(&self, commit: BoxFuture<'static, T>) -> BoxFuture<'static, T> {
        let metrics = Arc::clone(&self.metrics);
        let began = std::time::Instant::now();
        async move {
            let done = commit.await;
            metrics.commit_time.observe(began.elapsed().as_secs_f64());
            done
        }
        .boxed()
    }
}

impl<S: Store> Store for Timed<S> {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<(), StoreError>> {
        self.timed(self.store.commit(changes))
    }

    fn commit_new(
        &self,
        table: Table,
        key: String,
        changes: Vec<Change>,
    ) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        self.timed(self.store.commit_new(table, key, changes))
    }

    fn failing(&self) -> Option<String> {
        self.store.failing()
    }

    fn get(&self, table: Table, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.store.get(table, key)
    }

    fn list(
        &self,
        table: Table,
        from: Option<&str>,
        order: Order,
        most: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.store.list(table, from, order, most)
    }
}
