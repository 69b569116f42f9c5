use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Engine, EngineError, damaged, lock};
use crate::{
    Connection, HealthState, OnRemove, Push, Selector, Snapshot, Workspace, WorkspaceConfig,
    service::{
        StoreError, hosts,
        schemas::{HealthStateSchema, SnapshotSchema},
        store::{Change, Order, SealedWorkspace, Table, WorkspaceRecord},
    },
};

/// How many records are read at once.
const PAGE: usize = 1000;

/// A workspace that is to be added.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkspaceRequest {
    /// Its name, unique in this service.
    #[schema(min_length = 1, max_length = 200)]
    pub(crate) name: String,
    /// The address of its agent server: http or https.
    pub(crate) host: String,
    /// The session key of its agent server. It is never told again.
    #[serde(default, skip_serializing)]
    #[schema(value_type = Option<String>, write_only)]
    pub(crate) api_key: Option<SecretString>,
    /// Headers that a gateway before it asks for. Their values are never told again.
    #[serde(default, skip_serializing)]
    #[schema(value_type = BTreeMap<String, String>, write_only)]
    pub(crate) headers: BTreeMap<String, SecretString>,
    /// The path before `/bash`, `/file` and `/git`. Default: `/api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_prefix: Option<String>,
    /// Labels to select it by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    /// The directory to which relative git paths are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) working_dir: Option<String>,
    /// The directory in which commands run that name none. Default: the server's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default_cwd: Option<String>,
    /// How many steps are carried out at once. Default: 1, which keeps them in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1024)]
    pub(crate) max_concurrent_steps: Option<usize>,
    /// Whether its server pushes output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) push: Option<PushChoice>,
    /// How often its server is asked whether it is there while nothing else is asked of it, in milliseconds. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 100)]
    pub(crate) probe_interval_ms: Option<u64>,
}

/// Whether output is pushed by a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PushChoice {
    /// Where the server announces that it does so as output comes.
    Auto,
    /// Wherever it can be.
    Always,
    /// Nowhere.
    Never,
}

/// A workspace as it is told of.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WorkspaceView {
    /// Its name.
    pub(crate) name: String,
    /// Where its agent server is.
    pub(crate) host: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// How its server did a moment ago.
    #[schema(value_type = HealthStateSchema)]
    pub(crate) health: HealthState,
}

/// A workspace with everything that is known of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WorkspaceDetail {
    #[serde(flatten)]
    pub(crate) view: WorkspaceView,
    /// How it was added; null for one that the service was started with.
    pub(crate) settings: Option<WorkspaceSettings>,
    /// What is counted on it.
    #[schema(value_type = SnapshotSchema)]
    pub(crate) snapshot: Snapshot,
}

/// How a workspace was added, without its secrets.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WorkspaceSettings {
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) added: Timestamp,
    /// Whether it has a session key.
    pub(crate) has_api_key: bool,
    /// The names of the headers that are sent to it.
    pub(crate) header_names: Vec<String>,
    /// The path before `/bash`, `/file` and `/git`.
    pub(crate) api_prefix: Option<String>,
    /// The directory to which relative git paths are joined.
    pub(crate) working_dir: Option<String>,
    /// The directory in which commands run that name none.
    pub(crate) default_cwd: Option<String>,
    /// How many steps are carried out at once.
    pub(crate) max_concurrent_steps: usize,
    /// Whether its server pushes output.
    pub(crate) push: PushChoice,
    /// How often its server is asked whether it is there while nothing else is asked of it, in milliseconds.
    pub(crate) probe_interval_ms: Option<u64>,
}

/// Another way to a workspace. What is left out stays as it is.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionChange {
    /// The address of its agent server: http or https.
    #[serde(default)]
    pub(crate) host: Option<String>,
    /// The session key of its agent server; an empty one is none. It is never told again.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    pub(crate) api_key: Option<SecretString>,
    /// Headers that a gateway before it asks for, in place of all that there are. Their values are never told again.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>, write_only)]
    pub(crate) headers: Option<BTreeMap<String, SecretString>>,
    /// The path before `/bash`, `/file` and `/git`.
    #[serde(default)]
    pub(crate) api_prefix: Option<String>,
}

