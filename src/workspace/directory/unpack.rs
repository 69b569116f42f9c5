use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

use tar::{Archive, Entry, EntryType, PaxExtensions};

use crate::{
    Failure,
    workspace::local_files::{directory_of, local, refused, temporary_name},
};

/// The most entries of an archive.
const MOST_ENTRIES: u64 = 20_000_000;

/// The longest path or target of a link, and the longest extension that says one. No file system has longer ones.
const LONGEST_NAME: u64 = 64 << 10;

/// How much is copied at a time.
const PIECE: usize = 64 << 10;

/// An unpacked directory under a temporary name. It is removed unless it is put into its place.
#[derive(Debug)]
pub(in crate::workspace) struct Unpacked {
    directory: PathBuf,
    placed: bool,
    /// The directories with their modes, in the order of their paths. They are set at last, those within others first: a
    /// directory may not let its owner write.
    modes: BTreeMap<PathBuf, u32>,
    /// How many files and links there are.
    pub(in crate::workspace) files: u64,
    /// How many bytes the files have.
    pub(in crate::workspace) bytes: u64,
}

/// Unpacks an archive into a new directory beside `destination`.
///
/// Refused is whatever would leave that directory: absolute paths, `..`, files below links, hard links to elsewhere; and pipes
/// and devices. Links are made as they are, wherever they point, and never followed.
pub(in crate::workspace) fn unpack(archive: impl Read, destination: &Path) -> Result<Unpacked, Failure> {
    let parent = directory_of(destination);
    fs::create_dir_all(parent).map_err(|error| local(parent, &error))?;
    let directory = parent.join(temporary_name());
    DirBuilder::new().mode(0o700).create(&directory).map_err(|error| local(&directory, &error))?;
    let unpacked =
        Unpacked { directory, placed: false, modes: BTreeMap::from([(PathBuf::new(), 0o755)]), files: 0, bytes: 0 };
    let mut unpacker = Unpacker { unpacked, directories: HashSet::from([PathBuf::new()]), next: Extensions::default() };
    let mut archive = Archive::new(archive);
    // Raw: the names that extensions say are read here, within bounds.
    let entries = archive.entries().map_err(|error| malformed(&error))?.raw(true);
    for (number, entry) in entries.enumerate() {
        if number as u64 >= MOST_ENTRIES {
            return Err(Failure::protocol(format!("the archive has more than {MOST_ENTRIES} entries")));
        }
        unpacker.entry(entry.map_err(|error| malformed(&error))?)?;
    }
    Ok(unpacker.unpacked)
}

