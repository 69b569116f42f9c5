//! The records of a service that does not run.

use redb::ReadableDatabase as _;
use serde_json::Value;

use crate::scene::Served;

pub(crate) fn records(service: &Served) -> redb::Database {
    redb::Database::open(service.state().join("records.redb")).unwrap()
}

pub(crate) const fn table(name: &str) -> redb::TableDefinition<'_, &'static str, &'static [u8]> {
    redb::TableDefinition::new(name)
}

/// Writes a record, or something else where one was.
pub(crate) fn put(service: &Served, name: &str, key: &str, bytes: &[u8]) {
    let database = records(service);
    let write = database.begin_write().unwrap();
    write.open_table(table(name)).unwrap().insert(key, bytes).unwrap();
    write.commit().unwrap();
}

/// A record.
pub(crate) fn record(service: &Served, name: &str, key: &str) -> Option<Value> {
    let database = records(service);
    let read = database.begin_read().unwrap();
    let found = read.open_table(table(name)).unwrap().get(key).unwrap();
    found.map(|bytes| serde_json::from_slice(bytes.value()).unwrap())
}
