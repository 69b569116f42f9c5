//! What a workspace does in one turn: plain async functions over the shared core.

pub(crate) mod attach;
pub(crate) mod command;
pub(crate) mod directory;
mod fetch;
pub(crate) mod file;
mod file_writer;
pub(crate) mod git;
pub(crate) mod helper;
pub(crate) mod hold;
mod meter;
mod place;
mod private;
mod process_ids;
pub(crate) mod read;
pub(crate) mod ready;
mod recover;
mod resume;
mod start;
pub(crate) mod stop;
mod sum;
pub(crate) mod upload;