/// The longest name of a workspace, and the longest label and value, in characters.
const LONGEST_NAME: usize = 200;

/// The most labels, and the most headers.
const MOST: usize = 100;

impl WorkspaceRequest {
    /// Refuses what would be in the way later.
    fn check(&self) -> Result<(), EngineError> {
        let is_name =
            |name: &str| (1..=LONGEST_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        if !is_name(&self.name) || matches!(self.name.as_str(), "." | "..") {
            let what = format!(
                "a name has 1 to {LONGEST_NAME} characters, none of them a control character, and is not . or .."
            );
            return Err(EngineError::Invalid(what));
        }
        let is_label = |(name, value): (&String, &String)| is_name(name) && (value.is_empty() || is_name(value));
        if self.labels.len() > MOST || !self.labels.iter().all(is_label) {
            let what = format!("there are {MOST} labels at most, of {LONGEST_NAME} characters at most");
            return Err(EngineError::Invalid(what));
        }
        if self.headers.len() > MOST {
            return Err(EngineError::Invalid(format!("there are {MOST} headers at most")));
        }
        Ok(())
    }

    fn settings(&self, added: Timestamp, sealed: &SealedWorkspace) -> WorkspaceSettings {
        WorkspaceSettings {
            added,
            has_api_key: sealed.api_key.is_some(),
            header_names: sealed.headers.keys().cloned().collect(),
            api_prefix: self.api_prefix.clone(),
            working_dir: self.working_dir.clone(),
            default_cwd: self.default_cwd.clone(),
            max_concurrent_steps: self.max_concurrent_steps.unwrap_or(1).clamp(1, 1024),
            push: self.push.unwrap_or(PushChoice::Auto),
            probe_interval_ms: self.probe_interval_ms,
        }
    }

    fn connection(&self) -> Result<Connection, EngineError> {
        let mut connection = Connection::new(&self.host)?;
        if let Some(key) = &self.api_key {
            connection = connection.with_api_key(key.clone());
        }
        for (name, value) in &self.headers {
            connection = connection.with_header(name, value.clone())?;
        }
        match &self.api_prefix {
            Some(prefix) => Ok(connection.with_api_prefix(prefix)?),
            None => Ok(connection),
        }
    }

    fn config(&self) -> Result<WorkspaceConfig, EngineError> {
        let mut config = WorkspaceConfig::new(&self.name, self.connection()?);
        config.labels.clone_from(&self.labels);
        config.working_dir.clone_from(&self.working_dir);
        config.default_cwd.clone_from(&self.default_cwd);
        if let Some(steps) = self.max_concurrent_steps {
            config.max_concurrent_steps = steps.clamp(1, 1024);
        }
        config.push = match self.push {
            None | Some(PushChoice::Auto) => Push::Auto,
            Some(PushChoice::Always) => Push::Always,
            Some(PushChoice::Never) => Push::Never,
        };
        config.probe_interval = self.probe_interval_ms.map(|millis| Duration::from_millis(millis.max(100)));
        Ok(config)
    }
}

impl Engine {
    /// Adds a workspace, and writes it down before it is acknowledged.
    pub(crate) async fn add_workspace(&self, request: WorkspaceRequest) -> Result<Workspace, EngineError> {
        request.check()?;
        let config = request.config()?;
        self.check_host(&config.connection)?;
        let record = self.table_workspace(&request, Timestamp::now())?;
        let _one = self.changing.lock().await;
        if self.fleet.workspace(&request.name).await.is_some() {
            return Err(EngineError::Conflict(format!("there is a workspace {} already", request.name)));
        }
        let workspace = self.fleet.add(config).await?;
        if let Err(error) = self.store.commit(vec![Table::Workspaces.put(&request.name, &record)]).await {
            // What is not written down is not there.
            let _ = self.fleet.remove(&request.name).await;
            return Err(error.into());
        }
        lock(&self.left_aside).remove(&request.name);
        Ok(workspace)
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
        let _one = self.changing.lock().await;
        let workspace = self.workspace(name).await?;
        let Some(record) = self.stored_workspace(name)? else {
            let what =
                format!("{name} is a workspace that the service was started with: what it is says its command line");
            return Err(EngineError::Conflict(what));
        };
        let added = record.added;
        let mut request = self.unseal(name, record)?;
        if let Some(host) = change.host {
            request.host = host;
        }
        if let Some(key) = change.api_key {
            request.api_key = Some(key).filter(|key| !key.expose_secret().is_empty());
        }
        if let Some(headers) = change.headers {
            request.headers = headers;
        }
        if let Some(prefix) = change.api_prefix {
            request.api_prefix = Some(prefix);
        }
        request.check()?;
        let connection = request.connection()?;
        self.check_host(&connection)?;
        let record = self.table_workspace(&request, added)?;
        self.store.commit(vec![Table::Workspaces.put(name, &record)]).await?;
        lock(&self.moved).insert(name.to_owned(), connection.host().to_string());
        Ok(workspace.update_connection(connection).await?)
    }

