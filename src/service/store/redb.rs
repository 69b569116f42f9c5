use std::{
    fs, io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, TryLockError},
};

use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError, WriteTransaction,
};

use super::{Change, Order, StoreError, Table, directory::rename, writer::Set};

/// The version of the records. It grows when what is there must be rewritten before it can be used.
const VERSION: u32 = 1;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const VERSION_KEY: &str = "version";

/// From which size on it is looked whether a file is mostly empty.
const WORTH_COMPACTING: u64 = 16 << 20;

/// With how many bytes a part of a list is long enough.
const LIST_BYTES: usize = 1 << 20;

/// Records in one file.
pub(super) struct Records {
    path: PathBuf,
    /// Absent while the file could not be opened again. Who reads or writes holds the lock for as long as that takes, so that
    /// nothing is left of a database that is closed.
    database: RwLock<Option<Database>>,
}

impl Records {
    /// Opens the file, makes it where there is none, and brings it up to date.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            make(path)?;
        }
        let mut database = open_current(path)?;
        if let Err(error) = compact(&mut database, path) {
            log::warn!("{} stays larger than it need be: {error}", path.display());
            drop(database);
            database = open_current(path)?;
        }
        Ok(Self { path: path.to_owned(), database: RwLock::new(Some(database)) })
    }

    /// Closes the file and opens it again: after a read or a write that failed the database refuses all others, also when the
    /// disk has space again. When this succeeds, something was written to the disk.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = None;
        *database = Some(open_current(&self.path)?);
        Ok(())
    }

    /// Does something with the database. Nobody waits while it is opened again, which may take long.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = match self.database.try_read() {
            Ok(database) => database,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Away),
        };
        work(database.as_ref().ok_or(StoreError::Away)?)
    }

    /// Makes changes that belong together, several sets of them in one go: what costs is the way to the disk. Says for each
    /// set whether it was made; one that asks for a key to be new is left out where there is a record already.
    pub(super) fn write(&self, sets: &[Set]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.with(|database| {
            let write = database.begin_write().map_err(failed)?;
            let present = sets.iter().map(|set| apply(&write, set)).collect::<Result<_, _>>()?;
            write.commit().map_err(failed)?;
            Ok(present)
        })
    }

    pub(super) fn get(&self, table: Table, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.with(|database| {
            let read = database.begin_read().map_err(failed)?;
            let table = read.open_table(definition(table)).map_err(failed)?;
            Ok(table.get(key).map_err(failed)?.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    pub(super) fn list(
        &self,
        table: Table,
        from: Option<&str>,
        order: Order,
        most: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.with(|database| {
            let read = database.begin_read().map_err(failed)?;
            let table = read.open_table(definition(table)).map_err(failed)?;
            let bound = from.map_or(Bound::Unbounded, Bound::Excluded);
            match order {
                Order::Ascending => rows(table.range::<&str>((bound, Bound::Unbounded)).map_err(failed)?, most),
                Order::Descending => rows(table.range::<&str>((Bound::Unbounded, bound)).map_err(failed)?.rev(), most),
            }
        })
    }
}

type Row<'a> = (redb::AccessGuard<'a, &'static str>, redb::AccessGuard<'a, &'static [u8]>);

/// Reads so many rows, or fewer where they are large.
fn rows<'a>(
    range: impl Iterator<Item = Result<Row<'a>, redb::StorageError>>,
    most: usize,
) -> Result<Vec<(String, Bytes)>, StoreError> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for row in range.take(most) {
        let (key, value) = row.map_err(failed)?;
        bytes += value.value().len();
        rows.push((key.value().to_owned(), Bytes::copy_from_slice(value.value())));
        if bytes >= LIST_BYTES {
            break;
        }
    }
    Ok(rows)
}

/// Makes a set of changes, or returns the record that is there where there should be none.
fn apply(write: &WriteTransaction, set: &Set) -> Result<Option<Bytes>, StoreError> {
    if let Some((table, key)) = &set.unless {
        let open = write.open_table(definition(*table)).map_err(failed)?;
        let found = open.get(key.as_str()).map_err(failed)?;
        // It is its own where a commit was said to have failed and had not.
        if let Some(found) = found.filter(|found| !set.puts(*table, key, found.value())) {
            return Ok(Some(Bytes::copy_from_slice(found.value())));
        }
    }
    for change in &set.changes {
        match change {
            Change::Put(table, key, value) => {
                let mut table = write.open_table(definition(*table)).map_err(failed)?;
                table.insert(key.as_str(), value.as_ref()).map_err(failed)?;
            }
            Change::Remove(table, key) => {
                let mut table = write.open_table(definition(*table)).map_err(failed)?;
                table.remove(key.as_str()).map_err(failed)?;
            }
        }
    }
    Ok(None)
}

/// Makes a file with all tables, which appears when it is whole.
fn make(path: &Path) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    let file_failed = |source| StoreError::File { path: new.clone(), source };
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_failed(error)),
        _ => {}
    }
    prepare(&open(&new)?)?;
    rename(&new, path).map_err(file_failed)
}

