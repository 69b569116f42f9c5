//! The file of `run --jobs`: a job a line, as a JSON object.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::Read as _,
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{args::parse_duration, error::CliError, operation};
use crate::{
    RunOperation, Selector, WorkspaceConfig,
    fleet::{JOB, Job, JobPlace, JobStep, WORKSPACE, file_name},
    messages::{
        DiffBase, DirectoryDownload, DirectoryUpload, ExecuteCommand, FileDownload, FileUpload, GitChanges, GitDiff,
    },
};

/// The most bytes of a jobs file: hundreds of thousands of jobs fit, and a disk image given by mistake does not.
const MAX_BYTES: u64 = 256 << 20;

/// The keys of a step that say what is done.
const KINDS: &str = "run, upload, download, changes or diff";

/// A line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobLine {
    name: Option<String>,
    workspace: Option<String>,
    selector: Option<BTreeMap<String, String>>,
    steps: Vec<StepLine>,
    #[serde(default)]
    finally: Vec<StepLine>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "time")]
    timeout: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepLine {
    name: Option<String>,
    run: Option<String>,
    cwd: Option<String>,
    #[serde(default, deserialize_with = "time")]
    timeout: Option<Duration>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    upload: Option<Transfer>,
    download: Option<Transfer>,
    changes: Option<ChangesLine>,
    diff: Option<DiffLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    from: String,
    to: String,
    /// Whether it is a directory.
    #[serde(default)]
    recursive: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangesLine {
    path: String,
    reference: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiffLine {
    path: String,
    reference: Option<String>,
    commit: Option<String>,
}

/// A time as the flags have it, or a number of seconds.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Text(String),
        Seconds(serde_json::Number),
    }
    let text =
        match Time::deserialize(deserializer).map_err(|_| D::Error::custom("a time is written as \"30s\" or 30"))? {
            Time::Text(text) => text,
            Time::Seconds(seconds) => seconds.to_string(),
        };
    parse_duration(&text).map(Some).map_err(D::Error::custom)
}

/// The jobs of a file, all of them checked. Commands have the settings of `template` where they have none of their own.
pub(super) fn load(file: &Path, template: &ExecuteCommand, configs: &[WorkspaceConfig]) -> Result<Vec<Job>, CliError> {
    let from_stdin = file.as_os_str() == "-";
    let name = if from_stdin { "stdin".to_owned() } else { file.display().to_string() };
    let text = read(file, from_stdin).map_err(|reason| CliError::usage(format!("can not read {name}: {reason}")))?;
    let mut check = Check::new(template, configs);
    let mut jobs = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let job = check.job(number, line).map_err(|reason| CliError::usage(format!("{name}:{number}: {reason}")))?;
        jobs.push(job);
    }
    if jobs.is_empty() {
        return Err(CliError::usage(format!(
            "{name} has no job: write one a line, as {{\"name\": \"t1\", \"steps\": [{{\"run\": \"make test\"}}]}}"
        )));
    }
    Ok(jobs)
}

fn read(file: &Path, from_stdin: bool) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = if from_stdin {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is longer than {} MiB; is it a file of jobs?", MAX_BYTES >> 20));
    }
    let no_text = |at: usize| format!("byte {at} is not UTF-8; is it a file of jobs?");
    String::from_utf8(bytes).map_err(|error| no_text(error.utf8_error().valid_up_to()))
}

/// Makes jobs of lines and refuses what could not be carried out.
struct Check<'a> {
    template: &'a ExecuteCommand,
    workspaces: HashMap<&'a str, &'a WorkspaceConfig>,
    /// The names so far, with their lines.
    names: HashMap<String, usize>,
    /// Local files that were looked at already.
    sources: HashSet<(String, bool)>,
    selectors: HashSet<BTreeMap<String, String>>,
    /// Local files and directories that are written, with the lines that do so first.
    destinations: HashMap<String, usize>,
}

impl<'a> Check<'a> {
    fn new(template: &'a ExecuteCommand, configs: &'a [WorkspaceConfig]) -> Self {
        Self {
            template,
            workspaces: configs.iter().map(|config| (config.name.as_str(), config)).collect(),
            names: HashMap::new(),
            sources: HashSet::new(),
            selectors: HashSet::new(),
            destinations: HashMap::new(),
        }
    }

