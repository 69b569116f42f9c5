use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    job::{DEFAULT_FINALLY_TIMEOUT, Job, JobStep},
    known::{AttachKnown, KnownCommands, StopKnown},
    placeholder::Names,
    policy::{LabelCap, MaxFail, Pace},
    progress::RunProgress,
};
use crate::{
    fleet::Selector,
    messages::{
        DirectoryDownload, DirectoryUpload, ExecuteCommand, FileDownload, FileUpload, GitChanges, GitDiff,
        StartCommand, UploadSource,
    },
    protocol::{EventId, Trace},
    workspace::{millis, optional_millis},
};

/// How many targets run at once unless something else is asked for.
pub const DEFAULT_FANOUT: usize = 64;

/// What a run does, and where. Its times are stored in milliseconds, as `target_timeout_ms`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunSpec {
    /// Its workspaces: its targets when the same is done on each of them, or the ones on which its jobs are worked off.
    pub selector: Selector,
    /// What is done.
    pub work: Work,
    /// How many targets run at once, and how fast they begin.
    #[serde(default)]
    pub pace: Pace,
    /// Whether output is reported while commands run. Default: false.
    #[serde(default)]
    pub stream_output: bool,
    /// How long each attempt at a target may take, its `finally` steps left aside. Default: no bound.
    #[serde(default, with = "optional_millis", rename = "target_timeout_ms")]
    pub target_timeout: Option<Duration>,
    /// How long the whole run may take. What runs then is stopped, what waits is skipped. Default: no bound.
    #[serde(default, with = "optional_millis", rename = "global_timeout_ms")]
    pub global_timeout: Option<Duration>,
    /// When too many failures end it. Default: never.
    #[serde(default)]
    pub max_fail: Option<MaxFail>,
    /// How often a target whose command failed or timed out is carried out again, from its first step. Default: 0.
    #[serde(default)]
    pub retries: u32,
    /// How often a target is carried out again when its workspace could not be used and nothing was done there. Default: 0.
    #[serde(default)]
    pub transport_retries: u32,
    /// Whether a job that may run on any workspace is carried out again on another one when its own was lost. Default:
    /// false.
    #[serde(default)]
    pub move_lost_jobs: bool,
    /// After which time a target that still runs is called slow. Default: never.
    #[serde(default, with = "optional_millis", rename = "slow_after_ms")]
    pub slow_after: Option<Duration>,
    /// What the run belongs to: its requests say so in their headers, and so do its events, results and errors. Default: nothing.
    #[serde(default, skip_serializing_if = "Trace::is_empty")]
    pub trace: Trace,
    /// How long the `finally` steps of a job may take together. Default: 5 minutes.
    #[serde(default = "default_finally_timeout", with = "millis", rename = "finally_timeout_ms")]
    pub finally_timeout: Duration,
    /// Its id, for a run that another process can [go on with](Self::with_progress) when this one ends: its events are to be
    /// kept as they come. An event counts as kept when the next one is asked for; until then neither does a target begin of
    /// which it says so, nor a step follow on the one of which it tells the end. Default: a random one, and nothing waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    /// How far an earlier process had come with it. Default: it is a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Box<RunProgress>>,
}

/// What a run does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "a run has one")]
pub enum Work {
    /// The same on each workspace that the run's selector picks.
    Each(Job),
    /// These jobs, each on one workspace, which it has for itself.
    Jobs(Vec<Job>),
}

const fn default_finally_timeout() -> Duration {
    DEFAULT_FINALLY_TIMEOUT
}

/// What a run does on each of its targets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunOperation {
    /// Runs a command. `{workspace}` in the value of a variable becomes the target's name.
    Execute(ExecuteCommand),
    /// Starts a command and leaves it running. `{workspace}` in the value of a variable becomes the target's name. The command
    /// outlives the run with [`OnDrop::Detach`](crate::messages::OnDrop::Detach).
    Start(StartCommand),
    /// Follows to its end a command that was started before; on each target another one.
    Attach(AttachKnown),
    /// Ends a command with all its processes; on each target another one.
    Stop(StopKnown),
    /// Writes a file.
    Upload(FileUpload),
    /// Reads a file. `{workspace}` in the local path becomes the target's name.
    Download(FileDownload),
    /// Copies a directory to the sandbox.
    UploadDirectory(DirectoryUpload),
    /// Copies a directory from the sandbox. `{workspace}` in the local path becomes the target's name.
    DownloadDirectory(DirectoryDownload),
    /// Lists changed files.
    Changes(GitChanges),
    /// Compares a file.
    Diff(GitDiff),
    /// Asks whether the server answers.
    Ping,
    /// Asks what the server is.
    Info,
}

