//! What the service does, without HTTP.

mod commands;
mod error;
mod events;
mod workspaces;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

pub(crate) use commands::{CommandHandle, StartRequest};
pub(crate) use error::EngineError;
pub(crate) use events::{FleetReader, Place};
pub(crate) use workspaces::{WorkspaceRequest, WorkspaceView};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ServiceConfig, ServiceError, StoreError,
    store::{FileStore, Logs, Sealer, Store},
};
use crate::{Fleet, protocol::EventId};

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
        let store = FileStore::open(&config.state_dir)?;
        let engine = Arc::new(Self {
            fleet: Fleet::start().map_err(ServiceError::Start)?,
            store: Arc::new(store),
            logs: Logs::open(config.state_dir.join("logs"))?,
            events: Arc::new(events::FleetEvents::new()),
            sealer: Sealer::open(&config.state_dir.join("key"))?,
            commands: Mutex::default(),
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

/// The records hold no key that this process would not read.
fn damaged(error: impl std::fmt::Display, key: &str) -> StoreError {
    StoreError::Damaged { table: "workspaces", key: key.to_owned(), reason: error.to_string() }
}
