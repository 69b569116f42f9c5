use std::{
    borrow::Cow,
    collections::HashMap,
    fs::{self, File},
    io::{self, BufWriter, Seek as _, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event},
};
use rustix::fs::{Access, access};
use tempfile::NamedTempFile;

use super::{
    Commands, Sink, body,
    shelf::{Kept, Shelf},
    words,
};
use crate::{
    Outcome,
    cli::error::CliError,
    fleet::{RunEvent, RunEventKind, RunSummary, StepFinished, TargetFinished, TargetId, TargetValue},
};

/// A JUnit report: a suite that is the run, with a case for each target.
///
/// A suite begins with its counts, and so the cases wait in a temporary file. The report appears when the run has ended,
/// whole.
pub(super) struct Junit {
    path: PathBuf,
    cases: BufWriter<File>,
    /// The failed attempts of targets that were begun again: outcome, reason and time. A target is known by its label here, for
    /// a job may be begun again on another workspace.
    attempts: HashMap<String, Vec<(Outcome, String, Duration)>>,
    /// What the steps gave of targets that have not ended.
    steps: HashMap<TargetId, Vec<Part>>,
    shelf: Shelf,
    counts: Counts,
    commands: Arc<Commands>,
}

/// What a step gave.
struct Part {
    /// The step, and how it ended.
    title: String,
    stdout: Kept,
    stderr: Kept,
}

#[derive(Default)]
struct Counts {
    tests: usize,
    failures: usize,
    errors: usize,
    skipped: usize,
}

impl Junit {
    /// Prepares a report.
    ///
    /// # Errors
    /// When it can not be written there.
    pub(super) fn create(path: &Path, commands: &Arc<Commands>) -> Result<Self, CliError> {
        let unwritable =
            |error: io::Error| CliError::usage(format!("--junit: can not write {}: {error}", path.display()));
        if path.is_dir() {
            return Err(unwritable(io::ErrorKind::IsADirectory.into()));
        }
        // What a link points to is written, and not the link.
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let path = resolved.as_path();
        if is_special(path) {
            drop(File::options().read(true).write(true).open(path).map_err(unwritable)?);
        } else {
            // Told before the run rather than after it, without the name of a temporary file where that is possible.
            access(folder_of(path), Access::WRITE_OK | Access::EXEC_OK).map_err(|error| unwritable(error.into()))?;
            drop(NamedTempFile::new_in(folder_of(path)).map_err(unwritable)?);
        }
        let cases = BufWriter::new(tempfile::tempfile().map_err(unwritable)?);
        let commands = Arc::clone(commands);
        let (attempts, steps) = (HashMap::new(), HashMap::new());
        let (shelf, counts) = (Shelf::default(), Counts::default());
        Ok(Self { path: path.to_owned(), cases, attempts, steps, shelf, counts, commands })
    }

    fn step(&mut self, step: &StepFinished) -> io::Result<()> {
        let value = step.value.as_ref();
        let ending = body::step_in_words(step.outcome, value, step.error.as_ref());
        let part = Part {
            title: format!("== {}: {ending}\n", words::one_line(&step.step)),
            stdout: self.shelf.keep(value.map(body::text).unwrap_or_default())?,
            stderr: self.shelf.keep(stderr(value).into())?,
        };
        self.steps.entry(step.target.clone()).or_default().push(part);
        Ok(())
    }

    fn forget(&mut self, target: &TargetId) {
        for Part { stdout, stderr, .. } in self.steps.remove(target).into_iter().flatten() {
            self.shelf.drop(stdout);
            self.shelf.drop(stderr);
        }
    }

    fn case(&mut self, target: &TargetFinished) -> io::Result<()> {
        self.counts.add(target.outcome);
        let attempts = self.attempts.remove(target.target.label()).unwrap_or_default();
        let mut xml = Writer::new_with_indent(&mut self.cases, b' ', 2);
        let mut case = BytesStart::new("testcase");
        case.push_attribute(("name", &*clean(target.target.label())));
        case.push_attribute(("classname", &*clean(self.commands.of(&target.target))));
        case.push_attribute(("time", &*seconds(target.duration)));
        xml.write_event(Event::Start(case))?;
        let reason = body::reason(target).unwrap_or_default();
        match kind_of(target.outcome) {
            Kind::Passed => {}
            Kind::Skipped => xml.write_event(Event::Empty(BytesStart::new("skipped")))?,
            Kind::Failure => problem(&mut xml, "failure", target.outcome, &reason)?,
            Kind::Error => problem(&mut xml, "error", target.outcome, &reason)?,
        }
        for (outcome, reason, _) in attempts {
            let name = match (kind_of(target.outcome), kind_of(outcome)) {
                (Kind::Passed, Kind::Error) => "flakyError",
                (Kind::Passed, _) => "flakyFailure",
                (_, Kind::Error) => "rerunError",
                _ => "rerunFailure",
            };
            problem(&mut xml, name, outcome, &reason)?;
        }
        match self.steps.get(&target.target) {
            Some(parts) => output_of_steps(&mut xml, parts, &self.shelf)?,
            None => {
                let value = target.value.as_ref();
                text(&mut xml, "system-out", &value.map(body::text).unwrap_or_default())?;
                text(&mut xml, "system-err", stderr(value))?;
            }
        }
        xml.write_event(Event::End(BytesEnd::new("testcase")))?;
        self.forget(&target.target);
        self.cases.write_all(b"\n")
    }

