//! A folder for each target, with what it wrote and how it ended.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Commands, Sink, body, json};
use crate::{
    CommandResult, Outcome, OutputStream,
    cli::error::CliError,
    fleet::{RunEvent, RunEventKind, StepFinished, TargetFinished, TargetId, TargetValue},
};

/// What stays as it is in the name of a folder.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':');

/// The longest name of a folder in bytes, with room for what is put behind it.
const MAX_NAME: usize = 200;

/// Writes `DIR/TARGET/{stdout,stderr,meta.json}`. A target's folder appears when the target has ended, whole.
pub(super) struct Results {
    folder: PathBuf,
    /// Where folders are made before they are moved to their place; removed at the end.
    partial: tempfile::TempDir,
    names: Names,
    /// What there is of targets that have not ended, in this attempt.
    gathered: HashMap<TargetId, Gathered>,
    commands: Arc<Commands>,
}

/// What there is of a target that has not ended.
#[derive(Default)]
struct Gathered {
    has_folder: bool,
    /// Whether the output of the step that runs is written as it comes.
    follows: bool,
    /// How many bytes of the output of commands are in the files.
    kept: u64,
    /// How many bytes its commands wrote to stdout and stderr; `None` where none has ended.
    written: Option<(u64, u64)>,
    /// How its steps ended, where it has several.
    steps: Vec<Value>,
}

impl Results {
    /// Makes the folder.
    ///
    /// # Errors
    /// When it can not be made or written.
    pub(super) fn create(folder: &Path, commands: &Arc<Commands>, targets: &[Arc<str>]) -> Result<Self, CliError> {
        let partial = fs::create_dir_all(folder)
            .and_then(|()| tempfile::Builder::new().prefix(".wsfleet-partial-").tempdir_in(folder));
        let partial = partial
            .map_err(|error| CliError::usage(format!("--results: can not write to {}: {error}", folder.display())))?;
        let mut names = Names::default();
        for target in targets {
            let place = folder.join(names.of(target));
            check_place(&place).map_err(|error| CliError::usage(format!("--results: {error}")))?;
        }
        let commands = Arc::clone(commands);
        Ok(Self { folder: folder.to_owned(), partial, names, gathered: HashMap::new(), commands })
    }

    /// What is left behind when the program leaves at once.
    pub(super) fn partial(&self) -> &Path {
        self.partial.path()
    }

    /// Adds to what a target has written, and makes its folder with the first piece.
    fn append(&mut self, target: &TargetId, name: &str, text: &str) -> io::Result<()> {
        let folder = self.partial.path().join(self.names.of(target.label()));
        let gathered = self.gathered.entry(target.clone()).or_default();
        if !gathered.has_folder {
            fs::create_dir_all(&folder)?;
            gathered.has_folder = true;
        }
        // Opened for each piece: thousands of targets may write at once.
        OpenOptions::new().create(true).append(true).open(folder.join(name))?.write_all(text.as_bytes())
    }

    fn output(&mut self, target: &TargetId, stream: OutputStream, text: &str) -> io::Result<()> {
        let name = match stream {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        };
        self.append(target, name, text)?;
        if let Some(gathered) = self.gathered.get_mut(target) {
            gathered.kept += text.len() as u64;
            gathered.follows = true;
        }
        Ok(())
    }

