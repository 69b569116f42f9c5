use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::StoreError;

/// The directory of a store. One service at a time has it, for as long as this lives.
pub(crate) struct StateDirectory {
    path: PathBuf,
    /// Locked. The system unlocks it when the process ends, in whatever way.
    _lock: File,
}

impl StateDirectory {
    /// Takes this directory, and makes it where there is none. Nobody else on the machine may look into it.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        let failed = |path: &Path, source| StoreError::File { path: path.to_owned(), source };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).map_err(|error| failed(path, error))?;
        // The file stays when the service ends: were it removed, two could lock two files of one name.
        let name = path.join("lock");
        let mut options = OpenOptions::new();
        let lock = options.write(true).create(true).truncate(false).mode(0o600).open(&name);
        let lock = lock.map_err(|error| failed(&name, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(&name, error)),
        }
    }

    /// The file of the records.
    pub(super) fn records(&self) -> PathBuf {
        self.path.join("records.redb")
    }

    /// The file of the key that secrets are encrypted with.
    pub(super) fn key(&self) -> PathBuf {
        self.path.join("key")
    }

    /// Where the logs are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

/// Gives a file its name for good: a rename is on the disk when its directory is.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    match to.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
