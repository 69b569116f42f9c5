//! What the service does, without HTTP.

mod commands;
mod error;
mod files;
mod handle;
mod idempotency;
mod leases;
mod listing;
mod output;
mod workspaces;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub(crate) use commands::{StartRequest, Started, command_location};
pub(crate) use error::EngineError;
pub(crate) use handle::CommandHandle;
pub(crate) use idempotency::{Claim, Made};
pub(crate) use leases::{LeaseTerms, LeaseView};
pub(crate) use listing::{CommandFilter, Page};
pub(crate) use output::{CommandOutput, OutputPage, OutputPiece};
pub(crate) use workspaces::{ConnectionChange, WorkspaceDetail, WorkspaceRequest, WorkspaceView};

use idempotency::Claims;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    HostPattern, Limits, ServiceConfig, ServiceError, StoreError,
    metrics::{Metrics, Timed},
    store::{FileStore, Logs, Sealer, Store},
};
use crate::{Fleet, protocol::EventId};

/// Everything that the service has, shared by all of its routes and tasks.
pub(crate) struct Engine {
    pub(super) fleet: Fleet,
    pub(super) store: Arc<dyn Store>,
    pub(super) logs: Logs,
    sealer: Sealer,
    /// The commands that have not ended.
    commands: Mutex<HashMap<EventId, Arc<CommandHandle>>>,
    /// One for each command that may run.
    places: Arc<Semaphore>,
    claims: Claims,
    limits: Limits,
    /// Where workspaces may be that are added.
    allow_hosts: Vec<HostPattern>,
    /// One change of a workspace after another.
    changing: tokio::sync::Mutex<()>,
    leases: leases::LeaseBook,
    pub(super) metrics: Arc<Metrics>,
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
        let store = Timed { store: FileStore::open(&config.state_dir)?, metrics: Arc::clone(&metrics) };
        let engine = Arc::new(Self {
            fleet: Fleet::start().map_err(ServiceError::Start)?,
            store: Arc::new(store),
            logs: Logs::open(config.state_dir.join("logs"))?,
            sealer: Sealer::open(&config.state_dir.join("key"))?,
            commands: Mutex::default(),
            places: Arc::new(Semaphore::new(config.limits.commands)),
            claims: Claims::default(),
            limits: config.limits,
            allow_hosts: config.allow_hosts.clone(),
            changing: tokio::sync::Mutex::default(),
            leases: leases::LeaseBook::default(),
            metrics: Arc::clone(&metrics),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
            runtime,
        });
        for workspace in &config.workspaces {
            engine.fleet.add(workspace.clone()).await?;
        }
        engine.restore_workspaces().await.map_err(|error| ServiceError::Restore(error.to_string()))?;
        Ok(engine)
    }

    /// Lets go of everything that runs, and returns when all is written down.
    pub(super) async fn end(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.fleet.clone().shutdown().await;
    }

    /// Carries something out in the background.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }
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
