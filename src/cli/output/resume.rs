use std::{collections::HashMap, io::Read as _, path::Path};

use super::joblog::{Entry, HEADER};
use crate::{Outcome, cli::error::CliError};

/// The most bytes of a joblog: some million lines.
const MAX_JOBLOG: u64 = 1 << 30;

/// What a joblog says of targets that were carried out before.
#[derive(Debug, Default)]
pub(in crate::cli) struct Resume {
    /// How the last try of each target with each command ended.
    ended: HashMap<(String, String), Outcome>,
    /// The commands of those that failed last, in the order in which they are first met.
    failed_commands: Vec<String>,
    /// Whether jobs of a file are among those that failed last.
    has_failed_jobs: bool,
}

/// Why a joblog is not taken.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    /// A line, counted from 1, is none of a joblog.
    Line(usize, String),
    /// A line was written by another subcommand than `run`.
    OfOperation(usize, String),
}

impl Resume {
    /// Reads a joblog; `None` when it is not there. Notes, which the user is to be told, are handed to `note`.
    ///
    /// # Errors
    /// When it can not be read, or a line of it is not of a joblog.
    pub(in crate::cli) fn load(path: &Path, note: impl FnOnce(&str)) -> Result<Option<Self>, CliError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            CliError::usage(format!("--joblog: can not read {}: {error}", path.display()))
        };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_JOBLOG + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > MAX_JOBLOG {
            return Err(unreadable(&"it is longer than a gibibyte, and so it is no joblog"));
        }
        // A crash may have cut it in the middle of a character.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole < bytes.len() {
            note(&format!("the last line of {} is half-written and ignored", path.display()));
        }
        let text = std::str::from_utf8(&bytes[..whole]).map_err(|error| unreadable(&error))?;
        let name = path.display();
        Self::parse(text).map(Some).map_err(|wrong| match wrong {
            Wrong::Line(line, reason) => CliError::usage(format!(
                "{name}:{line}: not a line of a joblog: {reason}; correct it, or give another file with --joblog"
            )),
            Wrong::OfOperation(line, operation) => CliError::usage(format!(
                "{name}:{line}: this joblog was written by wsfleet {operation}, and only what wsfleet run did is carried \
                 out again from a joblog: give that of a run with --joblog, or repeat the {operation} for the targets that \
                 failed, with -w"
            )),
        })
    }

    /// Reads whole lines.
    fn parse(text: &str) -> Result<Self, Wrong> {
        let mut resume = Self::default();
        let mut failed = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if number == 1 {
                if line != HEADER {
                    return Err(Wrong::Line(
                        1,
                        "the first line is not the header of a joblog of this program".to_owned(),
                    ));
                }
                continue;
            }
            let entry = Entry::parse(line).map_err(|reason| Wrong::Line(number, reason))?;
            if entry.operation != "run" {
                return Err(Wrong::OfOperation(number, entry.operation));
            }
            let is_job = entry.job.is_some();
            let key = (entry.job.unwrap_or(entry.workspace), entry.command);
            if entry.outcome != Outcome::Succeeded {
                failed.push((key.clone(), is_job));
            }
            resume.ended.insert(key, entry.outcome);
        }
        for (key, is_job) in failed {
            if resume.ended.get(&key).is_none_or(|outcome| *outcome == Outcome::Succeeded) {
                continue;
            }
            let (_, command) = key;
            if is_job {
                // What a job does is told in words, which no shell takes.
                resume.has_failed_jobs = true;
            } else if resume.failed_commands.last() != Some(&command) && !resume.failed_commands.contains(&command) {
                resume.failed_commands.push(command);
            }
        }
        Ok(resume)
    }

    /// How a target ended the last time with this command.
    pub(in crate::cli) fn outcome(&self, target: &str, command: &str) -> Option<Outcome> {
        // The key is made of both; a lookup that borrows would need a type of its own.
        self.ended.get(&(target.to_owned(), command.to_owned())).copied()
    }

    /// The one command of all targets that failed; `None` when none failed.
    ///
    /// # Errors
    /// When they are of several commands, or jobs.
    pub(in crate::cli) fn failed_command(&self) -> Result<Option<&str>, CliError> {
        if self.has_failed_jobs {
            return Err(CliError::usage(
                "--retry-failed: jobs of a file are among what failed in the joblog: give that file, with --jobs FILE",
            ));
        }
        match &self.failed_commands[..] {
            [] => Ok(None),
            [command] => Ok(Some(command)),
            several => Err(CliError::usage(format!(
                "--retry-failed: the joblog has failures of {} commands: give the one that is meant, with --resume-failed, \
                 as in --resume-failed -- {}",
                several.len(),
                several[0]
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(host: &str, command: &str, outcome: &str) -> String {
        format!("1\t{host}\t1.0\t1.0\t0\t0\t0\t0\t{command}\t{outcome}\t\trun\n")
    }

    fn parse(lines: &[String]) -> Result<Resume, Wrong> {
        Resume::parse(&format!("{HEADER}\n{}", lines.concat()))
    }

    #[test]
    fn the_last_line_of_a_target_and_command_decides() {
        let lines = [line("a", "x", "failed"), line("b", "x", "failed"), line("a", "x", "succeeded")];
        let resume = parse(&lines).unwrap();
        assert_eq!(resume.outcome("a", "x"), Some(Outcome::Succeeded));
        assert_eq!(resume.outcome("b", "x"), Some(Outcome::Failed));
        assert_eq!(resume.outcome("a", "y"), None, "another command is another matter");
        assert_eq!(resume.failed_command().unwrap(), Some("x"));
    }

    #[test]
    fn failures_of_several_commands_are_refused() {
        let resume = parse(&[line("a", "x", "failed"), line("b", "y", "gone")]).unwrap();
        assert!(resume.failed_command().unwrap_err().to_string().contains("2 commands"));
        let resume = parse(&[line("a", "x", "failed"), line("a", "x", "succeeded")]).unwrap();
        assert_eq!(resume.failed_command().unwrap(), None);
    }

    #[test]
    fn wrong_lines_are_told_with_their_number() {
        let wrong = [
            (line("a", "x", "sideways"), "`sideways` is no outcome"),
            ("1\ta\n".to_owned(), "2 columns"),
            (line("a", "x", "failed").replace("1.0", "soon"), "Starttime is `soon`"),
            (line("a", "x\\", "failed"), "escape"),
        ];
        for (wrong, said) in wrong {
            let Wrong::Line(3, reason) = parse(&[line("a", "x", "failed"), wrong]).unwrap_err() else {
                panic!("{said}")
            };
            assert!(reason.contains(said), "{reason}");
        }
        assert!(matches!(Resume::parse("Seq\tHost\n"), Err(Wrong::Line(1, _))));
        assert!(Resume::parse("").is_ok());
    }

    #[test]
    fn what_other_subcommands_did_is_no_command() {
        let upload = line("a", "upload to /tmp/x", "failed").replace("\trun\n", "\tupload\n");
        let wrong = parse(&[line("a", "x", "failed"), upload]).unwrap_err();
        assert_eq!(wrong, Wrong::OfOperation(3, "upload".to_owned()));
    }

    #[test]
    fn jobs_that_failed_ask_for_their_file() {
        let job = |outcome: &str| line("a", "make; finally: rm x", outcome).replace("\t\trun\n", "\tjob-1\trun\n");
        let resume = parse(&[job("failed")]).unwrap();
        assert!(resume.failed_command().unwrap_err().to_string().contains("--jobs FILE"));
        assert_eq!(parse(&[job("failed"), job("succeeded")]).unwrap().failed_command().unwrap(), None);
    }
}