    /// Adds what came of a step, or of a target that has none, and was not written as it came.
    fn result(&mut self, target: &TargetId, value: Option<&TargetValue>) -> io::Result<()> {
        let Some(value) = value else { return Ok(()) };
        let gathered = self.gathered.entry(target.clone()).or_default();
        let follows = std::mem::take(&mut gathered.follows);
        let TargetValue::Command(result) = value else {
            return self.append(target, "stdout", &body::text(value));
        };
        let (stdout, stderr) = gathered.written.unwrap_or_default();
        gathered.written = Some((stdout + result.stdout_bytes, stderr + result.stderr_bytes));
        if !follows {
            self.output(target, OutputStream::Stdout, &result.stdout)?;
            self.output(target, OutputStream::Stderr, &result.stderr)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &StepFinished) -> io::Result<()> {
        self.result(&step.target, step.value.as_ref())?;
        let gathered = self.gathered.entry(step.target.clone()).or_default();
        gathered.follows = false;
        gathered.steps.push(meta_of_step(step));
        Ok(())
    }

    fn forget(&mut self, target: &TargetId) -> io::Result<()> {
        match self.gathered.remove(target) {
            Some(gathered) if gathered.has_folder => {
                fs::remove_dir_all(self.partial.path().join(self.names.of(target.label())))
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, event: &RunEvent, target: &TargetFinished) -> io::Result<()> {
        let has_steps = self.gathered.get(&target.target).is_some_and(|gathered| !gathered.steps.is_empty());
        if !has_steps {
            self.result(&target.target, target.value.as_ref())?;
        }
        // Both files are there, also when nothing was written.
        self.append(&target.target, "stdout", "")?;
        self.append(&target.target, "stderr", "")?;
        let gathered = self.gathered.remove(&target.target).unwrap_or_default();
        let name = self.names.of(target.target.label()).to_owned();
        let made = self.partial.path().join(&name);
        let mut meta = File::create(made.join("meta.json"))?;
        serde_json::to_writer_pretty(&mut meta, &self.meta(event, target, gathered))?;
        meta.write_all(b"\n")?;
        let place = self.folder.join(&name);
        check_place(&place)?;
        match fs::remove_dir_all(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(made, place)
    }

    fn meta(&self, event: &RunEvent, target: &TargetFinished, gathered: Gathered) -> Value {
        let command = command_of(target.value.as_ref());
        let mut meta = json!({
            "schema": 1,
            "run_id": event.run_id,
            "workspace": target.target.workspace,
            "job": target.target.job,
            "command": self.commands.of(&target.target),
            "outcome": target.outcome,
            "exit_code": command.map(|result| result.exit_code),
            "timeout_occurred": command.is_some_and(|result| result.timeout_occurred),
            "finished": event.time,
            "duration_ms": json::millis(target.duration),
            "attempt": target.attempt,
            "stdout_bytes": gathered.written.map(|(stdout, _)| stdout),
            "stderr_bytes": gathered.written.map(|(_, stderr)| stderr),
            // Whether the files beside this one have less than was written.
            "truncated": gathered.written.is_some_and(|(stdout, stderr)| stdout + stderr > gathered.kept),
            "error": target.error.as_ref().map(json::error),
        });
        if !gathered.steps.is_empty() {
            meta["steps"] = gathered.steps.into();
        }
        meta
    }
}

/// How a step of a job ended, without what it wrote.
fn meta_of_step(step: &StepFinished) -> Value {
    let command = command_of(step.value.as_ref());
    json!({
        "step": step.step,
        "index": step.index,
        "finally": step.finally,
        "outcome": step.outcome,
        "exit_code": command.map(|result| result.exit_code),
        "timeout_occurred": command.is_some_and(|result| result.timeout_occurred),
        "duration_ms": json::millis(step.duration),
        "stdout_bytes": command.map(|result| result.stdout_bytes),
        "stderr_bytes": command.map(|result| result.stderr_bytes),
        "error": step.error.as_ref().map(json::error),
    })
}

fn command_of(value: Option<&TargetValue>) -> Option<&CommandResult> {
    match value {
        Some(TargetValue::Command(result)) => Some(result),
        _ => None,
    }
}

/// Refuses a place with anything in it that an earlier run has not put there.
fn check_place(place: &Path) -> io::Result<()> {
    let refused = |what: &str| {
        let way_out = "name another directory, or remove it first";
        Err(io::Error::other(format!("{} {what}: {way_out}", place.display())))
    };
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_dir() => return refused("is in the way, and no directory"),
        Ok(_) => {}
    }
    for entry in fs::read_dir(place)? {
        let name = entry?.file_name();
        if !["stdout", "stderr", "meta.json"].iter().any(|own| name == *own) {
            return refused(&format!("has something in it that is no result ({})", name.display()));
        }
    }
    Ok(())
}

impl Sink for Results {
    fn event(&mut self, event: &RunEvent, _: u8) -> io::Result<()> {
        match &event.kind {
            RunEventKind::Output { target, stream, text } => self.output(target, *stream, text),
            RunEventKind::StepFinished(step) => self.step(step),
            RunEventKind::TargetRetried(target) => self.forget(&target.target),
            // What was never begun has no results, and may have some of an earlier run.
            RunEventKind::TargetFinished(target) if target.outcome != Outcome::Skipped => self.finish(event, target),
            _ => Ok(()),
        }
    }
}

/// The names of the folders: never a path, and never the same for two targets, also where case does not count.
#[derive(Default)]
struct Names {
    of: HashMap<String, String>,
    taken: HashSet<String>,
}

impl Names {
    fn of(&mut self, target: &str) -> &str {
        if !self.of.contains_key(target) {
            let plain = safe(target);
            let mut name = plain.clone();
            let mut next = 2;
            while !self.taken.insert(name.to_ascii_lowercase()) {
                name = format!("{plain}~{next}");
                next += 1;
            }
            self.of.insert(target.to_owned(), name);
        }
        &self.of[target]
    }
}

/// A name that is one part of a path. A tilde is in no such name but for what is put behind it.
fn safe(target: &str) -> String {
    let mut name = utf8_percent_encode(target, ESCAPED).to_string();
    if name.starts_with('.') {
        name.replace_range(..1, "%2E");
    }
    if name.is_empty() {
        "~".to_owned()
    } else if name.len() > MAX_NAME {
        let mut hasher = DefaultHasher::new();
        target.hash(&mut hasher);
        format!("{}~{:016x}", &name[..MAX_NAME - 20], hasher.finish())
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::output::sample;

    #[test]
    fn names_are_readable_where_they_can_be() {
        let mut names = Names::default();
        for (target, name) in [
            ("sandbox-1", "sandbox-1"),
            ("10.0.0.1:8000", "10.0.0.1:8000"),
            ("gateway:443/s/abc", "gateway:443%2Fs%2Fabc"),
            ("..", "%2E."),
            ("", "~"),
            ("Sandbox-1", "Sandbox-1~2"),
            ("sandbox-1", "sandbox-1"),
        ] {
            assert_eq!(names.of(target), name);
        }
    }

    fn results(folder: &Path) -> Results {
        let commands = Arc::new(Commands::same("cmd"));
        Results::create(folder, &commands, &["w1".into(), "w2".into()]).unwrap()
    }

    #[test]
    fn a_target_that_streamed_is_whole_and_one_that_was_retried_has_its_last_attempt() {
        let folder = tempfile::tempdir().unwrap();
        let mut results = results(folder.path());
        let RunEventKind::TargetFinished(mut cut) = sample::ran("w1", 3, "cut", "") else { unreachable!() };
        let Some(TargetValue::Command(result)) = &mut cut.value else { unreachable!() };
        (result.truncated, result.stdout_bytes) = (true, 8);
        let kinds = vec![
            sample::output("w1", OutputStream::Stdout, "lost"),
            sample::retried("w1"),
            sample::output("w1", OutputStream::Stdout, "who"),
            sample::output("w1", OutputStream::Stdout, "le\noh"),
            RunEventKind::TargetFinished(cut),
            sample::ran("w2", 0, "out\n", "err\n"),
            sample::finished(Outcome::Skipped, None),
        ];
        for event in sample::events(kinds) {
            results.event(&event, 0).unwrap();
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!((read("w1/stdout").as_str(), read("w1/stderr").as_str()), ("whole\noh", ""));
        assert_eq!((read("w2/stdout").as_str(), read("w2/stderr").as_str()), ("out\n", "err\n"));
        insta::assert_snapshot!("results_meta", read("w1/meta.json"));
        drop(results);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    proptest! {
        #[test]
        fn no_two_targets_share_a_folder_and_none_leaves(targets in prop::collection::hash_set("[aA./~%\\\\\0é-]{0,6}", 0..40)) {
            let mut names = Names::default();
            let made: HashSet<String> = targets.iter().map(|target| names.of(target).to_ascii_lowercase()).collect();
            prop_assert_eq!(made.len(), targets.len());
            for name in made {
                let parts: Vec<_> = Path::new(&name).components().collect();
                prop_assert!(matches!(parts[..], [std::path::Component::Normal(_)]), "{}", name);
                prop_assert!(!name.starts_with('.'));
            }
        }
    }
}
