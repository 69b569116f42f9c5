use std::{fs, io, path::Path};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};

use super::{Change, Order, StoreError, Table};

/// The version of the records. It grows when what is there must be rewritten before it can be used.
const VERSION: u32 = 1;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const VERSION_KEY: &str = "version";

/// Records in one file.
pub(super) struct Records {
    database: Database,
}

impl Records {
    /// Opens the file, makes it where there is none, and brings it up to date.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            Self::make(path)?;
        }
        let records = Self { database: open(path)? };
        match records.version()? {
            None => records.prepare()?,
            Some(found) if found > VERSION => {
                return Err(StoreError::TooNew { path: path.to_owned(), found, known: VERSION });
            }
            // The tables that later versions of this program added are made.
            Some(_) => records.prepare()?,
        }
        Ok(records)
    }

    /// Makes a file with all tables, which appears when it is whole.
    fn make(path: &Path) -> Result<(), StoreError> {
        let new = path.with_extension("new");
        let file_failed = |source| StoreError::File { path: new.clone(), source };
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_failed(error)),
            _ => {}
        }
        Self { database: open(&new)? }.prepare()?;
        fs::rename(&new, path).map_err(file_failed)
    }

    fn version(&self) -> Result<Option<u32>, StoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = match read.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let Some(value) = table.get(VERSION_KEY).map_err(failed)? else { return Ok(None) };
        let number = <[u8; 4]>::try_from(value.value()).map(u32::from_le_bytes);
        number.map(Some).map_err(|_| StoreError::Database("its version cannot be read".to_owned()))
    }

    fn prepare(&self) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(failed)?;
        write
            .open_table(META)
            .map_err(failed)?
            .insert(VERSION_KEY, VERSION.to_le_bytes().as_slice())
            .map_err(failed)?;
        for table in Table::ALL {
            write.open_table(definition(table)).map_err(failed)?;
        }
        write.commit().map_err(failed)
    }

    /// Makes changes that belong together, several sets of them in one go: what costs is the way to the disk. Says for each
    /// set whether it was made; one that asks for a key to be new is left out where there is a record already.
    pub(super) fn write(&self, sets: &[&super::writer::Set]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let write = self.database.begin_write().map_err(failed)?;
        let mut present = Vec::with_capacity(sets.len());
        for set in sets {
            if let Some((table, key)) = &set.unless {
                let table = write.open_table(definition(*table)).map_err(failed)?;
                let found = table.get(key.as_str()).map_err(failed)?;
                if let Some(found) = found {
                    present.push(Some(Bytes::copy_from_slice(found.value())));
                    continue;
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
            present.push(None);
        }
        write.commit().map_err(failed)?;
        Ok(present)
    }

    pub(super) fn get(&self, table: Table, key: &str) -> Result<Option<Bytes>, StoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(definition(table)).map_err(failed)?;
        Ok(table.get(key).map_err(failed)?.map(|value| Bytes::copy_from_slice(value.value())))
    }

    pub(super) fn list(
        &self,
        table: Table,
        from: Option<&str>,
        order: Order,
        most: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        use std::ops::Bound;
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(definition(table)).map_err(failed)?;
        let bound = from.map_or(Bound::Unbounded, Bound::Excluded);
        let range = match order {
            Order::Ascending => table.range::<&str>((bound, Bound::Unbounded)),
            Order::Descending => table.range::<&str>((Bound::Unbounded, bound)),
        };
        let range = range.map_err(failed)?;
        let row = |row: Result<(redb::AccessGuard<'_, &'static str>, redb::AccessGuard<'_, &'static [u8]>), _>| {
            let (key, value) = row.map_err(failed)?;
            Ok((key.value().to_owned(), Bytes::copy_from_slice(value.value())))
        };
        match order {
            Order::Ascending => range.take(most).map(row).collect(),
            Order::Descending => range.rev().take(most).map(row).collect(),
        }
    }
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
