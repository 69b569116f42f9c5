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