    fn finish(&mut self, event: &RunEvent, summary: &RunSummary) -> io::Result<()> {
        let began = event.time.checked_sub(summary.duration).unwrap_or(event.time);
        let mut report =
            if is_special(&self.path) { NamedTempFile::new()? } else { NamedTempFile::new_in(folder_of(&self.path))? };
        let mut xml = Writer::new(BufWriter::new(report.as_file_mut()));
        xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        xml.get_mut().write_all(b"\n")?;
        for name in ["testsuites", "testsuite"] {
            let mut suite = BytesStart::new(name);
            suite.push_attribute((
                "name",
                if name == "testsuite" { clean(self.commands.of_all()) } else { "wsfleet".into() }.as_ref(),
            ));
            for (name, count) in self.counts.each(name == "testsuite") {
                suite.push_attribute((name, count.to_string().as_str()));
            }
            suite.push_attribute(("time", &*seconds(summary.duration)));
            if name == "testsuite" {
                suite.push_attribute(("timestamp", &*began.strftime("%Y-%m-%dT%H:%M:%S").to_string()));
                suite.push_attribute(("id", &*event.run_id.to_string()));
            }
            xml.write_event(Event::Start(suite))?;
            xml.get_mut().write_all(b"\n")?;
        }
        self.cases.flush()?;
        self.cases.get_mut().rewind()?;
        io::copy(self.cases.get_mut(), xml.get_mut())?;
        for name in ["testsuite", "testsuites"] {
            xml.write_event(Event::End(BytesEnd::new(name)))?;
            xml.get_mut().write_all(b"\n")?;
        }
        xml.get_mut().flush()?;
        drop(xml);
        if is_special(&self.path) {
            report.as_file_mut().rewind()?;
            io::copy(report.as_file_mut(), &mut File::options().write(true).open(&self.path)?)?;
            return Ok(());
        }
        readable(report.as_file())?;
        report.persist(&self.path)?;
        Ok(())
    }
}

impl Sink for Junit {
    fn event(&mut self, event: &RunEvent, _: u8) -> io::Result<()> {
        match &event.kind {
            RunEventKind::TargetRetried(target) => {
                let reason = body::reason(target).unwrap_or_default();
                let attempts = self.attempts.entry(target.target.label().to_owned()).or_default();
                attempts.push((target.outcome, reason, target.duration));
                self.forget(&target.target);
                Ok(())
            }
            RunEventKind::StepFinished(step) => self.step(step),
            RunEventKind::TargetFinished(target) => self.case(target),
            RunEventKind::RunFinished(summary) => self.finish(event, summary),
            _ => Ok(()),
        }
    }
}

impl Counts {
    fn add(&mut self, outcome: Outcome) {
        self.tests += 1;
        match kind_of(outcome) {
            Kind::Passed => {}
            Kind::Failure => self.failures += 1,
            Kind::Error => self.errors += 1,
            Kind::Skipped => self.skipped += 1,
        }
    }

    fn each(&self, of_suite: bool) -> impl Iterator<Item = (&'static str, usize)> {
        let counts = [("tests", self.tests), ("failures", self.failures), ("errors", self.errors)];
        counts.into_iter().chain(of_suite.then_some(("skipped", self.skipped)))
    }
}

/// What an outcome is to JUnit.
#[derive(Clone, Copy)]
enum Kind {
    Passed,
    Failure,
    Error,
    Skipped,
}

/// A failure is what the command did; an error is that it could not be carried out.
const fn kind_of(outcome: Outcome) -> Kind {
    match outcome {
        Outcome::Succeeded => Kind::Passed,
        Outcome::Failed | Outcome::TimedOut | Outcome::Stopped => Kind::Failure,
        Outcome::Skipped => Kind::Skipped,
        _ => Kind::Error,
    }
}

