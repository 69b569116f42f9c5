use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{OnProgress, ask, progress::tells_progress};
use crate::{FileOperationResult, Operation};

/// Copies what is in a directory of this machine into a directory of the sandbox. A step.
///
/// It is sent as a tar stream and unpacked there by the sandbox's `tar`, which it needs. Names, modes, times and links are
/// kept, owners are not; sockets are left out, and pipes and devices refused. Files that are there already are replaced,
/// and others stay. A directory that changes while it is sent is an error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DirectoryUpload {
    /// The directory of this machine.
    pub source: PathBuf,
    /// The directory of the sandbox, an absolute path. It is made when it is missing.
    pub destination: String,
    /// Who is told how far it is. Default: nobody.
    #[serde(skip)]
    pub progress: Option<OnProgress>,
}

impl DirectoryUpload {
    /// An upload into an absolute path of the sandbox.
    #[must_use]
    pub fn new(source: impl Into<PathBuf>, destination: impl Into<String>) -> Self {
        Self { source: source.into(), destination: destination.into(), progress: None }
    }
}

tells_progress!(DirectoryUpload);
ask!(DirectoryUpload => FileOperationResult, Operation::DirectoryUpload, traced);

/// Copies a directory of the sandbox into a new directory of this machine. A step.
///
/// The sandbox's `tar` packs it, which it needs, into a temporary file there. Names, modes, times and links are kept,
/// owners are not. Nothing is ever written outside the destination, whatever the sandbox sends: absolute paths, `..`,
/// writing through links, pipes and devices are refused. The directory appears when it is whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DirectoryDownload {
    /// The directory of the sandbox, an absolute path.
    pub source: String,
    /// The directory of this machine. It must be missing or empty; missing parents are made.
    pub destination: PathBuf,
    /// Who is told how far it is. Default: nobody.
    #[serde(skip)]
    pub progress: Option<OnProgress>,
}

impl DirectoryDownload {
    /// A download of an absolute path of the sandbox.
    #[must_use]
    pub fn new(source: impl Into<String>, destination: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), destination: destination.into(), progress: None }
    }
}

tells_progress!(DirectoryDownload);
ask!(DirectoryDownload => FileOperationResult, Operation::DirectoryDownload, traced);
