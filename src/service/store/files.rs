use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};

use super::{Change, Order, Store, StoreError, Table, redb::Records, writer::Writer};

/// The store in a directory of this machine: records in one file, each log in its own.
pub(crate) struct FileStore {
    records: Arc<Records>,
    writer: Writer,
}

impl FileStore {
    /// Opens the store in this directory, and makes both where there is none. Nobody else on the machine may look into it.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let failed = |path: &Path, source| StoreError::File { path: path.to_owned(), source };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory).map_err(|error| failed(directory, error))?;
        let path = file(directory);
        let records = Arc::new(Records::open(&path)?);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|error| failed(&path, error))?;
        let writer = Writer::start(Arc::clone(&records)).map_err(|error| failed(&path, error))?;
        Ok(Self { records, writer })
    }
}

/// The file of the records.
fn file(directory: &Path) -> PathBuf {
    directory.join("records.redb")
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
