use std::{
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    rc::Rc,
};

use tokio::fs;

use super::{
    fetch::{Fetch, Piece},
    file_writer::FileWriter,
    meter::Meter,
};
use crate::{
    Failure, FileOperationResult,
    client::UploadBody,
    messages::FileDownload,
    workspace::{
        backoff::Retry,
        core::Core,
        local_files::{Access, blocking, directory_of, local, refused, temporary_name},
    },
};

/// How many links are followed to a file, as many as Linux follows.
const MOST_LINKS: u32 = 40;

/// Opens a file of this machine to send it.
pub(super) async fn open_source(path: &Path) -> Result<UploadBody, Failure> {
    let file = fs::File::open(path).await.map_err(|error| local(path, &error))?;
    let metadata = file.metadata().await.map_err(|error| local(path, &error))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "it is a directory; send it with `DirectoryUpload`"
        } else {
            "it is not a regular file"
        };
        return Err(refused(path, what));
    }
    Ok(UploadBody::file(file, metadata.len(), path.display().to_string()))
}

/// Reads a file of the sandbox into a file of this machine.
pub(crate) async fn download(core: &Rc<Core>, download: FileDownload) -> Result<FileOperationResult, Failure> {
    check_remote(&download.source)?;
    let target = resolve_target(&download.destination).await?;
    let (size, sha256) = fetch(core, &download, &target).await?;
    Ok(FileOperationResult {
        success: true,
        source_path: download.source,
        destination_path: download.destination.display().to_string(),
        file_size: Some(size),
        files: None,
        sha256,
        error: None,
        trace: None,
    })
}

/// The file that a download replaces or makes: what a link points to, not the link. Only a regular file is replaced.
async fn resolve_target(asked: &Path) -> Result<PathBuf, Failure> {
    let refuse = |reason| Err(refused(asked, reason));
    let mut target = asked.to_owned();
    for _ in 0..MOST_LINKS {
        if target.file_name().is_none() {
            return refuse("it is a directory; name the file to write");
        }
        match fs::symlink_metadata(&target).await {
            Ok(found) if found.is_symlink() => {
                let link = fs::read_link(&target).await.map_err(|error| local(&target, &error))?;
                target = target.parent().unwrap_or(Path::new("")).join(link);
            }
            Ok(found) if found.is_dir() => return refuse("it is a directory; name the file to write"),
            Ok(found) if !found.is_file() => {
                return refuse("it is no regular file, and a download would replace it; name another");
            }
            Ok(_) => return Ok(target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(target),
            Err(error) => return Err(local(&target, &error)),
        }
    }
    refuse("there are too many links on the way to it")
}

/// Reads a file into another. Returns its size, and its SHA-256 where that was compared.
async fn fetch(core: &Rc<Core>, download: &FileDownload, target: &Path) -> Result<(u64, Option<String>), Failure> {
    let retry = Retry::new(core);
    let meter = Meter::new(download.progress.clone(), download.sha256, &retry);
    // The answer's head comes first, so that a missing remote file leaves nothing here.
    let fetch = Fetch::open(core, &retry, &download.source, meter.clone()).await?;
    let (file, mut temporary) = Temporary::beside(target).await?;
    match fill_and_compare(fetch, FileWriter::new(file), &mut temporary, &meter).await {
        Ok(fetched) => temporary.place(target).await.map(|()| fetched),
        Err(failure) => {
            temporary.discard().await;
            Err(failure)
        }
    }
}

/// Fills a file until what came is what is there, where that is compared.
async fn fill_and_compare(
    mut fetch: Fetch<'_>,
    mut file: FileWriter,
    temporary: &mut Temporary,
    meter: &Meter,
) -> Result<(u64, Option<String>), Failure> {
    let sha256 = loop {
        fill(&mut fetch, &mut file).await.map_err(|failed| failed.at(&temporary.path))?;
        let Some(sum) = meter.end() else { break None };
        if fetch.is_there(&sum, file.size()).await? {
            break Some(sum);
        }
    };
    let size = file.size();
    file.finish(temporary.access.take()).await.map_err(|error| local(&temporary.path, &error))?;
    Ok((size, sha256))
}

/// Why a file could not be filled.
enum Failed {
    There(Failure),
    Here(io::Error),
}

impl Failed {
    fn at(self, path: &Path) -> Failure {
        match self {
            Self::There(failure) => failure,
            Self::Here(error) => local(path, &error),
        }
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Here(error)
    }
}

/// Writes what comes to a file.
async fn fill(fetch: &mut Fetch<'_>, file: &mut FileWriter) -> Result<(), Failed> {
    while let Some(piece) = fetch.next().await.map_err(Failed::There)? {
        match piece {
            Piece::Bytes(bytes) => file.write(&bytes).await?,
            Piece::Again => file.clear().await?,
        }
    }
    Ok(())
}

/// A file that takes a download's content until it is whole, and is removed if it never is.
struct Temporary {
    path: PathBuf,
    /// That of the file whose place it is to take.
    access: Option<Access>,
    is_there: bool,
}

impl Temporary {
    async fn beside(target: &Path) -> Result<(fs::File, Self), Failure> {
        let beside = target.to_owned();
        // The file comes with what removes it: whoever waits for it may be gone when it is there.
        let (file, temporary) = blocking(target, move || Self::make(&beside)).await?;
        Ok((fs::File::from_std(file), temporary))
    }

    fn make(target: &Path) -> Result<(std::fs::File, Self), Failure> {
        let directory = directory_of(target);
        std::fs::create_dir_all(directory).map_err(|error| local(directory, &error))?;
        let path = directory.join(temporary_name());
        let replaced = std::fs::symlink_metadata(target).ok().filter(std::fs::Metadata::is_file);
        let access = replaced.as_ref().map(|replaced| Access::of(target, replaced));
        let mut options = std::fs::File::options();
        options.write(true).create_new(true);
        if access.is_some() {
            // What takes the place of something private is private from the beginning.
            options.mode(0o600);
        }
        let file = options.open(&path).map_err(|error| local(&path, &error))?;
        Ok((file, Self { path, access, is_there: true }))
    }

    async fn place(self, target: &Path) -> Result<(), Failure> {
        let to = target.to_owned();
        blocking(target, move || self.rename(&to)).await
    }

    fn rename(mut self, target: &Path) -> Result<(), Failure> {
        std::fs::rename(&self.path, target).map_err(|error| local(target, &error))?;
        self.is_there = false;
        // The name is on the disk when the directory is. Where a directory can not be synchronised, there is no way to do better.
        if let Ok(directory) = std::fs::File::open(directory_of(target)) {
            let _ = directory.sync_all();
        }
        Ok(())
    }

    /// Removes it. That of a large file takes long, in which this thread has others to serve.
    async fn discard(mut self) {
        self.is_there = fs::remove_file(&self.path).await.is_err();
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_there {
            // It is too late to report anything; the name says what it is.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

pub(super) fn check_remote(path: &str) -> Result<(), Failure> {
    if !path.starts_with('/') {
        return Err(Failure::invalid(format!(
            "remote path `{path}` is relative: give an absolute one, such as /workspace/{path}"
        )));
    }
    if path.contains('\0') {
        return Err(Failure::invalid("the remote path contains a NUL character: remove it"));
    }
    Ok(())
}
