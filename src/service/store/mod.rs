//! What outlives the process: records, which are written before anything is acknowledged, and logs, which only grow.

mod directory;
mod error;
mod files;
mod frame;
mod log;
mod records;
mod redb;
mod seal;
mod writer;

pub(crate) use directory::StateDirectory;
pub use error::StoreError;
pub(crate) use files::FileStore;
pub(crate) use frame::{Frame, FrameKind, MAX_PAYLOAD};
pub(crate) use log::{Log, Logs};
pub(crate) use records::{
    CommandRecord, CommandState, IdempotencyRecord, RunJobs, RunRecord, RunState, SealedWorkspace, Table, Unfinished,
    WorkspaceRecord,
};
pub(crate) use seal::Sealer;

use bytes::Bytes;
use futures::future::BoxFuture;

/// One change of the records.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Writes a record, whether there is one of this key or not.
    Put(Table, String, Bytes),
    /// Removes a record; nothing where there is none.
    Remove(Table, String),
}

impl Change {
    /// How many bytes it adds.
    pub(crate) const fn size(&self) -> u64 {
        match self {
            Self::Put(_, _, record) => record.len() as u64,
            Self::Remove(..) => 0,
        }
    }
}

/// Where records are kept. A store that several services share is another implementation.
pub(crate) trait Store: Send + Sync {
    /// Makes changes, all or none. Resolves when they outlive the process and the machine.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Makes the changes only when there is no record of this key in this table; otherwise returns the one that there is.
    fn commit_new(
        &self,
        table: Table,
        key: String,
        changes: Vec<Change>,
    ) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>>;

    /// Why nothing can be written now, if the last commit failed. It is tried again meanwhile.
    fn failing(&self) -> Option<String>;

    /// The record of this key.
    fn get(&self, table: Table, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// Records in the order of their keys, or against it, from this key on (which is left out): as many as are asked for, or
    /// fewer where they are large, but one at least; none at the end.
    fn list(
        &self,
        table: Table,
        from: Option<&str>,
        order: Order,
        most: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError>;
}

/// The order in which records are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The smallest key first.
    Ascending,
    /// The largest key first: of records whose keys grow with time, the newest.
    Descending,
}