impl RunSpec {
    /// This operation on these targets, all else at its default.
    #[must_use]
    pub fn new(selector: Selector, operation: RunOperation) -> Self {
        Self::each(selector, Job::new([JobStep::new(operation)]))
    }

    /// This command on these targets, all else at its default.
    #[must_use]
    pub fn command(selector: Selector, command: impl Into<ExecuteCommand>) -> Self {
        Self::new(selector, RunOperation::Execute(command.into()))
    }

    /// This job on each of these targets, all else at its default.
    #[must_use]
    pub fn each(selector: Selector, job: Job) -> Self {
        Self::with_work(selector, Work::Each(job))
    }

    /// These jobs, worked off over these workspaces, all else at its default.
    #[must_use]
    pub fn jobs(selector: Selector, jobs: impl IntoIterator<Item = Job>) -> Self {
        Self::with_work(selector, Work::Jobs(jobs.into_iter().collect()))
    }

    fn with_work(selector: Selector, work: Work) -> Self {
        Self {
            selector,
            work,
            pace: Pace::default(),
            stream_output: false,
            target_timeout: None,
            global_timeout: None,
            max_fail: None,
            retries: 0,
            transport_retries: 0,
            move_lost_jobs: false,
            slow_after: None,
            trace: Trace::default(),
            finally_timeout: DEFAULT_FINALLY_TIMEOUT,
            id: None,
            progress: None,
        }
    }

    /// Sets how many targets run at once.
    #[must_use]
    pub const fn with_fanout(mut self, fanout: usize) -> Self {
        self.pace.fanout = fanout;
        self
    }

    /// Sets how many targets begin in a second at most.
    #[must_use]
    pub fn with_rate(mut self, per_second: impl Into<Option<f64>>) -> Self {
        self.pace.rate = per_second.into();
        self
    }

    /// Sets how many targets behind the same host and port run at once.
    #[must_use]
    pub fn with_per_host(mut self, at_once: impl Into<Option<usize>>) -> Self {
        self.pace.per_host = at_once.into();
        self
    }

    /// Sets how many targets with the same value of a label run at once.
    #[must_use]
    pub fn with_per_label(mut self, cap: impl Into<Option<LabelCap>>) -> Self {
        self.pace.per_label = cap.into();
        self
    }

    /// Sets whether output is reported while commands run.
    #[must_use]
    pub const fn with_stream_output(mut self, stream_output: bool) -> Self {
        self.stream_output = stream_output;
        self
    }

    /// Sets how long each attempt at a target may take.
    #[must_use]
    pub fn with_target_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.target_timeout = timeout.into();
        self
    }

    /// Sets how long the whole run may take.
    #[must_use]
    pub fn with_global_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.global_timeout = timeout.into();
        self
    }

    /// Sets when too many failures end it.
    #[must_use]
    pub fn with_max_fail(mut self, max_fail: impl Into<Option<MaxFail>>) -> Self {
        self.max_fail = max_fail.into();
        self
    }

    /// Sets how often a target whose command failed is carried out again.
    #[must_use]
    pub const fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets how often a target is carried out again when nothing was done there.
    #[must_use]
    pub const fn with_transport_retries(mut self, retries: u32) -> Self {
        self.transport_retries = retries;
        self
    }

    /// Sets whether jobs whose workspace was lost are carried out again on another one.
    #[must_use]
    pub const fn with_move_lost_jobs(mut self, move_lost_jobs: bool) -> Self {
        self.move_lost_jobs = move_lost_jobs;
        self
    }

    /// Sets after which time a target that still runs is called slow.
    #[must_use]
    pub fn with_slow_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.slow_after = time.into();
        self
    }

    /// Says what the run belongs to.
    #[must_use]
    pub fn with_trace(mut self, trace: Trace) -> Self {
        self.trace = trace;
        self
    }

    /// Sets its id, for a run whose events are kept so that another process can go on with it.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<Option<EventId>>) -> Self {
        self.id = id.into();
        self
    }

    /// Goes on with a run that an earlier process had begun under the same [id](Self::with_id), and that ended before the run
    /// did. All else is to be as it was, with the jobs that were added since, and the workspaces are to have the same names.
    ///
    /// The events go on where they ended. Targets that have ended are counted and not carried out again. Those that had begun
    /// go on at the step where they were, on the workspace where they were: a command that was started is taken over, with
    /// its output from where the events ended, and is never started a second time. What else was not known to have ended,
    /// as an upload, is done again. A command that its server knows no more is `outcome_unknown`. The run's times count from when it
    /// began at first. Two processes must not go on with the same run at once.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Into<Option<RunProgress>>) -> Self {
        self.progress = progress.into().map(Box::new);
        self
    }

    /// What would be done on a workspace that the same is done on, step by step, in words without secrets; nothing for a
    /// run of jobs.
    #[must_use]
    pub fn plan_for(&self, workspace: &str) -> Vec<String> {
        match &self.work {
            Work::Each(job) => job.plan(workspace),
            Work::Jobs(_) => Vec::new(),
        }
    }

    /// What is done, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.work {
            Work::Each(job) => job.describe(),
            Work::Jobs(jobs) => format!("{} jobs", jobs.len()),
        }
    }
}

