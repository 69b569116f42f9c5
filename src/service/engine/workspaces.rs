use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;

use super::{ConnectionChange, Engine, EngineError, WorkspaceDetail, WorkspaceRequest, WorkspaceView, damaged, lock};
use crate::{
    Connection, OnRemove, Selector, Snapshot, Workspace,
    fleet::WorkspaceInfo,
    service::{
        StoreError, hosts,
        store::{Change, Order, SealedWorkspace, Table, WorkspaceRecord},
    },
};

/// How many records are read at once.
const PAGE: usize = 1000;

impl Engine {
    /// Adds a workspace, and writes it down before it is acknowledged.
    pub(crate) async fn add_workspace(&self, request: WorkspaceRequest) -> Result<Workspace, EngineError> {
        request.check()?;
        let config = request.config()?;
        self.check_host(&config.connection)?;
        let record = self.table_workspace(&request, Timestamp::now())?;
        let _one = self.changing.lock(&request.name).await;
        if self.fleet.workspace(&request.name).await.is_some() || self.is_usable_elsewhere(&request.name) {
            return Err(EngineError::Conflict(format!("there is a workspace {} already", request.name)));
        }
        if self.fixed.contains(&request.name) {
            let what = format!(
                "{} is the name of a workspace that the service was started with, and will be there again: take another",
                request.name
            );
            return Err(EngineError::Conflict(what));
        }
        let workspace = self.fleet.add(config).await?;
        if let Err(error) = self.store.commit(vec![Table::Workspaces.put(&request.name, &record)]).await {
            // What is not written down is not there.
            let _ = self.fleet.remove(&request.name).await;
            return Err(error.into());
        }
        lock(&self.aside).remove(&request.name);
        Ok(workspace)
    }

    /// Whether a workspace is left aside that could be used with other settings of the service. One whose record cannot be read
    /// can only be replaced.
    fn is_usable_elsewhere(&self, name: &str) -> bool {
        let is_readable = || {
            let record = self.stored_workspace(name).ok().flatten();
            record.is_some_and(|record| self.unseal(name, record).is_ok())
        };
        lock(&self.aside).contains_key(name) && is_readable()
    }

    fn check_host(&self, connection: &Connection) -> Result<(), EngineError> {
        if hosts::is_allowed(&self.allow_hosts, connection.host()) {
            return Ok(());
        }
        Err(EngineError::HostNotAllowed(connection.host().host_str().unwrap_or_default().to_owned()))
    }

    fn table_workspace(&self, request: &WorkspaceRequest, added: Timestamp) -> Result<WorkspaceRecord, EngineError> {
        let place = &request.name;
        let api_key = request.api_key.as_ref().map(|key| self.sealer.seal(place, key)).transpose()?;
        let seal = |(name, value): (&String, &SecretString)| Ok((name.clone(), self.sealer.seal(place, value)?));
        let headers = request.headers.iter().map(seal).collect::<Result<_, StoreError>>()?;
        let request = serde_json::to_value(request).map_err(|error| damaged(error, place))?;
        Ok(WorkspaceRecord { added, request, sealed: SealedWorkspace { api_key, headers } })
    }

    /// Changes the way to a workspace, and writes it down before it is acknowledged.
    pub(crate) async fn update_workspace(&self, name: &str, change: ConnectionChange) -> Result<(), EngineError> {
        let _one = self.changing.lock(name).await;
        let workspace = match self.workspace(name).await {
            Ok(workspace) => Some(workspace),
            Err(EngineError::LeftAside { .. }) => None,
            Err(error) => return Err(error),
        };
        let Some(record) = self.stored_workspace(name)? else {
            let what =
                format!("{name} is a workspace that the service was started with: what it is says its command line");
            return Err(EngineError::Conflict(what));
        };
        let added = record.added;
        let mut request = self.unseal(name, record)?;
        change.apply(&mut request)?;
        let config = request.config()?;
        self.check_host(&config.connection)?;
        let record = self.table_workspace(&request, added)?;
        self.store.commit(vec![Table::Workspaces.put(name, &record)]).await?;
        let Some(workspace) = workspace else {
            self.fleet.add(config).await?;
            lock(&self.aside).remove(name);
            return Ok(());
        };
        let connection = config.connection;
        lock(&self.moved).insert(name.to_owned(), connection.host().to_string());
        Ok(workspace.update_connection(connection).await?)
    }

    fn stored_workspace(&self, name: &str) -> Result<Option<WorkspaceRecord>, EngineError> {
        let bytes = self.store.get(Table::Workspaces, name)?;
        Ok(bytes.map(|bytes| Table::Workspaces.read(name, &bytes)).transpose()?)
    }

    /// Removes a workspace, and stops its commands or lets them run on. That goes on also when nobody waits for it.
    pub(crate) async fn remove_workspace(self: &Arc<Self>, name: &str, on_remove: OnRemove) -> Result<(), EngineError> {
        let (engine, name) = (Arc::clone(self), name.to_owned());
        let removal = async move { engine.take_out(&name, on_remove).await };
        self.tasks.spawn_on(removal, &self.runtime).await.unwrap_or(Err(EngineError::Ending))
    }

