//! Commands: running them, keeping what they wrote, and telling about it.
//!
//! A command is one task. It reads both streams of its shell, turns bytes into text, and appends events to the log;
//! [`process_tree`] finds and ends every process of a command. The log is an index in memory over bodies that live in
//! memory or in spill files.

mod body;
mod child;
mod decode;
mod environment;
mod event;
mod idempotency;
mod json_text;
mod log;
mod outgoing;
mod process_tree;
mod pump;
mod reply;
mod request;
mod routes;
mod runner;
mod search;
mod service;
mod socket;
mod spawn;
mod timestamp;

pub(super) use environment::CommandEnvironment;
pub(super) use routes::configure;
pub(super) use service::{BashLimits, BashService};
pub(super) use socket::events_socket;
