use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ask, command::refuse_bytes};
use crate::{FileOperationResult, Operation};

/// Writes a file of the sandbox. A step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileUpload {
    /// What to write.
    pub source: UploadSource,
    /// Where, as an absolute path of the sandbox. Missing parent directories are created.
    pub destination: String,
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
        Self { source: source.into(), destination: destination.into() }
    }
}

ask!(FileUpload => FileOperationResult, Operation::FileUpload, traced);

/// Reads a file of the sandbox into a file of this machine. A step.
///
/// The local file appears when it is whole: until then its content is in a temporary file beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileDownload {
    /// What to read, as an absolute path of the sandbox.
    pub source: String,
    /// Where to write. Missing parent directories are created, an existing file is replaced.
    pub destination: PathBuf,
}

impl FileDownload {
    /// A download of an absolute path of the sandbox.
    #[must_use]
    pub fn new(source: impl Into<String>, destination: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), destination: destination.into() }
    }
}

ask!(FileDownload => FileOperationResult, Operation::FileDownload, traced);