    fn job(&mut self, number: usize, line: &str) -> Result<Job, String> {
        let line: JobLine = serde_json::from_str(line).map_err(|error| {
            // The place within the line; there is only the one.
            error.to_string().replace(" at line 1 column ", " at column ")
        })?;
        let name = line.name.clone().unwrap_or_else(|| format!("job-{number}"));
        if name.trim().is_empty() {
            return Err("the name is empty; leave the key away, or give one".to_owned());
        }
        let steps = line.steps.iter().chain(&line.finally);
        if let Some(odd) = steps.filter_map(|step| step.name.as_ref()).chain([&name]).find(|name| is_odd(name)) {
            return Err(format!("the name `{}` has control characters in it; leave them out", odd.escape_debug()));
        }
        if let Some(other) = self.names.insert(name.clone(), number) {
            return Err(format!("line {other} has a job named {name} already; give each job its own name"));
        }
        let place = self.place(&line)?;
        if line.steps.is_empty() {
            return Err("the job has no steps; give it one, as {\"run\": \"make test\"}".to_owned());
        }
        let steps: Vec<_> = line.steps.into_iter().map(|step| self.step(step)).collect::<Result<_, _>>()?;
        let finally: Vec<_> = line.finally.into_iter().map(|step| self.step(step)).collect::<Result<_, _>>()?;
        self.distinct(number, &name, steps.iter().chain(&finally))?;
        let mut job = Job::new(steps).with_name(name).on(place).with_finally(finally).with_timeout(line.timeout);
        // The file is nearer to the job than the command line.
        job.env = self.template.env.clone();
        job.env.extend(line.env);
        Ok(job)
    }

