//! Directories as tar streams: packed and unpacked on this machine.
//!
//! Both block, and are run on threads for that. What comes from a sandbox is not trusted: nothing is written outside the
//! directory that it is unpacked into.

mod pack;
mod pipe;
mod unpack;

pub(super) use pack::{Packed, measure, pack};
pub(super) use pipe::{FromPieces, IntoPieces};
pub(super) use unpack::{Unpacked, unpack};

use std::{io, path::Path};

use crate::{ErrorKind, Failure};

/// A failure of this machine's files. Nothing of it reached the server.
fn local(path: &Path, error: &io::Error) -> Failure {
    refused(path, error.to_string())
}

fn refused(path: &Path, reason: impl Into<String>) -> Failure {
    Failure::not_sent(ErrorKind::Local { path: path.display().to_string(), reason: reason.into() })
}

/// A name for what is not whole yet.
fn temporary_name() -> String {
    format!(".wsfleet-{:016x}.part", fastrand::u64(..))
}