/// Opens a file and brings it up to date.
fn open_current(path: &Path) -> Result<Database, StoreError> {
    let database = open(path)?;
    match version(&database)? {
        Some(found) if found > VERSION => {
            return Err(StoreError::TooNew { path: path.to_owned(), found, known: VERSION });
        }
        // The tables that later versions of this program added are made.
        Some(_) | None => prepare(&database)?,
    }
    Ok(database)
}

/// Gives space back that nothing is in any more, where that is much: what was removed is used again, and not given back, while
/// the file is open.
fn compact(database: &mut Database, path: &Path) -> Result<(), StoreError> {
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if size < WORTH_COMPACTING {
        return Ok(());
    }
    let write = database.begin_write().map_err(failed)?;
    let stats = write.stats().map_err(failed)?;
    write.abort().map_err(failed)?;
    if stats.allocated_pages().saturating_mul(stats.page_size() as u64) < size / 2 {
        database.compact().map_err(failed)?;
    }
    Ok(())
}

fn version(database: &Database) -> Result<Option<u32>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let table = match read.open_table(META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let Some(value) = table.get(VERSION_KEY).map_err(failed)? else { return Ok(None) };
    let number = <[u8; 4]>::try_from(value.value()).map(u32::from_le_bytes);
    number.map(Some).map_err(|_| StoreError::Database("its version cannot be read".to_owned()))
}

fn prepare(database: &Database) -> Result<(), StoreError> {
    let write = database.begin_write().map_err(failed)?;
    write.open_table(META).map_err(failed)?.insert(VERSION_KEY, VERSION.to_le_bytes().as_slice()).map_err(failed)?;
    for table in Table::ALL {
        write.open_table(definition(table)).map_err(failed)?;
    }
    write.commit().map_err(failed)
}

fn open(path: &Path) -> Result<Database, StoreError> {
    Database::create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
        error => StoreError::Database(format!("{}: {error}", path.display())),
    })
}

const fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Database(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_that_nothing_is_in_any_more_is_given_back_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.redb");
        let large = Bytes::from(vec![7; 1 << 20]);
        let records = Records::open(&path).unwrap();
        for number in 0..32 {
            records.write(&[Set::of(vec![Change::Put(Table::Commands, number.to_string(), large.clone())])]).unwrap();
        }
        // The last one keeps what is before it from being cut off.
        for number in 0..31 {
            records.write(&[Set::of(vec![Change::Remove(Table::Commands, number.to_string())])]).unwrap();
        }
        drop(records);
        let before = fs::metadata(&path).unwrap().len();
        let records = Records::open(&path).unwrap();
        let after = fs::metadata(&path).unwrap().len();
        assert!(before > 32 << 20 && after < before / 4, "{before} {after}");
        assert_eq!(records.get(Table::Commands, "31").unwrap(), Some(large));
        drop(records);
        Records::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), after, "what is small is left alone");
    }
}