    async fn take_out(&self, name: &str, on_remove: OnRemove) -> Result<(), EngineError> {
        let _one = self.changing.lock(name).await;
        let is_aside = match self.workspace(name).await {
            Ok(_) => false,
            Err(EngineError::LeftAside { .. }) => true,
            Err(error) => return Err(error),
        };
        self.store.commit(vec![Change::Remove(Table::Workspaces, name.to_owned())]).await?;
        lock(&self.moved).remove(name);
        if is_aside {
            lock(&self.aside).remove(name);
            return Ok(());
        }
        Ok(self.fleet.remove_with(name, on_remove).await?)
    }

    /// The workspace of this name.
    pub(crate) async fn workspace(&self, name: &str) -> Result<Workspace, EngineError> {
        let found = self.fleet.workspace(name).await;
        found.ok_or_else(|| self.missing(name))
    }

    /// Why there is no workspace of this name.
    fn missing(&self, name: &str) -> EngineError {
        match lock(&self.aside).get(name) {
            Some(reason) => EngineError::LeftAside { name: name.to_owned(), reason: reason.clone() },
            None => EngineError::NotFound { what: "workspace", name: name.to_owned() },
        }
    }

    /// The workspaces that a selector picks.
    pub(crate) async fn workspaces(&self, selector: Selector) -> Vec<WorkspaceView> {
        let view = |info: WorkspaceInfo| WorkspaceView {
            name: info.name,
            host: info.host,
            labels: info.labels,
            working_dir: info.working_dir,
            health: info.health,
        };
        self.listed(selector).await.into_iter().map(view).collect()
    }

    /// What the fleet knows of the workspaces that a selector picks, with where they are now.
    pub(super) async fn listed(&self, selector: Selector) -> Vec<WorkspaceInfo> {
        let mut list = self.fleet.list(selector).await;
        // The fleet tells where a workspace was when it was added.
        let moved = lock(&self.moved);
        if !moved.is_empty() {
            for info in &mut list {
                if let Some(host) = moved.get(&info.name) {
                    info.host.clone_from(host);
                }
            }
        }
        list
    }

    /// Everything that is known of a workspace.
    pub(crate) async fn workspace_detail(&self, name: &str) -> Result<WorkspaceDetail, EngineError> {
        self.workspace(name).await?;
        let found = self.workspaces(Selector::names([name])).await.into_iter().next();
        let mut view = found.ok_or_else(|| self.missing(name))?;
        let snapshot = self.snapshot(name).await?;
        view.health = snapshot.health.state;
        let settings = match self.stored_workspace(name)? {
            None => None,
            Some(record) => {
                let request: WorkspaceRequest =
                    serde_json::from_value(record.request).map_err(|error| damaged(error, name))?;
                Some(request.settings(record.added, &record.sealed))
            }
        };
        Ok(WorkspaceDetail { view, settings, snapshot })
    }

    /// How a workspace does.
    async fn snapshot(&self, name: &str) -> Result<Snapshot, EngineError> {
        let found = self.fleet.snapshots(Selector::names([name])).await.into_iter().next();
        found.ok_or_else(|| self.missing(name))
    }

    /// Adds the workspaces that were there before. One that cannot be used any more is left aside.
    pub(super) async fn restore_workspaces(&self) -> Result<(), EngineError> {
        let mut from = None;
        loop {
            let page = self.store.list(Table::Workspaces, from.as_deref(), Order::Ascending, PAGE)?;
            for (name, bytes) in &page {
                if self.fixed.contains(name) {
                    return Err(EngineError::Conflict(two_of(name)));
                }
                if let Err(error) = self.restore_workspace(name, bytes).await {
                    // One that cannot be used is no reason to leave all others.
                    log::error!("the stored workspace {name} is left aside: {error}");
                    lock(&self.aside).insert(name.clone(), error.to_string());
                }
            }
            match page.into_iter().next_back() {
                Some((name, _)) => from = Some(name),
                None => return Ok(()),
            }
        }
    }

    async fn restore_workspace(&self, name: &str, bytes: &Bytes) -> Result<(), EngineError> {
        let record: WorkspaceRecord = Table::Workspaces.read(name, bytes)?;
        let config = self.unseal(name, record)?.config()?;
        // What may be has changed since it was added.
        self.check_host(&config.connection)?;
        self.fleet.add(config).await?;
        Ok(())
    }

    /// How many stored workspaces cannot be used.
    pub(crate) fn left_aside(&self) -> usize {
        lock(&self.aside).len()
    }

    fn unseal(&self, name: &str, record: WorkspaceRecord) -> Result<WorkspaceRequest, StoreError> {
        let mut request: WorkspaceRequest =
            serde_json::from_value(record.request).map_err(|error| damaged(error, name))?;
        let SealedWorkspace { api_key, headers } = record.sealed;
        request.api_key = api_key.map(|sealed| self.sealer.open_text(name, &sealed)).transpose()?;
        for (header, sealed) in headers {
            request.headers.insert(header, self.sealer.open_text(name, &sealed)?);
        }
        Ok(request)
    }
}

/// What is said of a name that is there twice: commands that belong in one sandbox would run in the other.
fn two_of(name: &str) -> String {
    format!(
        "it has a workspace {name}, and the service is started with another of this name, in which the commands of the first \
         would run; start the service without that, as without --local, and remove the stored one by DELETE \
         /v1/workspaces/{name}, or start it with another --state-dir"
    )
}
