use std::collections::HashMap;

use crate::{
    RunOperation, RunSpec,
    fleet::{Job, JobStep, TargetId, WORKSPACE, Work},
};

/// What a run does on which target: in words, and what kind of thing each step is.
#[derive(Debug)]
pub(in crate::cli) struct Commands {
    /// The subcommand of the program.
    operation: &'static str,
    /// What is done on all targets that are not jobs.
    all: Does,
    jobs: HashMap<String, Does>,
}

/// What is done on a target.
#[derive(Debug)]
struct Does {
    words: String,
    /// Of its steps, the `finally` steps counted on.
    kinds: Vec<Kind>,
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A command.
    Command,
    /// A file or a directory that is sent.
    Upload,
    /// Anything else.
    Other,
}

impl Commands {
    /// Those of a run.
    pub(in crate::cli) fn of_run(spec: &RunSpec) -> Self {
        let kinds = |job: &Job| job.steps.iter().chain(&job.finally).map(kind_of).collect();
        // In full, whatever its steps are called: by this a job is known again.
        let does = |job: &Job| Does { words: job.plan(WORKSPACE).join("; "), kinds: kinds(job) };
        let words = spec.describe();
        match &spec.work {
            Work::Each(job) => {
                let operation = job.steps.first().map_or("run", |step| subcommand(&step.operation));
                Self { operation, all: Does { words, kinds: kinds(job) }, jobs: HashMap::new() }
            }
            Work::Jobs(jobs) => {
                let jobs = jobs.iter().filter_map(|job| job.name.as_ref().map(|name| (name.clone(), does(job))));
                Self { operation: "run", all: Does { words, kinds: Vec::new() }, jobs: jobs.collect() }
            }
        }
    }

    /// The subcommand of the program.
    pub(super) const fn operation(&self) -> &'static str {
        self.operation
    }

    /// The words for a target that is no job.
    pub(in crate::cli) fn of_all(&self) -> &str {
        &self.all.words
    }

    /// The words for a job; `None` for one that was not there at the start.
    pub(in crate::cli) fn of_job(&self, job: &str) -> Option<&str> {
        self.jobs.get(job).map(|does| does.words.as_str())
    }

    /// The words for a target.
    pub(super) fn of(&self, target: &TargetId) -> &str {
        &self.does(target).words
    }

    /// What a step of a target is; of one that nobody knows, what the subcommand usually does.
    pub(super) fn kind(&self, target: &TargetId, step: usize) -> Kind {
        let usual = if matches!(self.operation, "run" | "attach") { Kind::Command } else { Kind::Other };
        self.does(target).kinds.get(step).copied().unwrap_or(usual)
    }

    fn does(&self, target: &TargetId) -> &Does {
        target.job.as_deref().and_then(|job| self.jobs.get(job)).unwrap_or(&self.all)
    }
}

fn kind_of(step: &JobStep) -> Kind {
    match step.operation {
        RunOperation::Execute(_) | RunOperation::Attach(_) => Kind::Command,
        RunOperation::Upload(_) | RunOperation::UploadDirectory(_) => Kind::Upload,
        _ => Kind::Other,
    }
}

/// The subcommand that does this.
const fn subcommand(operation: &RunOperation) -> &'static str {
    match operation {
        RunOperation::Execute(_) => "run",
        RunOperation::Start(_) => "start",
        RunOperation::Attach(_) => "attach",
        RunOperation::Stop(_) => "stop",
        RunOperation::Upload(_) | RunOperation::UploadDirectory(_) => "upload",
        RunOperation::Download(_) | RunOperation::DownloadDirectory(_) => "download",
        RunOperation::Changes(_) => "changes",
        RunOperation::Diff(_) => "diff",
        RunOperation::Ping => "ping",
        RunOperation::Info => "info",
    }
}

#[cfg(test)]
impl Commands {
    /// The same command on every target.
    pub(super) fn same(words: &str) -> Self {
        Self::of_run(&RunSpec::command(crate::Selector::all(), words))
    }
}
