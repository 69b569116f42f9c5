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
        Self::parse(text).map(Some).map_err(|(line, reason)| {
            let name = path.display();
            CliError::usage(format!(
                "{name}:{line}: not a line of a joblog: {reason}; correct it, or give another file with --joblog"
            ))
        })
    }

    /// Reads whole lines; an error comes with the number of its line.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut resume = Self::default();
        let mut failed = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if number == 1 {
                if line != HEADER {
                    return Err((1, "the first line is not the header of a joblog of this program".to_owned()));
                }
                continue;
            }
            let entry = Entry::parse(line).map_err(|reason| (number, reason))?;
            let is_job = entry.job.is_some();
            let key = (entry.job.unwrap_or(entry.workspace), entry.command);
            // What a job does is told in words, which no shell takes.
            if entry.outcome != Outcome::Succeeded && !is_job {
                failed.push(key.clone());
            }
            resume.ended.insert(key, entry.outcome);
        }
        for (target, command) in failed {
            let outcome = resume.ended.get(&(target, command.clone()));
            if outcome.is_some_and(|outcome| *outcome != Outcome::Succeeded)
                && resume.failed_commands.last() != Some(&command)
                && !resume.failed_commands.contains(&command)
            {
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

    /// The one command of all targets that failed.
    ///
    /// # Errors
    /// When none failed, or they are of several commands.
    pub(in crate::cli) fn failed_command(&self) -> Result<Option<&str>, CliError> {
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
        format!("1\t{host}\t1.0\t1.0\t0\t0\t0\t0\t{command}\t{outcome}\t\n")
    }

    fn parse(lines: &[String]) -> Result<Resume, (usize, String)> {
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
            let (number, reason) = parse(&[line("a", "x", "failed"), wrong]).unwrap_err();
            assert_eq!(number, 3);
            assert!(reason.contains(said), "{reason}");
        }
        assert_eq!(Resume::parse("Seq\tHost\n").unwrap_err().0, 1);
        assert!(Resume::parse("").is_ok());
    }
}
