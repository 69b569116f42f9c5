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
use serde_json::json;

use super::{Commands, Sink, json, target_of};
use crate::{
    Outcome, OutputStream,
    cli::error::CliError,
    fleet::{RunEvent, RunEventKind, TargetFinished, TargetId, TargetValue},
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
    /// The targets that have written something in this attempt.
    written: HashSet<TargetId>,
    commands: Arc<Commands>,
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
        Ok(Self { folder: folder.to_owned(), partial, names, written: HashSet::new(), commands })
    }

    /// What is left behind when the program leaves at once.
    pub(super) fn partial(&self) -> &Path {
        self.partial.path()
    }

    fn append(&mut self, target: &TargetId, stream: OutputStream, text: &str) -> io::Result<()> {
        let folder = self.partial.path().join(self.names.of(target.label()));
        if self.written.insert(target.clone()) {
            fs::create_dir_all(&folder)?;
        }
        let name = match stream {
            OutputStream::Stdout => "stdout",
            OutputStream::Stderr => "stderr",
        };
        // Opened for each piece: thousands of targets may write at once.
        OpenOptions::new().create(true).append(true).open(folder.join(name))?.write_all(text.as_bytes())
    }

    fn forget(&mut self, target: &TargetId) -> io::Result<()> {
        if self.written.remove(target) {
            fs::remove_dir_all(self.partial.path().join(self.names.of(target.label())))?;
        }
        Ok(())
    }

    fn finish(&mut self, event: &RunEvent, target: &TargetFinished) -> io::Result<()> {
        let name = self.names.of(target.target.label()).to_owned();
        let made = self.partial.path().join(&name);
        let followed = self.written.remove(&target.target);
        fs::create_dir_all(&made)?;
        if !followed {
            let stdout = target.value.as_ref().map(super::body::text).unwrap_or_default();
            fs::write(made.join("stdout"), stdout.as_bytes())?;
            if let Some(TargetValue::Command(result)) = &target.value {
                fs::write(made.join("stderr"), &result.stderr)?;
            }
        }
        let size = |name: &str| -> io::Result<u64> {
            Ok(OpenOptions::new().create(true).append(true).open(made.join(name))?.metadata()?.len())
        };
        let (stdout, stderr) = (size("stdout")?, size("stderr")?);
        let mut meta = File::create(made.join("meta.json"))?;
        serde_json::to_writer_pretty(&mut meta, &self.meta(event, target, stdout + stderr))?;
        meta.write_all(b"\n")?;
        let place = self.folder.join(&name);
        check_place(&place)?;
        match fs::remove_dir_all(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(made, place)
    }

    fn meta(&self, event: &RunEvent, target: &TargetFinished, kept: u64) -> serde_json::Value {
        let command = match &target.value {
            Some(TargetValue::Command(result)) => Some(result),
            _ => None,
        };
        let written = command.map(|result| result.stdout_bytes + result.stderr_bytes);
        json!({
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
            "stdout_bytes": command.map(|result| result.stdout_bytes),
            "stderr_bytes": command.map(|result| result.stderr_bytes),
            // Whether the files beside this one have less than was written.
            "truncated": written.is_some_and(|written| written > kept),
            "error": target.error.as_ref().map(json::error),
        })
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
            RunEventKind::Output { target, stream, text } => self.append(target, *stream, text),
            RunEventKind::TargetRetried(_) => target_of(&event.kind).map_or(Ok(()), |target| self.forget(target)),
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
        let commands = Arc::new(Commands { all: "cmd".into(), jobs: HashMap::new() });
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
