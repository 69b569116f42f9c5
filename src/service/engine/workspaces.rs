use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Engine, EngineError, damaged};
use crate::{
    Connection, HealthState, Push, Selector, Snapshot, Workspace, WorkspaceConfig,
    service::{
        StoreError,
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
    #[schema(value_type = String)]
    pub(crate) health: HealthState,
}

impl WorkspaceRequest {
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
        let config = request.config()?;
        let record = self.table_workspace(&request)?;
        let workspace = self.fleet.add(config).await?;
        if let Err(error) = self.store.commit(vec![Table::Workspaces.put(&request.name, &record)]).await {
            // What is not written down is not there.
            let _ = self.fleet.remove(&request.name).await;
            return Err(error.into());
        }
        Ok(workspace)
    }

    fn table_workspace(&self, request: &WorkspaceRequest) -> Result<WorkspaceRecord, EngineError> {
        let place = &request.name;
        let api_key = request.api_key.as_ref().map(|key| self.sealer.seal(place, key)).transpose()?;
        let seal = |(name, value): (&String, &SecretString)| Ok((name.clone(), self.sealer.seal(place, value)?));
        let headers = request.headers.iter().map(seal).collect::<Result<_, StoreError>>()?;
        let request = serde_json::to_value(request).map_err(|error| damaged(error, place))?;
        Ok(WorkspaceRecord { added: Timestamp::now(), request, sealed: SealedWorkspace { api_key, headers } })
    }

    /// Removes a workspace, with its commands.
    pub(crate) async fn remove_workspace(&self, name: &str) -> Result<(), EngineError> {
        self.workspace(name).await?;
        self.store.commit(vec![Change::Remove(Table::Workspaces, name.to_owned())]).await?;
        Ok(self.fleet.remove(name).await?)
    }

    /// The workspace of this name.
    pub(crate) async fn workspace(&self, name: &str) -> Result<Workspace, EngineError> {
        let found = self.fleet.workspace(name).await;
        found.ok_or_else(|| EngineError::NotFound { what: "workspace", name: name.to_owned() })
    }

    /// The workspaces that a selector picks.
    pub(crate) async fn workspaces(&self, selector: Selector) -> Vec<WorkspaceView> {
        let list = self.fleet.list(selector).await;
        let view = |info: crate::fleet::WorkspaceInfo| WorkspaceView {
            name: info.name,
            host: info.host,
            labels: info.labels,
            health: info.health,
        };
        list.into_iter().map(view).collect()
    }

    /// How a workspace does.
    pub(crate) async fn snapshot(&self, name: &str) -> Result<Snapshot, EngineError> {
        let found = self.fleet.snapshots(Selector::names([name])).await.into_iter().next();
        found.ok_or_else(|| EngineError::NotFound { what: "workspace", name: name.to_owned() })
    }

    /// Adds the workspaces that were there before.
    pub(super) async fn restore_workspaces(&self) -> Result<(), EngineError> {
        let mut from = None;
        loop {
            let page = self.store.list(Table::Workspaces, from.as_deref(), Order::Ascending, PAGE)?;
            for (name, bytes) in &page {
                let record: WorkspaceRecord = Table::Workspaces.read(name, bytes)?;
                let request = self.unseal(name, record)?;
                if let Err(error) = self.fleet.add(request.config()?).await {
                    log::warn!("the stored workspace {name} is left aside: {error}");
                }
            }
            match page.into_iter().next_back() {
                Some((name, _)) => from = Some(name),
                None => return Ok(()),
            }
        }
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
