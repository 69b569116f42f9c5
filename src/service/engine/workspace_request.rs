use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::EngineError;
use crate::{
    Connection, HealthState, Push, Snapshot, WorkspaceConfig,
    service::{
        schemas::{HealthStateSchema, SnapshotSchema},
        store::SealedWorkspace,
    },
};

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
    /// The directory to which relative git paths are joined; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) working_dir: Option<String>,
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

/// Another way to a workspace. What is left out stays as it is, but no secret goes to another server than the one that it
/// was given for.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectionChange {
    /// The address of its agent server: http or https.
    #[serde(default)]
    pub(crate) host: Option<String>,
    /// The session key of its agent server; null or an empty one is none. It is never told again. Where there is one, it has
    /// to be given with another server.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, write_only)]
    pub(crate) api_key: Option<Option<SecretString>>,
    /// Headers that a gateway before it asks for, in place of all that there are; null is none. Their values are never told
    /// again. Where there are some, they have to be given with another server.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<BTreeMap<String, String>>, write_only)]
    pub(crate) headers: Option<Option<BTreeMap<String, SecretString>>>,
    /// The path before `/bash`, `/file` and `/git`.
    #[serde(default)]
    pub(crate) api_prefix: Option<String>,
}

/// What was given, be it null, as distinct from what was left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl ConnectionChange {
    /// Makes the change. Secrets that were given for one server do not go to another one unless they are given for that too.
    pub(super) fn apply(self, request: &mut WorkspaceRequest) -> Result<(), EngineError> {
        if let Some(host) = self.host {
            let is_same = Connection::new(&host)?.host().origin() == Connection::new(&request.host)?.host().origin();
            let key_is_left = request.api_key.is_some() && self.api_key.is_none();
            let headers_are_left = !request.headers.is_empty() && self.headers.is_none();
            let left = match (key_is_left, headers_are_left) {
                (false, false) => None,
                (true, false) => Some("`api_key`"),
                (false, true) => Some("`headers`"),
                (true, true) => Some("`api_key` and `headers`"),
            };
            if let Some(left) = left.filter(|_| !is_same) {
                return Err(EngineError::Invalid(format!(
                    "{} would be at another server than the one that its secrets were given for: give {left} again in the \
                     same change, or null to drop them",
                    request.name
                )));
            }
            request.host = host;
        }
        if let Some(key) = self.api_key {
            request.api_key = key.filter(|key| !key.expose_secret().is_empty());
        }
        if let Some(headers) = self.headers {
            request.headers = headers.unwrap_or_default();
        }
        if let Some(prefix) = self.api_prefix {
            request.api_prefix = Some(prefix);
        }
        request.check()
    }
}

/// The longest name of a workspace, and the longest label and value, in characters.
const LONGEST_NAME: usize = 200;

/// The most labels, and the most headers.
const MOST: usize = 100;

impl WorkspaceRequest {
    /// Refuses what would be in the way later.
    pub(super) fn check(&self) -> Result<(), EngineError> {
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

    pub(super) fn settings(&self, added: Timestamp, sealed: &SealedWorkspace) -> WorkspaceSettings {
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

    pub(super) fn connection(&self) -> Result<Connection, EngineError> {
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

    pub(super) fn config(&self) -> Result<WorkspaceConfig, EngineError> {
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