fn problem<W: Write>(xml: &mut Writer<W>, name: &str, outcome: Outcome, reason: &str) -> io::Result<()> {
    let mut element = BytesStart::new(name);
    element.push_attribute(("message", &*clean(reason)));
    element.push_attribute(("type", outcome.name()));
    xml.write_event(Event::Empty(element))
}

/// What the steps of a job wrote to one of the streams, each below its title; of stderr only those that wrote something.
fn output_of_steps<W: Write>(xml: &mut Writer<W>, parts: &[Part], shelf: &Shelf) -> io::Result<()> {
    let all = parts.iter().map(|part| (part, &part.stdout));
    titled(xml, "system-out", all, shelf)?;
    let with_stderr = parts.iter().map(|part| (part, &part.stderr)).filter(|(_, text)| !text.is_empty());
    titled(xml, "system-err", with_stderr, shelf)
}

fn titled<'a, W: Write>(
    xml: &mut Writer<W>,
    name: &str,
    texts: impl Iterator<Item = (&'a Part, &'a Kept)>,
    shelf: &Shelf,
) -> io::Result<()> {
    let mut texts = texts.peekable();
    if texts.peek().is_none() {
        return Ok(());
    }
    xml.write_event(Event::Start(BytesStart::new(name)))?;
    // One after the other: together they may be large.
    for (part, text) in texts {
        let text = shelf.read(text)?;
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        for piece in [&*part.title, &*text, end] {
            xml.write_event(Event::Text(BytesText::new(&clean(piece))))?;
        }
    }
    xml.write_event(Event::End(BytesEnd::new(name)))
}

fn text<W: Write>(xml: &mut Writer<W>, name: &str, content: &str) -> io::Result<()> {
    if content.is_empty() {
        return Ok(());
    }
    xml.write_event(Event::Start(BytesStart::new(name)))?;
    xml.write_event(Event::Text(BytesText::new(&clean(content))))?;
    xml.write_event(Event::End(BytesEnd::new(name)))
}

fn stderr(value: Option<&TargetValue>) -> &str {
    match value {
        Some(TargetValue::Command(result)) => &result.stderr,
        _ => "",
    }
}

/// A text with the replacement character for each character that XML can not hold, even escaped.
fn clean(text: &str) -> Cow<'_, str> {
    let bad = |c: char| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if text.contains(bad) { Cow::Owned(text.replace(bad, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}

/// Whether something is there that is to be written into, such as a pipe, and not to be replaced by a file.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// Lets others read a file as they may read one that was made in the usual way: temporary files are for their owner alone.
fn readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::sample;

    #[test]
    fn a_report_of_every_kind_of_case() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("junit.xml");
        let commands = Arc::new(Commands::same("make <test> && \"x\""));
        let mut junit = Junit::create(&path, &commands).unwrap();
        let RunEventKind::TargetFinished(mut flaky) = sample::ran("w3", 0, "fine ]]>\n", "") else { unreachable!() };
        flaky.attempt = 2;
        let kinds = vec![
            sample::ran("w2", 0, "<b>&\u{1b}[0m\0 é\n", "\u{fffe}"),
            sample::retried("w3"),
            RunEventKind::TargetFinished(flaky),
            sample::failed(),
            sample::unusable("w\u{7}4"),
            sample::finished(Outcome::Skipped, None),
            sample::summary(&[(Outcome::Succeeded, 2), (Outcome::Failed, 1)]),
        ];
        for event in sample::events(kinds) {
            assert!(!path.exists());
            junit.event(&event, 0).unwrap();
        }
        insta::assert_snapshot!("junit", fs::read_to_string(path).unwrap());
    }

    #[test]
    fn a_job_that_went_to_another_workspace_keeps_its_attempts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("junit.xml");
        let mut junit = Junit::create(&path, &Arc::new(Commands::same("make"))).unwrap();
        let ended = |workspace: &str, event: RunEventKind| {
            let (RunEventKind::TargetFinished(mut ended) | RunEventKind::TargetRetried(mut ended)) = event else {
                unreachable!()
            };
            ended.target = TargetId { workspace: workspace.into(), job: Some("build".into()) };
            ended
        };
        let kinds = vec![
            RunEventKind::TargetRetried(ended("w1", sample::retried("w1"))),
            RunEventKind::TargetFinished(ended("w2", sample::ran("w2", 0, "fine\n", ""))),
            sample::summary(&[(Outcome::Succeeded, 1)]),
        ];
        for event in sample::events(kinds) {
            junit.event(&event, 0).unwrap();
        }
        let report = fs::read_to_string(path).unwrap();
        assert_eq!(report.matches("<flakyFailure ").count(), 1, "{report}");
    }
}
