use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header};

use crate::{
    Failure,
    workspace::local_files::{local, refused},
};

/// The longest target of a link that a header holds as it is.
const SHORT_LINK: usize = 100;

/// What an archive holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::workspace) struct Packed {
    /// Its length in bytes.
    pub(in crate::workspace) size: u64,
    /// How many files and links there are in it.
    pub(in crate::workspace) files: u64,
    /// How many bytes the files have.
    pub(in crate::workspace) bytes: u64,
}

/// How long the archive of a directory is. Only names and lengths are read.
pub(in crate::workspace) fn measure(root: &Path) -> Result<Packed, Failure> {
    write(root, io::sink(), false)
}

/// Writes the archive of a directory: directories, files and links, with their names, modes and times. Owners are left out.
///
/// Sockets are left out, since they mean nothing elsewhere. Pipes and devices are refused.
pub(in crate::workspace) fn pack(root: &Path, into: impl Write) -> Result<Packed, Failure> {
    write(root, into, true)
}

fn write(root: &Path, into: impl Write, with_contents: bool) -> Result<Packed, Failure> {
    let mut packer =
        Packer { root, tar: Builder::new(Counting { into, count: 0 }), with_contents, packed: Packed::default() };
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        packer.directory(&directory, &mut directories)?;
    }
    let mut written = packer.tar.into_inner().map_err(|error| local(root, &error))?;
    written.flush().map_err(|error| local(root, &error))?;
    Ok(Packed { size: written.count, ..packer.packed })
}

struct Packer<'a, W: Write> {
    root: &'a Path,
    tar: Builder<Counting<W>>,
    with_contents: bool,
    packed: Packed,
}

impl<W: Write> Packer<'_, W> {
    /// Adds what is in a directory, and notes the directories in it.
    fn directory(&mut self, below: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
        let path = self.root.join(below);
        let entries = fs::read_dir(&path).map_err(|error| local(&path, &error))?;
        let names: io::Result<Vec<OsString>> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
        let mut names = names.map_err(|error| local(&path, &error))?;
        names.sort();
        for name in names {
            let member = below.join(name);
            let path = self.root.join(&member);
            let metadata = path.symlink_metadata().map_err(|error| local(&path, &error))?;
            self.member(&path, &member, &metadata).map_err(|failed| match failed {
                Failed::Io(error) => local(&path, &error),
                Failed::Refused(reason) => refused(&path, reason),
            })?;
            if metadata.is_dir() {
                found.push(member);
            }
        }
        Ok(())
    }

    fn member(&mut self, path: &Path, member: &Path, metadata: &Metadata) -> Result<(), Failed> {
        let kind = metadata.file_type();
        let mut header = Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
        header.set_size(0);
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            let mut name = member.as_os_str().to_owned();
            name.push("/");
            return Ok(self.tar.append_data(&mut header, name, io::empty())?);
        }
        if kind.is_socket() {
            return Ok(());
        }
        self.packed.files += 1;
        if kind.is_symlink() {
            let target = fs::read_link(path)?;
            header.set_entry_type(EntryType::Symlink);
            if target.as_os_str().len() <= SHORT_LINK {
                header.set_link_name_literal(target.as_os_str().as_bytes())?;
                return Ok(self.tar.append_data(&mut header, member, io::empty())?);
            }
            return Ok(self.tar.append_link(&mut header, member, target)?);
        }
        if !kind.is_file() {
            return Err(Failed::Refused("it is a pipe or a device, which can not be sent: remove it first"));
        }
        self.packed.bytes += metadata.len();
        header.set_entry_type(EntryType::Regular);
        header.set_size(metadata.len());
        if !self.with_contents {
            return Ok(self.tar.append_data(&mut header, member, io::repeat(0).take(metadata.len()))?);
        }
        // Neither a link nor a pipe that has taken the file's place meanwhile.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        let contents = Whole { file, left: metadata.len() };
        Ok(self.tar.append_data(&mut header, member, contents)?)
    }
}

enum Failed {
    Io(io::Error),
    Refused(&'static str),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// As many bytes of a file as its header says.
struct Whole {
    file: File,
    left: u64,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::Error::other("it shrank while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

struct Counting<W> {
    into: W,
    count: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.into.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}
