use std::{io, path::PathBuf};

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory or a file in it cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is used by another service: give each service a --state-dir of its own", .0.display())]
    InUse(PathBuf),
    /// It was written by a later version.
    #[error("{} has version {found}, and this program knows versions up to {known}: use a newer one", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// The database says no.
    #[error("the store failed: {0}")]
    Database(String),
    /// A record makes no sense.
    #[error("the record {key} of {table} cannot be read: {reason}")]
    Damaged {
        /// Of which table.
        table: &'static str,
        /// Which.
        key: String,
        /// Why.
        reason: String,
    },
    /// The service ends.
    #[error("the store is closed: the service ends")]
    Closed,
}
