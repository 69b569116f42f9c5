use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};

use super::{Change, Order, StateDirectory, Store, StoreError, Table, redb::Records, writer::Writer};

/// The store in a directory of this machine: records in one file, each log in its own.
pub(crate) struct FileStore {
    records: Arc<Records>,
    writer: Writer,
    _directory: StateDirectory,
}

impl FileStore {
    /// Opens the store in this directory, and makes it where there is none.
    pub(crate) fn open(directory: StateDirectory) -> Result<Self, StoreError> {
        let path = directory.records();
        let failed = |source| StoreError::File { path: path.clone(), source };
        let records = Arc::new(Records::open(&path)?);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let writer = Writer::start(Arc::clone(&records)).map_err(failed)?;
        Ok(Self { records, writer, _directory: directory })
    }
}

impl Store for FileStore {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<(), StoreError>> {
        let writer = self.writer.clone();
        async move { writer.commit(changes, None).await.map(drop) }.boxed()
    }

    fn commit_new(
        &self,
        table: Table,
        key: String,
        changes: Vec<Change>,
    ) -> BoxFuture<'static, Result<Option<Bytes>, StoreError>> {
        self.writer.clone().commit(changes, Some((table, key))).boxed()
    }

    fn failing(&self) -> Option<String> {
        self.writer.failing()
    }

    fn get(&self, table: Table, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.records.get(table, key)
    }

    fn list(
        &self,
        table: Table,
        from: Option<&str>,
        order: Order,
        most: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.records.list(table, from, order, most)
    }
}
