//! A line for each target that ended, in the format of GNU parallel with three columns more.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::Arc,
};

use super::{Commands, Sink, commands::Kind};
use crate::{
    Outcome,
    cli::error::CliError,
    fleet::{RunEvent, RunEventKind, TargetFinished, TargetId, TargetValue},
};

/// The first line.
pub(super) const HEADER: &str =
    "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\tOutcome\tJob\tOperation";

/// Adds a line for each target that ended, at once, so that a crash loses none.
pub(super) struct Joblog {
    file: File,
    seq: u64,
    /// What the steps moved of targets that have not ended.
    moved: HashMap<TargetId, Moved>,
    commands: Arc<Commands>,
}

/// How many bytes went to a workspace, and came from it.
#[derive(Default, Clone, Copy)]
struct Moved {
    sent: u64,
    received: u64,
}

impl Joblog {
    /// Begins a joblog, or goes on with one that is there.
    ///
    /// # Errors
    /// When the file can not be written.
    pub(super) fn open(path: &Path, append: bool, commands: &Arc<Commands>) -> Result<Self, CliError> {
        Self::open_file(path, append)
            .map(|(file, seq)| Self { file, seq, moved: HashMap::new(), commands: Arc::clone(commands) })
            .map_err(|error| CliError::usage(format!("--joblog: can not write {}: {error}", path.display())))
    }

    fn open_file(path: &Path, append: bool) -> io::Result<(File, u64)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(!append).open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // A line that a crash left half-written would become part of the next.
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::Start(whole as u64))?;
        let lines = text[..whole].iter().filter(|&&byte| byte == b'\n').count() as u64;
        if lines == 0 {
            writeln!(file, "{HEADER}")?;
        }
        Ok((file, lines.saturating_sub(1)))
    }

    fn line(&mut self, event: &RunEvent, target: &TargetFinished) -> String {
        self.seq += 1;
        let ended = event.time.as_millisecond() as f64 / 1e3;
        let took = target.duration.as_secs_f64();
        let moved = self.moved.remove(&target.target);
        let Moved { sent, received } = moved.unwrap_or_else(|| self.moved(&target.target, 0, target.value.as_ref()));
        let (exit, signal) = numbers(target.value.as_ref());
        let command = escape(self.commands.of(&target.target));
        let job = target.target.job.as_deref().unwrap_or_default();
        format!(
            "{}\t{}\t{:.3}\t{took:.3}\t{sent}\t{received}\t{exit}\t{signal}\t{command}\t{}\t{}\t{}\n",
            self.seq,
            escape(&target.target.workspace),
            ended - took,
            target.outcome,
            escape(job),
            self.commands.operation(),
        )
    }

    /// What the step in this place moved.
    fn moved(&self, target: &TargetId, step: usize, value: Option<&TargetValue>) -> Moved {
        match value {
            Some(TargetValue::Command(result)) => {
                Moved { sent: 0, received: result.stdout_bytes + result.stderr_bytes }
            }
            Some(TargetValue::File(file)) => {
                let size = file.file_size.unwrap_or_default();
                match self.commands.kind(target, step) {
                    Kind::Upload => Moved { sent: size, received: 0 },
                    _ => Moved { sent: 0, received: size },
                }
            }
            _ => Moved::default(),
        }
    }
}

impl Sink for Joblog {
    fn event(&mut self, event: &RunEvent, _: u8) -> io::Result<()> {
        match &event.kind {
            RunEventKind::StepFinished(step) => {
                let Moved { sent, received } = self.moved(&step.target, step.index, step.value.as_ref());
                let all = self.moved.entry(step.target.clone()).or_default();
                (all.sent, all.received) = (all.sent + sent, all.received + received);
                Ok(())
            }
            RunEventKind::TargetRetried(target) => {
                self.moved.remove(&target.target);
                Ok(())
            }
            // What was never begun is still to be done.
            RunEventKind::TargetFinished(target) if target.outcome != Outcome::Skipped => {
                let line = self.line(event, target);
                self.file.write_all(line.as_bytes())
            }
            _ => Ok(()),
        }
    }
}