    /// Refuses jobs that would write one local file, each over the other's.
    fn distinct<'s>(
        &mut self,
        number: usize,
        job: &str,
        steps: impl Iterator<Item = &'s JobStep>,
    ) -> Result<(), String> {
        for step in steps {
            let (RunOperation::Download(FileDownload { destination, .. })
            | RunOperation::DownloadDirectory(DirectoryDownload { destination, .. })) = &step.operation
            else {
                continue;
            };
            let destination = destination.display().to_string().replace(JOB, &file_name(job));
            let other = *self.destinations.entry(destination.clone()).or_insert(number);
            // Which workspace each of them gets nobody knows yet.
            if other != number && !destination.contains(WORKSPACE) {
                return Err(format!(
                    "the job in line {other} downloads to {destination} already; put {{job}} into the path"
                ));
            }
        }
        Ok(())
    }

    fn place(&mut self, line: &JobLine) -> Result<JobPlace, String> {
        match (&line.workspace, &line.selector) {
            (Some(_), Some(_)) => Err("the job has a workspace and a selector; give it one of them".to_owned()),
            (None, None) => Ok(JobPlace::Any),
            (Some(name), None) if self.workspaces.contains_key(name.as_str()) => Ok(JobPlace::Workspace(name.clone())),
            (Some(name), None) => {
                Err(format!("{name} is none of the run's workspaces; add it to those of -w, --hostfile, -a or -l"))
            }
            (None, Some(labels)) => {
                let fits = |config: &WorkspaceConfig| {
                    labels.iter().all(|(label, value)| config.labels.get(label) == Some(value))
                };
                if !self.selectors.contains(labels) && !self.workspaces.values().any(|config| fits(config)) {
                    return Err(format!(
                        "none of the run's workspaces has these labels: {}; correct them, or add one that has",
                        labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(", ")
                    ));
                }
                self.selectors.insert(labels.clone());
                let selector = labels.iter().fold(Selector::all(), |all, (label, value)| all.and_label(label, value));
                Ok(JobPlace::AnyOf(selector))
            }
        }
    }

    fn step(&mut self, step: StepLine) -> Result<JobStep, String> {
        let kinds = [
            step.run.is_some(),
            step.upload.is_some(),
            step.download.is_some(),
            step.changes.is_some(),
            step.diff.is_some(),
        ];
        if kinds.iter().filter(|given| **given).count() != 1 {
            return Err(format!("a step does one thing: give it exactly one of {KINDS}"));
        }
        if step.run.is_none() && (step.cwd.is_some() || step.timeout.is_some() || !step.env.is_empty()) {
            return Err("cwd, timeout and env belong to a step with run; move them there, or to the job".to_owned());
        }
        let StepLine { name, run, cwd, timeout, env, upload, download, changes, diff } = step;
        let operation = if let Some(text) = run {
            self.command(text, cwd, timeout, env)?
        } else if let Some(Transfer { from, to, recursive }) = upload {
            self.upload(from, to, recursive)?
        } else if let Some(Transfer { from, to, recursive }) = download {
            absolute(&from, "download: from")?;
            if to.trim().is_empty() || to.ends_with('/') {
                return Err("download: `to` is a local file; name one, as \"logs/{job}.txt\"".to_owned());
            }
            if !to.contains('{') {
                operation::check_destination(Path::new(&to), recursive).map_err(|error| error.to_string())?;
            }
            match recursive {
                true => RunOperation::DownloadDirectory(DirectoryDownload::new(from, to)),
                false => RunOperation::Download(FileDownload::new(from, to)),
            }
        } else if let Some(ChangesLine { path, reference }) = changes {
            let mut changes = GitChanges::new(path);
            changes.reference = reference;
            RunOperation::Changes(changes)
        } else if let Some(DiffLine { path, reference, commit }) = diff {
            let base = match (reference, commit) {
                (Some(_), Some(_)) => return Err("diff: give reference or commit, not both".to_owned()),
                (Some(reference), None) => DiffBase::Ref(reference),
                (None, Some(commit)) => DiffBase::Commit(commit),
                (None, None) => DiffBase::default(),
            };
            RunOperation::Diff(GitDiff::new(path).with_base(base))
        } else {
            return Err(format!("a step does one thing: give it exactly one of {KINDS}"));
        };
        let step = JobStep::new(operation);
        Ok(match name {
            Some(name) => step.with_name(name),
            None => step,
        })
    }

    fn command(
        &self,
        text: String,
        cwd: Option<String>,
        timeout: Option<Duration>,
        env: BTreeMap<String, String>,
    ) -> Result<RunOperation, String> {
        if text.trim().is_empty() {
            return Err("run: the command is empty; give one, as \"make test\"".to_owned());
        }
        let mut command = self.template.clone();
        command.command = text;
        command.cwd = cwd.or(command.cwd);
        command.timeout = timeout.or(command.timeout);
        // Those of the command line are the job's, and come last.
        command.env = env;
        Ok(RunOperation::Execute(command))
    }

    fn upload(&mut self, from: String, to: String, recursive: bool) -> Result<RunOperation, String> {
        absolute(&to, "upload: to")?;
        // Which file it is may depend on the workspace, which nobody knows yet.
        if !from.contains('{') && self.sources.insert((from.clone(), recursive)) {
            let check = if recursive { operation::check_directory } else { operation::check_source };
            check(Path::new(&from), &from).map_err(|error| error.to_string())?;
        }
        Ok(match recursive {
            true => RunOperation::UploadDirectory(DirectoryUpload::new(Path::new(&from), to)),
            false => RunOperation::Upload(FileUpload::new(Path::new(&from), to)),
        })
    }
}

/// Reads lines as `--jobs` does, for fuzz tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_lines(text: &str) {
    let (template, configs) = (ExecuteCommand::new(""), []);
    let mut check = Check::new(&template, &configs);
    for (number, line) in (1..).zip(text.lines()) {
        if let Err(reason) = check.job(number, line) {
            assert!(!reason.is_empty());
        }
    }
}

/// Whether a name would move the cursor where it is printed.
fn is_odd(name: &str) -> bool {
    name.contains(char::is_control)
}

