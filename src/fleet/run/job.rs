use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::RunOperation;
use crate::{fleet::Selector, workspace::optional_millis};

/// How long the `finally` steps of a job may take together unless something else is asked for.
pub const DEFAULT_FINALLY_TIMEOUT: Duration = Duration::from_secs(300);

/// What a run carries out on one workspace: steps, one after another until one fails, and then the `finally` steps,
/// which are carried out whatever happened before.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Job {
    /// Its name, unique within the run. Absent in a run that does the same on each of its workspaces.
    #[serde(default)]
    pub name: Option<String>,
    /// Where it is carried out, when the run does not say.
    #[serde(default)]
    pub on: JobPlace,
    /// Its steps. The first that fails ends the job.
    pub steps: Vec<JobStep>,
    /// Steps that are carried out whatever happened before: after a failure, a timeout, or the cancellation of the run.
    /// Each of them is, also when the one before it failed.
    #[serde(default)]
    pub finally: Vec<JobStep>,
    /// Variables for each of its commands. A command's own win. `{workspace}` in a value becomes the workspace's name,
    /// `{job}` the job's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long its steps may take together. Default: the run's own bound for a target. Stored as `timeout_ms`.
    #[serde(default, with = "optional_millis", rename = "timeout_ms")]
    pub timeout: Option<Duration>,
}

/// Where a job is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobPlace {
    /// On the workspace of this name.
    Workspace(String),
    /// On any one workspace that the selector picks, whichever is free first.
    AnyOf(Selector),
    /// On any one workspace that the run's selector picks.
    #[default]
    Any,
}

/// One step of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobStep {
    /// Its name, for reports. Default: its operation in words.
    #[serde(default)]
    pub name: Option<String>,
    /// What is done.
    pub operation: RunOperation,
}

impl Job {
    /// A job of these steps.
    #[must_use]
    pub fn new(steps: impl IntoIterator<Item = JobStep>) -> Self {
        Self {
            name: None,
            on: JobPlace::default(),
            steps: steps.into_iter().collect(),
            finally: Vec::new(),
            env: BTreeMap::new(),
            timeout: None,
        }
    }

    /// Sets its name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets where it is carried out.
    #[must_use]
    pub fn on(mut self, place: JobPlace) -> Self {
        self.on = place;
        self
    }

    /// Sets the steps that are carried out whatever happened before.
    #[must_use]
    pub fn with_finally(mut self, steps: impl IntoIterator<Item = JobStep>) -> Self {
        self.finally = steps.into_iter().collect();
        self
    }

    /// Sets a variable for each of its commands.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets how long its steps may take together.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// What would be done on this workspace, step by step, in words without secrets.
    #[must_use]
    pub fn plan(&self, workspace: &str) -> Vec<String> {
        let plan = |step: &JobStep| step.operation.plan(workspace, self.name.as_deref());
        self.steps.iter().map(plan).chain(self.finally.iter().map(|step| format!("finally: {}", plan(step)))).collect()
    }

    /// The job in words: its name, or what its steps do.
    #[must_use]
    pub fn describe(&self) -> String {
        let steps = || self.steps.iter().map(JobStep::describe).collect::<Vec<_>>().join("; ");
        self.name.clone().unwrap_or_else(steps)
    }
}

impl JobStep {
    /// A step that does this.
    #[must_use]
    pub const fn new(operation: RunOperation) -> Self {
        Self { name: None, operation }
    }

    /// Sets its name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Its name, or its operation in words.
    #[must_use]
    pub fn describe(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.operation.describe())
    }
}

impl From<RunOperation> for JobStep {
    fn from(operation: RunOperation) -> Self {
        Self::new(operation)
    }
}