/// The exit code and the signal; -1 where there is no exit code.
fn numbers(value: Option<&TargetValue>) -> (i32, i32) {
    match value {
        Some(TargetValue::Command(result)) => match result.exit_code {
            signal @ -64..=-2 => (0, -signal),
            code => (code, 0),
        },
        Some(_) => (0, 0),
        None => (-1, 0),
    }
}

/// A text without tabs and line ends, which separate the columns and lines.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '\t', '\n', '\r']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r"))
}

/// A text as it was before [`escape`]; `None` when it was not made by that.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            c => c,
        });
    }
    Some(plain)
}

/// What a line of a joblog says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) workspace: String,
    pub(super) job: Option<String>,
    pub(super) command: String,
    pub(super) outcome: Outcome,
    /// The subcommand that wrote it.
    pub(super) operation: String,
}

impl Entry {
    /// Reads a line, without its end.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [seq, host, start, runtime, sent, received, exit, signal, command, outcome, job, operation] = columns[..]
        else {
            return Err(format!("it has {} columns in place of {}", columns.len(), HEADER.split('\t').count()));
        };
        for (name, number) in [("Seq", seq), ("Send", sent), ("Receive", received)] {
            number.parse::<u64>().map_err(|_| format!("{name} is `{}`, which is no number", number.escape_debug()))?;
        }
        for (name, number) in [("Starttime", start), ("JobRuntime", runtime)] {
            number.parse::<f64>().map_err(|_| format!("{name} is `{}`, which is no time", number.escape_debug()))?;
        }
        for (name, number) in [("Exitval", exit), ("Signal", signal)] {
            number.parse::<i32>().map_err(|_| format!("{name} is `{}`, which is no number", number.escape_debug()))?;
        }
        let outcome = Outcome::ALL
            .into_iter()
            .find(|known| known.name() == outcome)
            .ok_or_else(|| format!("`{}` is no outcome", outcome.escape_debug()))?;
        let text =
            |name: &str, text: &str| unescape(text).ok_or_else(|| format!("{name} ends in the middle of an escape"));
        let job = text("Job", job)?;
        Ok(Self {
            workspace: text("Host", host)?,
            job: (!job.is_empty()).then_some(job),
            command: text("Command", command)?,
            outcome,
            operation: text("Operation", operation)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::output::sample;

    fn commands(command: &str) -> Arc<Commands> {
        Arc::new(Commands::same(command))
    }

    #[test]
    fn lines_are_as_gnu_parallel_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut joblog = Joblog::open(&path, false, &commands("a\tb\nc\\d")).unwrap();
        let kinds = vec![
            sample::failed(),
            sample::unusable("w2"),
            sample::ran("w3", -9, "", ""),
            sample::finished(Outcome::Skipped, None),
        ];
        for event in sample::events(kinds) {
            joblog.event(&event, 0).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = [
            HEADER,
            "1\tw1\t-1.500\t1.500\t0\t20\t3\t0\ta\\tb\\nc\\\\d\tfailed\t\trun",
            "2\tw2\t-0.500\t1.500\t0\t0\t-1\t0\ta\\tb\\nc\\\\d\tunreachable\t\trun",
            "3\tw3\t0.500\t1.500\t0\t0\t0\t9\ta\\tb\\nc\\\\d\tfailed\t\trun",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_interrupted_line_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, format!("{HEADER}\n1\tw0\t1.0\t1.0\t0\t0\t0\t0\ttrue\tsucceeded\t\trun\n2\tw1\t0."))
            .unwrap();
        let mut joblog = Joblog::open(&path, true, &commands("true")).unwrap();
        for event in sample::events(vec![sample::ran("w1", 0, "", "")]) {
            joblog.event(&event, 0).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().skip(1).map(|line| Entry::parse(line).unwrap().workspace).collect();
        assert_eq!(lines, ["w0", "w1"]);
        assert!(text.lines().last().unwrap().starts_with("2\tw1\t"), "{text}");
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in "[a\\\\\t\n\rtnr]{0,12}") {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['\t', '\n', '\r']));
            prop_assert_eq!(unescape(&escaped), Some(text.clone()));
        }

        #[test]
        fn no_line_makes_it_panic(line in "[0-9a-z\t\\\\.]{0,60}") {
            let _ = Entry::parse(&line);
        }
    }
}
