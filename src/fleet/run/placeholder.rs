use std::{collections::BTreeMap, path::PathBuf};

use super::RunOperation;
use crate::messages::{StartCommand, UploadSource};

/// What the name of the workspace takes the place of.
pub(crate) const WORKSPACE: &str = "{workspace}";
/// What the name of the job takes the place of.
pub(crate) const JOB: &str = "{job}";

/// The names that take the place of `{workspace}` and `{job}`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) workspace: &'a str,
    pub(super) job: Option<&'a str>,
}

impl Names<'_> {
    /// The operation for one target, with the variables of its job.
    pub(super) fn fill(&self, operation: &RunOperation, env: &BTreeMap<String, String>) -> RunOperation {
        let mut own = operation.clone();
        match &mut own {
            RunOperation::Execute(command) | RunOperation::Start(StartCommand(command)) => {
                for (name, value) in env {
                    if !command.secret_env.contains_key(name) {
                        command.env.entry(name.clone()).or_insert_with(|| value.clone());
                    }
                }
                for value in command.env.values_mut() {
                    self.fill_text(value, str::to_owned);
                }
            }
            RunOperation::Download(download) => self.fill_path(&mut download.destination),
            RunOperation::DownloadDirectory(download) => self.fill_path(&mut download.destination),
            RunOperation::UploadDirectory(upload) => self.fill_path(&mut upload.source),
            RunOperation::Upload(upload) => {
                if let UploadSource::Path(path) = &mut upload.source {
                    self.fill_path(path);
                }
            }
            RunOperation::Attach(_)
            | RunOperation::Stop(_)
            | RunOperation::Changes(_)
            | RunOperation::Diff(_)
            | RunOperation::Ping
            | RunOperation::Info => {}
        }
        own
    }

    fn fill_path(&self, path: &mut PathBuf) {
        if let Some(text) = path.to_str() {
            let mut text = text.to_owned();
            self.fill_text(&mut text, file_name);
            *path = text.into();
        }
    }

    /// Puts the names in. A name that looks like the other placeholder stays as it is.
    fn fill_text(&self, text: &mut String, write: fn(&str) -> String) {
        if !text.contains(WORKSPACE) && !text.contains(JOB) {
            return;
        }
        let pieces = text.split(WORKSPACE).map(|piece| match self.job {
            Some(job) => piece.replace(JOB, &write(job)),
            None => piece.to_owned(),
        });
        let filled = pieces.collect::<Vec<_>>().join(&write(self.workspace));
        *text = filled;
    }
}

/// A name as one part of a local path, which it can never leave.
pub(crate) fn file_name(name: &str) -> String {
    let name = name.replace(['/', '\\', '\0'], "_");
    if matches!(name.as_str(), "" | "." | "..") { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ExecuteCommand, FileDownload, FileUpload};

    fn names<'a>(workspace: &'a str, job: Option<&'a str>) -> Names<'a> {
        Names { workspace, job }
    }

    #[test]
    fn names_take_the_place_of_the_placeholders_and_a_commands_own_variables_win() {
        let env = BTreeMap::from([("W".to_owned(), "of the job".to_owned()), ("J".to_owned(), "{job}".to_owned())]);
        let operation = RunOperation::Execute(ExecuteCommand::new("true").with_env("W", "<{workspace}>"));
        let RunOperation::Execute(command) = names("a/{job}", Some("j")).fill(&operation, &env) else { panic!() };
        assert_eq!((command.env["W"].as_str(), command.env["J"].as_str()), ("<a/{job}>", "j"));
    }

    #[test]
    fn without_a_job_its_placeholder_stays() {
        let operation = RunOperation::Upload(FileUpload::new(PathBuf::from("in/{job}/{workspace}"), "/x"));
        let RunOperation::Upload(upload) = names("w", None).fill(&operation, &BTreeMap::new()) else { panic!() };
        assert!(matches!(upload.source, UploadSource::Path(path) if path.as_os_str() == "in/{job}/w"));
    }

    #[test]
    fn a_name_cannot_leave_the_destination() {
        let operation = RunOperation::Download(FileDownload::new("/x", "out/{workspace}/{job}/x"));
        for (name, expected) in
            [("../../etc", "out/.._.._etc/.._.._etc/x"), ("..", "out/_../_../x"), ("h:1/s/a", "out/h:1_s_a/h:1_s_a/x")]
        {
            let filled = names(name, Some(name)).fill(&operation, &BTreeMap::new());
            let RunOperation::Download(download) = filled else { panic!() };
            assert_eq!(download.destination, std::path::Path::new(expected));
        }
    }
}
