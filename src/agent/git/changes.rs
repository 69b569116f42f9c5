use std::path::{Path, PathBuf};

use super::command::{Git, GitError, GitResult};
use crate::protocol::{GitChange, GitChangeStatus};

/// What changed in a directory, and in the repositories right below it.
pub(super) async fn changes(git: &Git<'_>, directory: &Path, asked: Option<&str>) -> GitResult<Vec<GitChange>> {
    let nested = nested_repositories(directory);
    let own = match in_repository(git, directory, asked).await {
        Ok(changes) => Ok(changes),
        Err(error @ GitError::NoRepository(_)) if !nested.is_empty() => Err(error),
        Err(error) => return Err(error),
    };
    let mut found_any = own.is_ok();
    let inside_nested = |change: &GitChange| nested.iter().any(|name| Path::new(&change.path).starts_with(name));
    let mut changes: Vec<_> = own.iter().flatten().filter(|change| !inside_nested(change)).cloned().collect();
    for name in &nested {
        let Ok(below) = in_repository(git, &directory.join(name), asked).await else { continue };
        found_any = true;
        let renamed = below.into_iter().map(|change| GitChange { path: format!("{name}/{}", change.path), ..change });
        changes.extend(renamed);
    }
    if !found_any {
        own?;
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

/// The names of the repositories right below a directory.
fn nested_repositories(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| !name.starts_with('.') && directory.join(name).join(".git").exists()).collect()
}

async fn in_repository(git: &Git<'_>, directory: &Path, asked: Option<&str>) -> GitResult<Vec<GitChange>> {
    let repository: PathBuf = git.repository(directory).await?;
    let base = git.display_base(&repository, asked).await?;
    let shown = ["--no-pager", "diff", "--name-status", "--relative", &base];
    let mut changes = parse_name_status(&git.run_with(&repository, &shown, &["-z"]).await?)?;
    let untracked = git.run(&repository, &["ls-files", "-z", "--others", "--exclude-standard"]).await;
    let untracked = untracked.unwrap_or_default();
    let names = untracked.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    changes.extend(names.map(|name| change(GitChangeStatus::Added, name)));
    Ok(changes)
}

fn change(status: GitChangeStatus, path: &[u8]) -> GitChange {
    let path = String::from_utf8_lossy(path);
    GitChange { status, path: path.trim_end_matches('/').to_owned() }
}

/// Reads `git diff --name-status -z`. A rename is told as a deletion and an addition, a copy as an addition.
pub(super) fn parse_name_status(output: &[u8]) -> GitResult<Vec<GitChange>> {
    let mut fields = output.split(|byte| *byte == 0);
    let mut changes = Vec::new();
    while let Some(status) = fields.next().filter(|status| !status.is_empty()) {
        let malformed = || GitError::Failed("Unexpected git diff output format".to_owned());
        let path = fields.next().ok_or_else(malformed)?;
        match status[0] {
            b'A' => changes.push(change(GitChangeStatus::Added, path)),
            b'D' => changes.push(change(GitChangeStatus::Deleted, path)),
            // A change of type, an unmerged file and whatever git may come up with: the content is not the same.
            b'M' | b'T' | b'U' | b'X' | b'B' => changes.push(change(GitChangeStatus::Updated, path)),
            kind @ (b'R' | b'C') => {
                if kind == b'R' {
                    changes.push(change(GitChangeStatus::Deleted, path));
                }
                changes.push(change(GitChangeStatus::Added, fields.next().ok_or_else(malformed)?));
            }
            _ => {
                let status = String::from_utf8_lossy(status);
                return Err(GitError::Failed(format!("Unexpected git status: {status}")));
            }
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(output: &str) -> Vec<(GitChangeStatus, String)> {
        let changes = parse_name_status(output.as_bytes()).unwrap();
        changes.into_iter().map(|change| (change.status, change.path)).collect()
    }

    #[test]
    fn every_status_and_every_name_is_read() {
        use GitChangeStatus::{Added, Deleted, Updated};
        let output = "M\0sp ace\"\n\0T\0ï\0D\0d\0R100\0old\0new\0C50\0from\0copy\0U\0u\0";
        let expected = [
            (Updated, "sp ace\"\n"),
            (Updated, "ï"),
            (Deleted, "d"),
            (Deleted, "old"),
            (Added, "new"),
            (Added, "copy"),
            (Updated, "u"),
        ];
        assert_eq!(parsed(output), expected.map(|(status, path)| (status, path.to_owned())));
        assert!(parsed("").is_empty());
        assert!(parse_name_status(b"R100\0old").is_err());
    }
}
