//! Files: uploads and downloads that stream, listings, and archives.

mod archive;
mod directories;
mod download;
mod excludes;
mod path;
mod ranges;
mod routes;
mod upload;

pub(super) use path::resolve_leniently;
pub(super) use routes::{configure, configure_discovery};
