//! What the service does, without HTTP.

mod commands;
mod end;
mod error;
mod events;
mod files;
mod handle;
mod idempotency;
mod leases;
mod listing;
mod name_locks;
mod output;
mod report;
mod restore;
mod retention;
mod run_events;
mod run_handle;
mod run_request;
mod runs;
mod workspace_request;
mod workspaces;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(crate) use commands::{StartRequest, Started, command_location};
pub(crate) use error::EngineError;
pub(crate) use events::{FleetReader, Place};
pub(crate) use handle::CommandHandle;
pub(crate) use idempotency::{Claim, Made};
pub(crate) use leases::{LeaseTerms, LeaseView};
pub(crate) use listing::{CommandFilter, Page};
pub(crate) use output::OutputPage;
pub(crate) use report::{LONGEST_TAIL, RunResults};
pub(crate) use run_handle::{RunCounts, RunFollowed};
pub(crate) use run_request::RunRequest;
pub(crate) use runs::run_location;
pub(crate) use workspace_request::{ConnectionChange, WorkspaceDetail, WorkspaceRequest, WorkspaceView};

use idempotency::Claims;
use name_locks::NameLocks;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    HostPattern, Limits, Retention, ServiceConfig, ServiceError, StoreError,
    metrics::{Metrics, Timed},
    store::{FileStore, Logs, Sealer, StateDirectory, Store},
};
use crate::{Fleet, RunHandle, protocol::EventId};

/// Everything that the service has, shared by all of its routes and tasks.
pub(crate) struct Engine {
    pub(super) fleet: Fleet,
    pub(super) store: Arc<dyn Store>,
    pub(super) logs: Logs,
    /// What is told to those who follow the fleet.
    events: Arc<events::FleetEvents>,
    sealer: Sealer,
    /// The commands that have not ended.
    commands: Mutex<HashMap<EventId, Arc<CommandHandle>>>,
    /// One for each command that may run.
    places: Arc<Semaphore>,
    claims: Claims,
    /// The runs that have not ended.
    runs: Mutex<HashMap<EventId, Arc<RunFollowed>>>,
    /// Runs that were let go of, until the workspaces have let go of their commands.
    let_go: Mutex<Vec<RunHandle>>,
    /// One for each command that may be taken up at the same time.
    taking_up: Arc<Semaphore>,
    /// The workspaces whose servers end with the service.
    local: HashSet<String>,
    limits: Limits,
    /// Where workspaces may be that are added.
    allow_hosts: Vec<HostPattern>,
    /// One change of a workspace after another.
    changing: NameLocks,
    /// The names of the workspaces that the service was started with.
    fixed: HashSet<String>,
    /// The workspaces of the store that cannot be used, and why.
    aside: Mutex<HashMap<String, String>>,
    leases: leases::LeaseBook,
    /// Where workspaces are now that were elsewhere when they were added.
    moved: Mutex<HashMap<String, String>>,
    pub(super) metrics: Arc<Metrics>,
    retention: Retention,
    /// How much is kept of what has ended.
    kept: retention::Kept,
    /// Cancelled when nothing new is taken any more.
    closing: CancellationToken,
    /// What goes on in the background, and must come to its end before the process does.
    tasks: TaskTracker,
    /// Cancelled when the service ends: what runs on the workspaces is let go, to be taken up again.
    pub(super) ending: CancellationToken,
    runtime: tokio::runtime::Handle,
}

impl Engine {
    /// Opens the store and starts the fleet.
    pub(super) async fn start(
        config: &ServiceConfig,
        runtime: tokio::runtime::Handle,
    ) -> Result<Arc<Self>, ServiceError> {
        let metrics = Arc::new(Metrics::new());
        let directory = StateDirectory::take(&config.state_dir)?;
        let (sealer, logs) = (Sealer::open(&directory)?, Logs::open(directory.logs())?);
        let store = Timed { store: FileStore::open(directory)?, metrics: Arc::clone(&metrics) };
        let engine = Arc::new(Self {
            fleet: Fleet::start().map_err(ServiceError::Start)?,
            store: Arc::new(store),
            logs,
            events: Arc::new(events::FleetEvents::new()),
            sealer,
            commands: Mutex::default(),
            places: Arc::new(Semaphore::new(config.limits.commands)),
            claims: Claims::default(),
            runs: Mutex::default(),
            let_go: Mutex::default(),
            taking_up: Arc::new(Semaphore::new(restore::AT_ONCE)),
            local: local(config),
            limits: config.limits,
            allow_hosts: config.allow_hosts.clone(),
            changing: NameLocks::default(),
            fixed: config.workspaces.iter().map(|workspace| workspace.name.clone()).collect(),
            aside: Mutex::default(),
            leases: leases::LeaseBook::default(),
            moved: Mutex::default(),
            metrics: Arc::clone(&metrics),
            retention: config.retention,
            kept: retention::Kept::new(new_id()),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            runtime,
        });
        for workspace in &config.workspaces {
            engine.fleet.add(workspace.clone()).await?;
        }
        let failed = |error: EngineError| ServiceError::Restore(error.to_string());
        engine.restore_workspaces().await.map_err(failed)?;
        engine.note_unfinished()?;
        engine.restore_work().await.map_err(failed)?;
        engine.spawn(Arc::clone(&engine).retain());
        Ok(engine)
    }

    /// Carries something out in the background.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }
}

fn local(config: &ServiceConfig) -> HashSet<String> {
    let names = config.workspaces.iter().filter(|_| config.workspaces_end).map(|workspace| workspace.name.clone());
    names.collect()
}

/// A new id that is larger than those before it.
fn new_id() -> EventId {
    EventId::now()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The records hold no key that this process would not read.
fn damaged(error: impl std::fmt::Display, key: &str) -> StoreError {
    StoreError::Damaged { table: "workspaces", key: key.to_owned(), reason: error.to_string() }
}
