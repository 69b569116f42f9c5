use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    FileStream, OnProgress, UploadStream, ask, command::refuse_bytes, progress::tells_progress, stream::refuse_stream,
};
use crate::{FileOperationResult, Operation};

/// Gives a message for a single file the method that lets its digest be compared.
macro_rules! compares_sha256 {
    ($message:ty) => {
        impl $message {
            /// Lets the SHA-256 of what came be compared with that of what was sent, before it is put in place.
            #[must_use]
            pub const fn with_sha256(mut self) -> Self {
                self.sha256 = true;
                self
            }
        }
    };
}

/// Writes a file of the sandbox. A step.
///
/// The file appears at its destination when it is whole and its size was compared; what was there before stays until then. Of
/// uploads to one path through one workspace, one is carried out after the other. An upload that fails for a reason that may
/// pass is sent again, as [`retry_for`](crate::WorkspaceConfig::retry_for) allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileUpload {
    /// What to write.
    pub source: UploadSource,
    /// Where, as an absolute path of the sandbox. Missing parent directories are created.
    pub destination: String,
    /// How it gets to its destination. Default: in one step.
    #[serde(default)]
    pub placement: Placement,
    /// Whether the SHA-256 of what arrived is compared with that of what was sent, before it is put in place. The sandbox needs
    /// `sha256sum`. Default: false.
    #[serde(default)]
    pub sha256: bool,
    /// Who is told how far it is. Default: nobody.
    #[serde(skip)]
    pub progress: Option<OnProgress>,
}

/// How an upload gets to its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Placement {
    /// In one step: by a server that does so itself and says so, as the embedded one, and otherwise as [`Moved`](Self::Moved).
    /// In place where the destination's directory cannot be written to.
    #[default]
    Whole,
    /// It is sent to a temporary name beside its destination, and moved into place by a command. A file that is replaced hands
    /// on its mode and, as far as the server's user may, its owner; a link is followed. The file is a new one all the same: other
    /// hard links to the old one keep the old content.
    Moved,
    /// The server writes to the destination itself. OpenHands agent servers write bit by bit, so that readers see parts of it, and
    /// uploads of several programs at once get mixed. What comes late, by way of a gateway, overwrites what is newer.
    InPlace,
}

/// What an upload sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadSource {
    /// A file of this machine, streamed.
    Path(PathBuf),
    /// These bytes.
    #[serde(skip_deserializing, serialize_with = "refuse_bytes")]
    Bytes(Bytes),
    /// Bytes that somebody hands over as they come. There is one try: nobody has them a second time.
    #[serde(skip_deserializing, serialize_with = "refuse_stream")]
    Stream(UploadStream),
}

impl From<PathBuf> for UploadSource {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&std::path::Path> for UploadSource {
    fn from(path: &std::path::Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<UploadStream> for UploadSource {
    fn from(stream: UploadStream) -> Self {
        Self::Stream(stream)
    }
}

impl From<Bytes> for UploadSource {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for UploadSource {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl FileUpload {
    /// An upload to an absolute path of the sandbox.
    #[must_use]
    pub fn new(source: impl Into<UploadSource>, destination: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            destination: destination.into(),
            placement: Placement::default(),
            sha256: false,
            progress: None,
        }
    }

    /// Sets how it gets to its destination.
    #[must_use]
    pub const fn with_placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }
}

tells_progress!(FileUpload);
compares_sha256!(FileUpload);
ask!(FileUpload => FileOperationResult, Operation::FileUpload, traced);

/// Reads a file of the sandbox into a file of this machine. A step.
///
/// The local file appears when it is whole and safe on the disk: until then its content is in a temporary file beside it. It takes over
/// mode, list of further users (ACL) and, where this user may do that, owner and group of the file that it replaces. A
/// download that is cut goes on where it was, if the remote file is still the same, and begins again otherwise, as
/// [`retry_for`](crate::WorkspaceConfig::retry_for) allows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileDownload {
    /// What to read, as an absolute path of the sandbox.
    pub source: String,
    /// Where to write. Missing parent directories are created, an existing file is replaced.
    pub destination: PathBuf,
    /// Whether the SHA-256 of what came is compared with that of the remote file, before it is put in place. The sandbox needs
    /// `sha256sum`. Default: false.
    #[serde(default)]
    pub sha256: bool,
    /// Who is told how far it is. Default: nobody.
    #[serde(skip)]
    pub progress: Option<OnProgress>,
}

impl FileDownload {
    /// A download of an absolute path of the sandbox.
    #[must_use]
    pub fn new(source: impl Into<String>, destination: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), destination: destination.into(), sha256: false, progress: None }
    }
}

tells_progress!(FileDownload);
compares_sha256!(FileDownload);
ask!(FileDownload => FileOperationResult, Operation::FileDownload, traced);

/// Reads a file of the sandbox piece by piece, into no file. A step, which ends when the first of it has come: what follows is
/// taken at the reader's pace. Answer: [`FileStream`].
///
/// A transfer that is cut goes on where it was, if the remote file is still the same, as
/// [`retry_for`](crate::WorkspaceConfig::retry_for) allows; a file that has changed meanwhile is a failure.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileRead {
    /// What to read, as an absolute path of the sandbox.
    pub source: String,
}

impl FileRead {
    /// Reads an absolute path of the sandbox.
    #[must_use]
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into() }
    }
}

ask!(FileRead => FileStream, Operation::FileDownload);