impl RunOperation {
    /// The operation in words; a command in its own.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Execute(command) | Self::Start(StartCommand(command)) => command.command.clone(),
            Self::Attach(_) => "attach".to_owned(),
            Self::Stop(_) => "stop".to_owned(),
            Self::Upload(upload) => format!("upload to {}", upload.destination),
            Self::Download(download) => format!("download {}", download.source),
            Self::UploadDirectory(upload) => format!("upload to {}/", upload.destination.trim_end_matches('/')),
            Self::DownloadDirectory(download) => format!("download {}/", download.source.trim_end_matches('/')),
            Self::Changes(changes) => format!("changes {}", changes.path).trim_end().to_owned(),
            Self::Diff(diff) => format!("diff {}", diff.path),
            Self::Ping => "ping".to_owned(),
            Self::Info => "info".to_owned(),
        }
    }

    /// The operation on this workspace in words, with what goes from where to where.
    pub(super) fn plan(&self, workspace: &str, job: Option<&str>) -> String {
        match (Names { workspace, job }).fill(self, &BTreeMap::new()) {
            Self::Start(StartCommand(command)) => format!("start, and leave running: {}", command.command),
            Self::Attach(AttachKnown { commands, .. }) => of_command("attach to", &commands, workspace),
            Self::Stop(StopKnown { commands }) => of_command("stop", &commands, workspace),
            Self::Upload(FileUpload { source: UploadSource::Path(path), destination, .. }) => {
                format!("upload {} to {destination}", path.display())
            }
            Self::Download(download) => format!("download {} to {}", download.source, download.destination.display()),
            Self::UploadDirectory(upload) => {
                format!("upload what is in {} to {}", upload.source.display(), upload.destination)
            }
            Self::DownloadDirectory(download) => {
                format!("download what is in {} to {}", download.source, download.destination.display())
            }
            other => other.describe(),
        }
    }
}

/// What is done with the command of a workspace.
fn of_command(what: &str, commands: &KnownCommands, workspace: &str) -> String {
    commands.of(workspace).map_or_else(|| what.to_owned(), |id| format!("{what} {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_stored_in_milliseconds_and_an_absent_one_is_not_a_null() {
        let job = r#"{"steps":[{"operation":{"execute":{"command":"true","timeout_ms":null}}}],"timeout_ms":1500}"#;
        let spec = |more: &str| format!(r#"{{"selector":{selector},"work":{{"each":{job}}}{more}}}"#, selector = all());
        let read: RunSpec = serde_json::from_str(&spec(r#","target_timeout_ms":250,"finally_timeout_ms":7"#)).unwrap();
        assert_eq!(read.target_timeout, Some(Duration::from_millis(250)));
        assert_eq!((read.global_timeout, read.finally_timeout), (None, Duration::from_millis(7)));
        let Work::Each(job) = &read.work else { panic!() };
        assert_eq!(job.timeout, Some(Duration::from_millis(1500)));
        let RunOperation::Execute(command) = &job.steps[0].operation else { panic!() };
        assert_eq!(command.timeout, None, "null is no bound");
        let absent: ExecuteCommand = serde_json::from_str(r#"{"command":"true"}"#).unwrap();
        assert_eq!(absent.timeout, Some(Duration::from_secs(30)));

        let written = serde_json::to_value(&read).unwrap();
        for (name, value) in [
            ("target_timeout_ms", 250.into()),
            ("global_timeout_ms", serde_json::Value::Null),
            ("finally_timeout_ms", 7.into()),
        ] {
            assert_eq!(written[name], value, "{written}");
        }
    }

    fn all() -> String {
        serde_json::to_string(&Selector::all()).unwrap()
    }
}
