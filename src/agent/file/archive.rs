use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::excludes::{Excludes, is_git_secret};

/// The file in an archive that tells what was captured.
const MANIFEST: &str = "archive_manifest.json";
/// How deep a repository may lie below the directory that was asked for.
const REPOSITORY_DEPTH: usize = 3;
/// Directories that may hold repositories which are not the workspace's own.
const NOT_OURS: [&str; 4] = ["node_modules", "venv", "site-packages", "vendor"];

/// A file for an archive: unnamed, and beside the directory rather than in a folder that may be in memory.
pub(super) fn scratch_file(directory: &Path) -> io::Result<File> {
    match directory.parent().map(tempfile::tempfile_in) {
        Some(Ok(file)) => Ok(file),
        _ => tempfile::tempfile(),
    }
}

/// The only repository at or below a directory, or the directory itself when there is none or more than one.
pub(super) fn repository_root(directory: &Path) -> PathBuf {
    if directory.join(".git").exists() {
        return directory.to_owned();
    }
    let (mut found, mut frontier) = (Vec::new(), vec![(directory.to_owned(), 0)]);
    while let Some((current, depth)) = frontier.pop() {
        let children = if depth < REPOSITORY_DEPTH { fs::read_dir(&current).ok() } else { None };
        for child in children.into_iter().flatten().filter_map(Result::ok) {
            let name = child.file_name().to_string_lossy().into_owned();
            let searched = !name.starts_with('.') && !NOT_OURS.contains(&name.as_str());
            if !searched || !child.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if child.path().join(".git").exists() {
                found.push(child.path());
            } else {
                frontier.push((child.path(), depth + 1));
            }
        }
    }
    match found.as_slice() {
        [only] => only.clone(),
        _ => directory.to_owned(),
    }
}

/// Writes a gzipped tar archive of a directory: directories and regular files, no links. Blocks.
pub(super) fn write_tar_gz(root: &Path, file: &File, excludes: &Excludes) -> io::Result<()> {
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut archive = Archive {
        tar: Builder::new(GzEncoder::new(file, Compression::default())),
        name: name.clone(),
        excludes,
        files: 0,
        bytes: 0,
        has_manifest: false,
    };
    archive.add_directory(root, Path::new(""))?;
    if !archive.has_manifest {
        let manifest = json!({
            "excludes": excludes.patterns(),
            "file_count": archive.files,
            "format": "tar.gz",
            "source": name,
            "total_bytes": archive.bytes,
        });
        let manifest = serde_json::to_vec_pretty(&manifest)?;
        let mut header = Header::new_gnu();
        header.set_size(manifest.len() as u64);
        header.set_mode(0o644);
        let path = archive.member(Path::new(MANIFEST));
        archive.tar.append_data(&mut header, path, manifest.as_slice())?;
    }
    archive.tar.into_inner()?.finish()?;
    Ok(())
}

struct Archive<'a, W: io::Write> {
    tar: Builder<W>,
    name: String,
    excludes: &'a Excludes,
    files: u64,
    bytes: u64,
    has_manifest: bool,
}

impl<W: io::Write> Archive<'_, W> {
    /// The name of a path in the archive.
    fn member(&self, path: &Path) -> PathBuf {
        Path::new(&self.name).join(path)
    }

    /// Adds a directory and what is in it. What cannot be read is left out: the workspace may be changing.
    fn add_directory(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        let mut member = self.member(path).into_os_string();
        member.push("/");
        if let Ok(metadata) = root.join(path).symlink_metadata() {
            let mut header = Header::new_gnu();
            header.set_metadata(&metadata);
            header.set_size(0);
            header.set_entry_type(EntryType::Directory);
            self.tar.append_data(&mut header, member, io::empty())?;
        }
        let Ok(entries) = fs::read_dir(root.join(path)) else { return Ok(()) };
        let mut directories = Vec::new();
        for entry in entries.filter_map(Result::ok) {
            let below = path.join(entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            if self.excludes.matches(&below, kind.is_dir()) || is_git_secret(&below) {
                continue;
            }
            if kind.is_dir() {
                directories.push(below);
            } else if kind.is_file() {
                self.add_file(root, &below)?;
            }
        }
        directories.iter().try_for_each(|below| self.add_directory(root, below))
    }

    fn add_file(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        let opened = File::open(root.join(path)).and_then(|file| Ok((file.metadata()?, file)));
        let Ok((metadata, file)) = opened else { return Ok(()) };
        if !metadata.is_file() {
            return Ok(());
        }
        let size = metadata.len();
        let mut header = Header::new_gnu();
        header.set_metadata(&metadata);
        // Exactly the announced size, filled with zeros if the file became shorter: the members that follow would be
        // misread otherwise.
        let exact = file.chain(io::repeat(0)).take(size);
        let member = self.member(path);
        self.tar.append_data(&mut header, member, exact)?;
        self.files += 1;
        self.bytes += size;
        self.has_manifest |= path == Path::new(MANIFEST);
        Ok(())
    }
}
