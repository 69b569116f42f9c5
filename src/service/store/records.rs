use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use bytes::Bytes;

use super::{Change, StoreError};
use crate::{
    CommandResult, Outcome, RunSpec, WorkspaceError,
    fleet::{Job, RunSummary},
    messages::ExecuteCommand,
    protocol::EventId,
};

/// The kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    /// Workspaces, by name.
    Workspaces,
    /// Commands, by id, which grows with time.
    Commands,
    /// Runs, by id, which grows with time.
    Runs,
    /// Jobs that were added to runs later, by run and number.
    RunJobs,
    /// Which commands and runs have not ended, by id.
    Unfinished,
    /// What was answered to requests that must not be carried out twice, by caller and key.
    Idempotency,
    /// Those keys by the time at which they came.
    KeyAges,
}

impl Table {
    pub(crate) const ALL: [Self; 7] = [
        Self::Workspaces,
        Self::Commands,
        Self::Runs,
        Self::RunJobs,
        Self::Unfinished,
        Self::Idempotency,
        Self::KeyAges,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Workspaces => "workspaces",
            Self::Commands => "commands",
            Self::Runs => "runs",
            Self::RunJobs => "run_jobs",
            Self::Unfinished => "unfinished",
            Self::Idempotency => "idempotency",
            Self::KeyAges => "idempotency_ages",
        }
    }

    /// A change that writes a record of this table.
    pub(crate) fn put(self, key: impl ToString, record: &impl Serialize) -> Change {
        // Records are maps with texts as keys and without secrets of their own, which JSON can always hold.
        Change::Put(self, key.to_string(), serde_json::to_vec(record).unwrap_or_default().into())
    }

    /// Reads a record of this table.
    pub(crate) fn read<T: DeserializeOwned>(self, key: &str, bytes: &Bytes) -> Result<T, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| StoreError::Damaged {
            table: self.name(),
            key: key.to_owned(),
            reason: error.to_string(),
        })
    }
}

/// A workspace as it was added.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorkspaceRecord {
    /// When it was added.
    pub(crate) added: Timestamp,
    /// Everything about it that is no secret, as the API takes it.
    pub(crate) request: serde_json::Value,
    /// Its session key and the values of its headers.
    pub(crate) sealed: SealedWorkspace,
}

/// The secrets of a workspace, encrypted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SealedWorkspace {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_key: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
}

/// How far a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CommandState {
    /// Written down; whether its server has started it is not known yet.
    Starting,
    /// Its server has started it.
    Running,
    /// It has ended, or nobody can tell.
    Finished,
}

/// A command of the service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CommandRecord {
    /// Its id here, which is also the one by which its processes are found.
    pub(crate) id: EventId,
    /// Where it runs.
    pub(crate) workspace: String,
    /// What runs, without its secrets.
    pub(crate) command: ExecuteCommand,
    /// Its secret variables, encrypted, for as long as it may have to be started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sealed_env: BTreeMap<String, String>,
    /// What it reads from its standard input, encrypted, for as long as it may have to be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sealed_stdin: Option<String>,
    pub(crate) state: CommandState,
    /// Whether somebody asked for it to be stopped.
    #[serde(default)]
    pub(crate) stop_requested: bool,
    /// When it was asked for.
    pub(crate) created: Timestamp,
    /// When its server had started it.
    #[serde(default)]
    pub(crate) started: Option<Timestamp>,
    /// When it had ended.
    #[serde(default)]
    pub(crate) ended: Option<Timestamp>,
    /// The id that its server gave it.
    #[serde(default)]
    pub(crate) command_id: Option<EventId>,
    /// How it ended.
    #[serde(default)]
    pub(crate) outcome: Option<Outcome>,
    /// The result, without the output, which is in the command's log.
    #[serde(default)]
    pub(crate) result: Option<CommandResult>,
    /// Why there is no result.
    #[serde(default)]
    pub(crate) error: Option<WorkspaceError>,
}

impl CommandRecord {
    /// Takes in how it ended. What a command says of its output is up to who has it.
    pub(crate) fn end(&mut self, ended: Result<CommandResult, WorkspaceError>) {
        self.state = CommandState::Finished;
        self.ended = Some(Timestamp::now());
        self.forget_secrets();
        match ended {
            Ok(result) => {
                self.outcome = Some(Outcome::from(&result));
                self.result = Some(result);
            }
            Err(error) => {
                self.outcome = Some(Outcome::from(&error.kind));
                self.error = Some(error);
            }
        }
    }

    /// Forgets what only a start needs.
    pub(crate) fn forget_secrets(&mut self) {
        self.sealed_env.clear();
        self.sealed_stdin = None;
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunState {
    /// It goes on.
    Running,
    /// It has ended.
    Finished,
}

/// A run of the service. What happened in it is in its log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// Its id.
    pub(crate) id: EventId,
    /// What is done, without its secrets and without the jobs that were added later. What was given as bytes is named by its
    /// number here.
    pub(crate) spec: RunSpec,
    /// What was given as bytes, encrypted, while it goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sealed_bytes: Vec<String>,
    /// Secret variables of all its commands, encrypted, while it goes on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) sealed_env: BTreeMap<String, String>,
    /// Whether more jobs may be added.
    #[serde(default)]
    pub(crate) open: bool,
    /// Whether it was cancelled.
    #[serde(default)]
    pub(crate) cancelled: bool,
    pub(crate) state: RunState,
    /// When it was asked for.
    pub(crate) created: Timestamp,
    /// When it had ended.
    #[serde(default)]
    pub(crate) ended: Option<Timestamp>,
    /// How it ended.
    #[serde(default)]
    pub(crate) summary: Option<RunSummary>,
    /// Why it could not be gone on with.
    #[serde(default)]
    pub(crate) error: Option<String>,
}

impl RunRecord {
    /// Takes in how it ended, or why it could not be gone on with.
    pub(crate) fn end(&mut self, summary: Option<RunSummary>, error: Option<String>) {
        self.state = RunState::Finished;
        self.ended = Some(Timestamp::now());
        self.open = false;
        (self.summary, self.error) = (summary, error);
        self.sealed_env.clear();
        self.sealed_bytes.clear();
    }
}

/// Jobs that were added to a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunJobs {
    pub(crate) jobs: Vec<Job>,
    /// What was given as bytes, encrypted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sealed_bytes: Vec<String>,
}

/// What has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unfinished {
    /// A command.
    Command,
    /// A run.
    Run,
}

/// What a request with an `Idempotency-Key` made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct IdempotencyRecord {
    /// When it came first.
    pub(crate) created: Timestamp,
    /// That of its method, path and body, made with the store's key: another request under the same key is refused.
    pub(crate) fingerprint: String,
    /// The path of what it made.
    pub(crate) location: String,
}