    fn stored_workspace(&self, name: &str) -> Result<Option<WorkspaceRecord>, EngineError> {
        let bytes = self.store.get(Table::Workspaces, name)?;
        Ok(bytes.map(|bytes| Table::Workspaces.read(name, &bytes)).transpose()?)
    }

    /// Removes a workspace, and stops its commands or lets them run on.
    pub(crate) async fn remove_workspace(&self, name: &str, on_remove: OnRemove) -> Result<(), EngineError> {
        let _one = self.changing.lock().await;
        let is_aside = lock(&self.left_aside).contains_key(name);
        if !is_aside {
            self.workspace(name).await?;
        }
        lock(&self.moved).remove(name);
        self.store.commit(vec![Change::Remove(Table::Workspaces, name.to_owned())]).await?;
        if is_aside {
            lock(&self.left_aside).remove(name);
            return Ok(());
        }
        Ok(self.fleet.remove_with(name, on_remove).await?)
    }

    /// The workspace of this name.
    pub(crate) async fn workspace(&self, name: &str) -> Result<Workspace, EngineError> {
        if let Some(found) = self.fleet.workspace(name).await {
            return Ok(found);
        }
        match lock(&self.left_aside).get(name) {
            None => Err(EngineError::NotFound { what: "workspace", name: name.to_owned() }),
            Some(reason) => Err(EngineError::Conflict(format!(
                "the workspace {name} was left aside when the service was started: {reason}; add it again, or delete it"
            ))),
        }
    }

    /// The workspaces that a selector picks.
    pub(crate) async fn workspaces(&self, selector: Selector) -> Vec<WorkspaceView> {
        let list = self.fleet.list(selector).await;
        // The fleet tells where a workspace was when it was added.
        let moved = lock(&self.moved);
        let view = |info: crate::fleet::WorkspaceInfo| WorkspaceView {
            host: moved.get(&info.name).cloned().unwrap_or(info.host),
            name: info.name,
            labels: info.labels,
            health: info.health,
        };
        list.into_iter().map(view).collect()
    }

    /// Everything that is known of a workspace.
    pub(crate) async fn workspace_detail(&self, name: &str) -> Result<WorkspaceDetail, EngineError> {
        self.workspace(name).await?;
        let found = self.workspaces(Selector::names([name])).await.into_iter().next();
        let mut view = found.ok_or_else(|| EngineError::NotFound { what: "workspace", name: name.to_owned() })?;
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
        found.ok_or_else(|| EngineError::NotFound { what: "workspace", name: name.to_owned() })
    }

    /// Adds the workspaces that were there before.
    pub(super) async fn restore_workspaces(&self) -> Result<(), EngineError> {
        let mut from = None;
        loop {
            let page = self.store.list(Table::Workspaces, from.as_deref(), Order::Ascending, PAGE)?;
            for (name, bytes) in &page {
                if let Err(error) = self.restore_workspace(name, bytes).await {
                    // One that cannot be used is no reason to leave all others.
                    log::error!("the stored workspace {name} is left aside: {error}");
                    lock(&self.left_aside).insert(name.clone(), error.to_string());
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
        let request = self.unseal(name, record)?;
        self.fleet.add(request.config()?).await?;
        Ok(())
    }

    /// How many stored workspaces cannot be used.
    pub(crate) fn left_aside(&self) -> usize {
        lock(&self.left_aside).len()
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