fn absolute(path: &str, what: &str) -> Result<(), String> {
    operation::absolute(path, what).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Connection;

    fn check(lines: &[&str]) -> Result<Vec<Job>, String> {
        let config = WorkspaceConfig::new("w1", Connection::new("http://h:1").unwrap()).with_label("tier", "gpu");
        let template = ExecuteCommand::new("").with_timeout(Duration::from_secs(9)).with_env("A", "flag");
        let configs = [config];
        let mut check = Check::new(&template, &configs);
        (1..).zip(lines).map(|(number, line)| check.job(number, line)).collect()
    }

    #[test]
    fn a_line_is_a_job() {
        let jobs = check(&[
            r#"{"name": "a", "workspace": "w1", "steps": [{"run": "x", "timeout": "2m", "cwd": "/d", "env": {"B": "c"}}],
                "finally": [{"name": "log", "download": {"from": "/l", "to": "out/{job}"}}], "env": {"A": "b"}, "timeout": 5}"#,
            r#"{"selector": {"tier": "gpu"}, "steps": [{"run": "y"}, {"changes": {"path": "/r"}}]}"#,
            r#"{"steps": [{"diff": {"path": "/r/f", "reference": "HEAD"}}]}"#,
        ])
        .unwrap();
        assert_eq!(jobs[0].on, JobPlace::Workspace("w1".to_owned()));
        assert_eq!((jobs[0].env["A"].as_str(), jobs[0].timeout), ("b", Some(Duration::from_secs(5))));
        let RunOperation::Execute(command) = &jobs[0].steps[0].operation else { panic!() };
        assert_eq!((command.timeout, command.cwd.as_deref()), (Some(Duration::from_secs(120)), Some("/d")));
        assert_eq!(command.env, BTreeMap::from([("B".to_owned(), "c".to_owned())]));
        assert_eq!(jobs[0].finally[0].describe(), "log");
        assert_eq!((jobs[1].name.as_deref(), jobs[1].env["A"].as_str()), (Some("job-2"), "flag"));
        assert_eq!(jobs[1].on, JobPlace::AnyOf(Selector::label("tier", "gpu")));
        let RunOperation::Execute(command) = &jobs[1].steps[0].operation else { panic!() };
        assert_eq!(command.timeout, Some(Duration::from_secs(9)));
        assert_eq!(jobs[2].on, JobPlace::Any);
    }

    #[test]
    fn what_is_wrong_is_refused_with_the_way_out() {
        for (line, says) in [
            ("{", "column"),
            ("[]", "JobLine"),
            (r#"{"steps": []}"#, "no steps"),
            (r#"{"step": [{"run": "x"}]}"#, "unknown field `step`"),
            (r#"{"steps": [{"runs": "x"}]}"#, "unknown field `runs`"),
            (r#"{"steps": [{"run": " "}]}"#, "empty"),
            (r#"{"steps": [{}]}"#, "exactly one of"),
            (r#"{"steps": [{"run": "x", "changes": {"path": "/"}}]}"#, "exactly one of"),
            (r#"{"steps": [{"changes": {"path": "/"}, "timeout": 1}]}"#, "belong to a step with run"),
            (r#"{"steps": [{"run": "x", "timeout": "1 week"}]}"#, "not a unit"),
            (r#"{"steps": [{"run": "x", "timeout": []}]}"#, "30s"),
            (r#"{"steps": [{"download": {"from": "l", "to": "x"}}]}"#, "absolute"),
            (r#"{"steps": [{"download": {"from": "/l", "to": "x/"}}]}"#, "local file"),
            (r#"{"steps": [{"upload": {"from": "/no/such/file", "to": "/x"}}]}"#, "/no/such/file"),
            (r#"{"steps": [{"diff": {"path": "/x", "reference": "a", "commit": "b"}}]}"#, "not both"),
            (r#"{"workspace": "w2", "steps": [{"run": "x"}]}"#, "none of the run's workspaces"),
            (r#"{"selector": {"tier": "cpu"}, "steps": [{"run": "x"}]}"#, "tier=cpu"),
            (r#"{"workspace": "w1", "selector": {}, "steps": [{"run": "x"}]}"#, "one of them"),
            (r#"{"name": "", "steps": [{"run": "x"}]}"#, "name is empty"),
        ] {
            let reason = check(&[line]).unwrap_err();
            assert!(reason.contains(says), "{line}: {reason}");
        }
        let twice = r#"{"name": "a", "steps": [{"run": "x"}]}"#;
        let reason = check(&[twice, twice]).unwrap_err();
        assert!(reason.contains("line 1") && reason.contains("named a"), "{reason}");
    }
}
