//! What all have in common that touch files of this machine.

use std::{
    fs::{File, Metadata, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use tokio::task::{JoinError, spawn_blocking};
use tokio_util::task::AbortOnDropHandle;

use crate::{ErrorKind, Failure};

/// A failure of this machine's files. Nothing of it reached the server.
pub(super) fn local(path: &Path, error: &io::Error) -> Failure {
    refused(path, error.to_string())
}

pub(super) fn refused(path: &Path, reason: impl Into<String>) -> Failure {
    Failure::not_sent(ErrorKind::Local { path: path.display().to_string(), reason: reason.into() })
}

/// A name for what is not whole yet.
pub(super) fn temporary_name() -> String {
    format!(".wsfleet-{:016x}.part", fastrand::u64(..))
}

/// The directory that this is in.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whose a file is, and who may do what with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    owner: u32,
    group: u32,
    mode: u32,
}

impl Access {
    pub(super) fn of(file: &Metadata) -> Self {
        Self { owner: file.uid(), group: file.gid(), mode: file.mode() & 0o777 }
    }

    /// Gives it to another file, as far as this user may.
    pub(super) fn give(self, file: &File) {
        let owned = fchown(file, Some(self.owner), Some(self.group));
        // The owner cannot be given by everybody, the group by its members.
        let grouped = owned.or_else(|_| fchown(file, None, Some(self.group)));
        // Another group may do no more than everybody.
        let least = if grouped.is_ok() { 0o777 } else { 0o707 | (self.mode & 0o7) << 3 };
        let _ = file.set_permissions(Permissions::from_mode(self.mode & least));
    }
}

/// Does something with files on a thread that may wait for them. What has not begun when nobody waits for it any more is not done.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    AbortOnDropHandle::new(spawn_blocking(work)).await.map_err(|error| broken(path, &error))?
}

/// Such a thread did not get to its end.
pub(super) fn broken(path: &Path, error: &JoinError) -> Failure {
    refused(path, format!("its files: {error}"))
}
