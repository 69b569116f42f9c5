//! What all have in common that touch files of this machine.

use std::{
    fs::{File, Metadata, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::Path,
};

use rustix::{
    fs::{XattrFlags, fremovexattr, fsetxattr, lgetxattr},
    io::Errno,
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
#[derive(Debug, Clone)]
pub(super) struct Access {
    owner: u32,
    group: u32,
    mode: u32,
    /// Who else may do what, as the system has it; empty where nobody is listed.
    list: Vec<u8>,
}

/// The attribute with the list.
const LIST: &str = "system.posix_acl_access";

/// A list is not read that takes more than this: of 511 users and groups.
const LONGEST_LIST: usize = 4096;

/// What is left of the mode where it is not known who else may do what.
const OWNER_ONLY: u32 = 0o700;

impl Access {
    /// That of a regular file.
    pub(super) fn of(path: &Path, file: &Metadata) -> Self {
        let mut list = vec![0; LONGEST_LIST];
        let length = match lgetxattr(path, LIST, list.as_mut_slice()) {
            Err(error) if has_none(error) => Some(0),
            length => length.ok(),
        };
        list.truncate(length.unwrap_or(0));
        list.shrink_to_fit();
        let most = if length.is_some() { 0o777 } else { OWNER_ONLY };
        Self { owner: file.uid(), group: file.gid(), mode: file.mode() & most, list }
    }

    /// Gives it to another file, which only its owner can use yet, as far as this user may. Nobody else may do more in the end.
    pub(super) fn give(self, file: &File) {
        let owned = fchown(file, Some(self.owner), Some(self.group));
        // The owner cannot be given by everybody, the group by its members.
        let grouped = owned.or_else(|_| fchown(file, None, Some(self.group)));
        let listed = match fremovexattr(file, LIST) {
            // It had the list of its directory.
            Err(error) if !has_none(error) => Err(error),
            _ if self.list.is_empty() => Ok(()),
            _ if grouped.is_err() => Err(Errno::PERM),
            _ => fsetxattr(file, LIST, &self.list, XattrFlags::empty()),
        };
        // Another group may do no more than everybody, and everybody, who the old group now is among, no more than it.
        let shared = self.mode & self.mode >> 3 & 0o7;
        let most = match (listed, grouped) {
            (Err(_), _) => OWNER_ONLY,
            (Ok(()), Err(_)) => OWNER_ONLY | shared << 3 | shared,
            (Ok(()), Ok(())) => 0o777,
        };
        let _ = file.set_permissions(Permissions::from_mode(self.mode & most));
    }
}

/// Whether a file has no list, or its system has none.
fn has_none(error: Errno) -> bool {
    [Errno::NODATA, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS].contains(&error)
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

#[cfg(test)]
mod tests {
    use rustix::fs::setxattr;

    use super::*;

    const OF_DIRECTORY: &str = "system.posix_acl_default";

    /// A list: what the owner, the user 12345, the group, all of them at most, and everybody may do.
    fn list(owner: u16, user: u16, group: u16, most: u16, everybody: u16) -> Vec<u8> {
        const NOBODY: u32 = u32::MAX;
        let entries =
            [(1, owner, NOBODY), (2, user, 12_345), (4, group, NOBODY), (16, most, NOBODY), (32, everybody, NOBODY)];
        let entry = |(tag, may, who): (u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &may.to_le_bytes(), &who.to_le_bytes()].concat()
        };
        [2_u32.to_le_bytes().to_vec(), entries.map(entry).concat()].concat()
    }

    fn listed(path: &Path) -> Vec<u8> {
        Access::of(path, &path.metadata().unwrap()).list
    }

    /// A file that takes over the access of another; its mode.
    fn replacing(old: &Path) -> (std::path::PathBuf, u32) {
        let new = old.with_extension("new");
        let file = {
            use std::os::unix::fs::OpenOptionsExt as _;
            File::options().write(true).create_new(true).mode(0o600).open(&new).unwrap()
        };
        Access::of(old, &old.metadata().unwrap()).give(&file);
        let mode = new.metadata().unwrap().mode() & 0o777;
        (new, mode)
    }

    #[test]
    fn who_is_listed_is_taken_over_and_not_from_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let (denied, plain) = (folder.path().join("denied"), folder.path().join("plain"));
        for (path, mode) in [(&denied, 0o644), (&plain, 0o640)] {
            std::fs::write(path, "").unwrap();
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let nothing = list(6, 0, 4, 4, 4);
        if setxattr(&denied, LIST, &nothing, XattrFlags::empty()).is_err_and(has_none) {
            return;
        }
        setxattr(folder.path(), OF_DIRECTORY, &list(7, 7, 7, 7, 7), XattrFlags::empty()).unwrap();
        let (new, mode) = replacing(&denied);
        assert_eq!((listed(&new), mode), (nothing, 0o644));
        let (new, mode) = replacing(&plain);
        assert_eq!((listed(&new), mode), (vec![], 0o640));
    }
}