impl Unpacked {
    /// Puts it into its place, where nothing or an empty directory may be.
    pub(in crate::workspace) fn place(mut self, destination: &Path) -> Result<(), Failure> {
        for (path, mode) in self.modes.iter().rev() {
            let path = self.directory.join(path);
            fs::set_permissions(&path, Permissions::from_mode(*mode)).map_err(|error| local(&path, &error))?;
        }
        fs::rename(&self.directory, destination).map_err(|error| local(destination, &error))?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if !self.placed {
            // It is too late to report anything; the name says what it is.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

struct Unpacker {
    unpacked: Unpacked,
    /// The directories that were made here: nothing is written into others.
    directories: HashSet<PathBuf>,
    next: Extensions,
}

/// What entries say about the one that follows them.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Unpacker {
    fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), Failure> {
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => {
                self.next.path = Some(name(&mut entry)?);
                return Ok(());
            }
            EntryType::GNULongLink => {
                self.next.link = Some(name(&mut entry)?);
                return Ok(());
            }
            EntryType::XHeader => return self.extensions(&mut entry),
            EntryType::XGlobalHeader => return Ok(()),
            _ => {}
        }
        let Extensions { path, link } = std::mem::take(&mut self.next);
        let path = path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let link = link.or_else(|| entry.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default();
        let (path, link) = (Path::new(OsStr::from_bytes(&path)), Path::new(OsStr::from_bytes(&link)));
        let member = inside(path)?;
        let mode = entry.header().mode().map_err(|error| malformed(&error))? & 0o777;
        if kind.is_dir() {
            self.make_directories(&member)?;
            self.unpacked.modes.insert(member, mode);
            return Ok(());
        }
        let parent = member.parent().ok_or_else(|| hostile(path, "it is the directory itself"))?;
        self.make_directories(parent)?;
        let full = self.unpacked.directory.join(&member);
        match kind {
            EntryType::Regular | EntryType::Continuous => self.file(&mut entry, &full, mode)?,
            EntryType::Symlink => {
                std::os::unix::fs::symlink(link, &full).map_err(|error| twice(path, &full, &error))?
            }
            EntryType::Link => {
                let target = inside(link)?;
                if !target.parent().is_some_and(|parent| self.directories.contains(parent)) {
                    return Err(hostile(path, "it is a hard link through what is no directory of the archive"));
                }
                let target = self.unpacked.directory.join(target);
                if !target.symlink_metadata().is_ok_and(|metadata| metadata.is_file() || metadata.is_symlink()) {
                    return Err(hostile(path, "it is a hard link to what the archive does not have before it"));
                }
                fs::hard_link(target, &full).map_err(|error| twice(path, &full, &error))?;
            }
            _ => {
                return Err(hostile(
                    path,
                    "it is neither a file, a directory nor a link; leave it out of the directory",
                ));
            }
        }
        self.unpacked.files += 1;
        Ok(())
    }

    fn extensions<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), Failure> {
        let bytes = bounded(entry)?;
        for extension in PaxExtensions::new(&bytes) {
            let extension = extension.map_err(|error| malformed(&error))?;
            match extension.key_bytes() {
                b"path" => self.next.path = Some(extension.value_bytes().to_owned()),
                b"linkpath" => self.next.link = Some(extension.value_bytes().to_owned()),
                // Its contents would be read as something else.
                b"size" => {
                    return Err(Failure::protocol(
                        "the archive has a file of 8 GiB or more in a form that is not read here",
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the directories of a path that are not there yet, and refuses one that leads through anything else.
    fn make_directories(&mut self, path: &Path) -> Result<(), Failure> {
        if self.directories.contains(path) {
            return Ok(());
        }
        let mut made = PathBuf::new();
        for part in path.components() {
            made.push(part);
            if self.directories.contains(&made) {
                continue;
            }
            let full = self.unpacked.directory.join(&made);
            DirBuilder::new().mode(0o700).create(&full).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => hostile(path, "it leads through what is no directory"),
                _ => local(&full, &error),
            })?;
            self.unpacked.modes.insert(made.clone(), 0o755);
            self.directories.insert(made.clone());
        }
        Ok(())
    }

    fn file<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &Path, mode: u32) -> Result<(), Failure> {
        let opened = File::options().write(true).create_new(true).mode(0o600).open(path);
        let mut file = opened.map_err(|error| twice(path, path, &error))?;
        let (size, mut buffer, mut got) = (entry.size(), vec![0; PIECE], 0);
        loop {
            let count = entry.read(&mut buffer).map_err(|error| malformed(&error))?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(|error| local(path, &error))?;
            got += count as u64;
        }
        if got != size {
            return Err(Failure::protocol(format!(
                "the archive ends within {}, after {got} of {size} bytes",
                path.display()
            )));
        }
        file.set_permissions(Permissions::from_mode(mode)).map_err(|error| local(path, &error))?;
        // A time that can not be told or kept is no reason to lose the file.
        if let Some(time) =
            entry.header().mtime().ok().and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at)))
        {
            let _ = file.set_modified(time);
        }
        self.unpacked.bytes += got;
        Ok(())
    }
}

/// The path below the directory that is unpacked into.
fn inside(path: &Path) -> Result<PathBuf, Failure> {
    let mut below = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => below.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err(hostile(path, "`..` would leave the destination")),
            Component::RootDir | Component::Prefix(_) => return Err(hostile(path, "it is absolute")),
        }
    }
    Ok(below)
}

/// The name that an entry holds, without the NUL at its end.
fn name<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, Failure> {
    let mut bytes = bounded(entry)?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

fn bounded<R: Read>(entry: &mut Entry<'_, R>) -> Result<Vec<u8>, Failure> {
    if entry.size() > LONGEST_NAME {
        return Err(Failure::protocol(format!("the archive has a name of {} bytes", entry.size())));
    }
    let mut bytes = Vec::new();
    entry.take(LONGEST_NAME).read_to_end(&mut bytes).map_err(|error| malformed(&error))?;
    Ok(bytes)
}

fn malformed(error: &io::Error) -> Failure {
    Failure::protocol(format!("the archive can not be read: {error}"))
}

fn hostile(path: &Path, why: &str) -> Failure {
    Failure::protocol(format!("the archive holds {path:?}, which is refused: {why}"))
}

/// Why something could not be made.
fn twice(path: &Path, full: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AlreadyExists => hostile(path, "it is there already"),
        _ => refused(full, error.to_string()),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
