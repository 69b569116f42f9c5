use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use crate::agent::{bash::CommandEnvironment, file::resolve_leniently, http::ApiError};

/// How long one run of git may take.
const QUERY_TIME: Duration = Duration::from_secs(30);

/// Why a git query has no answer.
#[derive(Debug)]
pub(in crate::agent) enum GitError {
    /// There is no repository. Most queries then answer that nothing changed.
    NoRepository(String),
    /// Git failed, or the path cannot be compared: 400 with this text.
    Failed(String),
}

impl From<GitError> for ApiError {
    fn from(error: GitError) -> Self {
        let (GitError::NoRepository(text) | GitError::Failed(text)) = error;
        Self::bad_request(text)
    }
}

pub(in crate::agent) type GitResult<T> = Result<T, GitError>;

/// Runs git.
#[derive(Clone, Copy)]
pub(in crate::agent) struct Git<'a> {
    environment: &'a CommandEnvironment,
}

impl<'a> Git<'a> {
    pub(in crate::agent) fn new(environment: &'a CommandEnvironment) -> Self {
        Self { environment }
    }

    /// Runs `git --no-pager` with these arguments and gives its output.
    pub(super) async fn run(&self, directory: &Path, arguments: &[&str]) -> GitResult<Vec<u8>> {
        self.run_with(directory, &[&["--no-pager"], arguments].concat(), &[]).await
    }

    /// Runs git with these arguments and further ones that messages leave out.
    pub(super) async fn run_with(&self, directory: &Path, arguments: &[&str], further: &[&str]) -> GitResult<Vec<u8>> {
        let mut command = self.command(directory);
        command.args(arguments).args(further);
        let shown = shell_join(arguments);
        match timeout(QUERY_TIME, command.output()).await {
            Err(_) => Err(GitError::Failed(format!("Git command timed out: {shown}"))),
            Ok(Ok(Output { status, stdout, .. })) if status.success() => Ok(stdout),
            Ok(Ok(output)) => {
                log::debug!("{shown}: {}", String::from_utf8_lossy(&output.stderr).trim());
                Err(GitError::Failed(format!("Git command failed: {shown}")))
            }
            Ok(Err(error)) => {
                log::debug!("{shown}: {error}");
                Err(GitError::Failed("Git command not found. Is git installed?".to_owned()))
            }
        }
    }

    /// The same, as text without white space around it.
    pub(super) async fn text(&self, directory: &Path, arguments: &[&str]) -> GitResult<String> {
        let output = self.run(directory, arguments).await?;
        Ok(super::text::strip(&String::from_utf8_lossy(&output)).to_owned())
    }

    /// Runs git with a throwaway index, its output into a file if there is one. Gives what it said of a failure.
    pub(super) async fn run_with_index(
        &self,
        directory: &Path,
        index: &Path,
        arguments: &[&str],
        output: Option<&File>,
        time: Duration,
    ) -> Result<(), String> {
        let mut command = self.command(directory);
        command.args(arguments).env("GIT_INDEX_FILE", index).stdout(Stdio::null());
        if let Some(file) = output {
            command.stdout(file.try_clone().map_err(|error| error.to_string())?);
        }
        // Not `output`, which would take the standard output for itself.
        let child = command.spawn().map_err(|error| error.to_string())?;
        match timeout(time, child.wait_with_output()).await {
            Err(_) => Err("Timed out generating git delta".to_owned()),
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(_) => Err("Failed to generate git delta".to_owned()),
        }
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new("git");
        self.environment.apply(&mut command);
        command
            // A question for a password would wait for ever, and a lock taken in passing disturbs the user's own git.
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// The directory without links, if it is in a repository.
    pub(super) async fn repository(&self, directory: &Path) -> GitResult<PathBuf> {
        let path = resolve_leniently(directory);
        if !path.exists() {
            return Err(GitError::NoRepository(format!("Directory does not exist: {}", path.display())));
        }
        if !path.is_dir() {
            return Err(GitError::NoRepository(format!("Path is not a directory: {}", path.display())));
        }
        match self.run_with(&path, &["rev-parse", "--git-dir"], &[]).await {
            Ok(_) => Ok(path),
            Err(_) => Err(GitError::NoRepository(format!("Not a git repository: {}", path.display()))),
        }
    }
}

/// Arguments as one would type them, after `git`.
fn shell_join(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|argument| {
        let safe = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
        if !argument.is_empty() && argument.chars().all(safe) {
            (*argument).to_owned()
        } else {
            format!("'{}'", argument.replace('\'', "'\"'\"'"))
        }
    });
    std::iter::once("git".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_one_would_type_them() {
        assert_eq!(shell_join(&["rev-parse", "it's^{commit}", ""]), "git rev-parse 'it'\"'\"'s^{commit}' ''");
    }
}
