use std::{
    fs::OpenOptions,
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{
    command::{Git, GitError, GitResult},
    text::{normalize_lines, universal_newlines},
};
use crate::{agent::file::resolve_leniently, protocol::GitDiff};

/// Files above this size are not compared.
pub(super) const LARGEST_FILE: u64 = 1 << 20;

/// The closest directory above a path that has a `.git`.
pub(super) fn closest_repository(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|directory| directory.join(".git").exists()).map(Path::to_owned)
}

pub(super) fn too_large(size: u64) -> GitError {
    GitError::Failed(format!("File too large for git diff: {size} bytes (max: {LARGEST_FILE} bytes)"))
}

/// `path` below `repository`, for use after a colon in git's names.
pub(super) fn relative<'a>(path: &'a Path, repository: &Path) -> GitResult<std::borrow::Cow<'a, str>> {
    let root = || Path::new(".").to_string_lossy();
    path.strip_prefix(repository)
        .map(|below| if below.as_os_str().is_empty() { root() } else { below.to_string_lossy() })
        .map_err(|_| GitError::Failed(format!("File is not within git repository: {}", path.display())))
}

/// A file's content now and in the state that the workspace is compared with.
pub(super) async fn diff(git: &Git<'_>, asked_path: &Path, asked: Option<&str>) -> GitResult<GitDiff> {
    let path = resolve_leniently(asked_path);
    let missing = || GitError::Failed(format!("File does not exist: {}", path.display()));
    let found = path.metadata().ok();
    if let Some(size) = found.as_ref().map(std::fs::Metadata::len).filter(|size| *size > LARGEST_FILE) {
        return Err(too_large(size));
    }
    let Some(repository) = closest_repository(&path) else {
        let text = format!("File is not in a git repository: {}", path.display());
        return Err(if found.is_some() { GitError::NoRepository(text) } else { missing() });
    };
    let repository = git.repository(&repository).await?;
    let base = git.display_base(&repository, asked).await?;
    let name = format!("{base}:{}", relative(&path, &repository)?);
    if found.is_none() {
        match blob_size(git, &repository, &name).await {
            None => return Err(missing()),
            Some(size) if size > LARGEST_FILE => return Err(too_large(size)),
            Some(_) => {}
        }
    }
    let shown = show(git, &repository, &name).await;
    let original = normalize_lines(&String::from_utf8_lossy(&shown));
    let modified = if found.is_some() { read_text(&path).await } else { String::new() };
    Ok(GitDiff { modified: Some(modified), original: Some(original) })
}

/// A file's lines; empty when it cannot be read or is no text.
async fn read_text(path: &Path) -> String {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_bounded(&path)).await;
    let bytes = read.ok().and_then(Result::ok).unwrap_or_default();
    String::from_utf8(bytes).map(|text| normalize_lines(&text)).unwrap_or_default()
}

/// Reads a file, which may be growing. Blocks.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    // To open a pipe that nobody writes to would wait for ever.
    let without_waiting = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(without_waiting).open(path)?;
    let mut bytes = Vec::new();
    if file.metadata()?.is_file() {
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// What a name stands for: a file's content, or a directory's list. Empty when it stands for nothing.
async fn show(git: &Git<'_>, repository: &Path, name: &str) -> Vec<u8> {
    // To `show`, a file name with two dots in it looks like a range of commits.
    match git.run(repository, &["cat-file", "blob", name]).await {
        Ok(content) => content,
        Err(_) => git.run(repository, &["show", name]).await.unwrap_or_default(),
    }
}

/// The size of what a name stands for, if that is a file.
async fn blob_size(git: &Git<'_>, repository: &Path, name: &str) -> Option<u64> {
    let kind = git.text(repository, &["cat-file", "-t", name]).await.ok()?;
    if kind != "blob" {
        return None;
    }
    git.text(repository, &["cat-file", "-s", name]).await.ok()?.parse().ok()
}

/// A file's content at a name, without white space around it; empty when there is none.
pub(super) async fn content_at(git: &Git<'_>, repository: &Path, name: &str) -> GitResult<String> {
    let Ok(size) = git.text(repository, &["cat-file", "-s", name]).await else { return Ok(String::new()) };
    if let Some(size) = size.parse().ok().filter(|size| *size > LARGEST_FILE) {
        return Err(too_large(size));
    }
    let shown = show(git, repository, name).await;
    Ok(super::text::strip(&universal_newlines(&String::from_utf8_lossy(&shown))).to_owned())
}
