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
    /// The file of the key is missing.
    #[error(
        "{} is missing, the key that secrets in the records beside it are encrypted with: put it back. If it is lost, make a \
         new one with `head -c 32 /dev/urandom > {}`: what has secrets is then left aside, and is to be added again",
        .0.display(),
        .0.display()
    )]
    NoKey(PathBuf),
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
    /// It could not be opened again since something could not be written.
    #[error(
        "the records cannot be reached since something could not be written: they are opened again when that can be"
    )]
    Away,
    /// Nothing can be written.
    #[error("nothing can be written to the store: {0}")]
    Unwritable(String),
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
