//! Git queries, answered by running the `git` of the machine.
//!
//! Which state a workspace is compared with, and what is told about it, follows the real server; how names are read does
//! not: they are taken unquoted and separated by zero bytes, so that every name comes out as it is.

mod base;
mod changes;
mod command;
mod commits;
mod delta;
mod diff;
mod routes;
mod text;

pub(super) use command::Git;
pub(super) use delta::{HEADER_SAFE, identity, write_delta};
pub(super) use routes::{configure, configure_providers};
