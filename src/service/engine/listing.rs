use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};

use super::{Engine, EngineError, lock};
use crate::{
    protocol::EventId,
    service::{
        StoreError,
        store::{CommandRecord, CommandState, Order, Store, Table},
    },
};

/// How many records are looked at for one page at most: a filter that picks little does not read everything at once.
const MOST_LOOKED_AT: usize = 10_000;

/// How many bytes of records are read for one page, and the one record that goes beyond it.
const MOST_READ: usize = 16 << 20;

/// How many records are read at once.
const PIECE: usize = 256;

/// A part of a list.
#[derive(Debug, Clone)]
pub(crate) struct Page<T> {
    /// What is in it. It may be less than was asked for although more comes.
    pub(crate) items: Vec<T>,
    /// Where the list goes on; absent at its end.
    pub(crate) next: Option<EventId>,
}

/// Which commands.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommandFilter {
    /// Those of this workspace.
    pub(crate) workspace: Option<String>,
    /// Those in this state.
    pub(crate) state: Option<CommandState>,
}

/// What a filter looks at.
#[derive(Deserialize)]
struct Sight {
    workspace: String,
    state: CommandState,
}

impl CommandFilter {
    fn picks(&self, workspace: &str, state: CommandState) -> bool {
        self.state.is_none_or(|wanted| wanted == state) && self.workspace.as_ref().is_none_or(|name| name == workspace)
    }
}

impl Engine {
    /// Commands, the newest first: those before the one that the page before ended with. Of each what is told is made when it
    /// was read, and the rest let go.
    pub(crate) async fn list_commands<T: Send + 'static>(
        self: &Arc<Self>,
        filter: CommandFilter,
        before: Option<EventId>,
        most: usize,
        tell: impl Fn(&CommandRecord) -> T + Send + 'static,
    ) -> Result<Page<T>, EngineError> {
        if filter.state.is_some_and(|state| state < CommandState::Finished) {
            let page = self.list_running(&filter, before, most);
            return Ok(Page { items: page.items.iter().map(|record| tell(record)).collect(), next: page.next });
        }
        let store = Arc::clone(&self.store);
        self.blocking(move || {
            let picks = |sight: Sight| filter.picks(&sight.workspace, sight.state);
            list_newest(&*store, Table::Commands, before, most, picks, |record| tell(&record))
        })
        .await
    }

    /// Commands that have not ended: there is a bound of those.
    fn list_running(&self, filter: &CommandFilter, before: Option<EventId>, most: usize) -> Page<Arc<CommandRecord>> {
        let records = lock(&self.commands).values().map(|handle| handle.record()).collect::<Vec<_>>();
        let wanted = |record: &Arc<CommandRecord>| {
            before.is_none_or(|before| record.id < before) && filter.picks(&record.workspace, record.state)
        };
        let mut items: Vec<_> = records.into_iter().filter(wanted).collect();
        items.sort_unstable_by_key(|record| std::cmp::Reverse(record.id));
        let more = items.len() > most;
        items.truncate(most);
        Page { next: items.last().filter(|_| more).map(|record| record.id), items }
    }

    /// Does what waits for the disk where it holds up nobody.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let done = self.runtime.spawn_blocking(work).await;
        let done = done.map_err(|error| StoreError::Database(error.to_string()))?;
        Ok(done?)
    }
}

/// Records of a table whose keys are ids, the newest first. One that cannot be read is passed over.
pub(super) fn list_newest<R: DeserializeOwned, S: DeserializeOwned, T>(
    store: &dyn Store,
    table: Table,
    before: Option<EventId>,
    most: usize,
    picks: impl Fn(S) -> bool,
    tell: impl Fn(R) -> T,
) -> Result<Page<T>, StoreError> {
    let (mut items, mut looked_at, mut bytes_read) = (Vec::new(), 0, 0);
    let mut from = before.map(|id| id.to_string());
    while looked_at < MOST_LOOKED_AT && bytes_read < MOST_READ && items.len() < most {
        let rows = store.list(table, from.as_deref(), Order::Descending, PIECE)?;
        if rows.is_empty() {
            return Ok(Page { items, next: None });
        }
        for (key, bytes) in rows {
            (looked_at, bytes_read) = (looked_at + 1, bytes_read + bytes.len());
            match read_picked(table, &key, &bytes, &picks) {
                Ok(record) => items.extend(record.map(&tell)),
                Err(error) => log::warn!("it is left out of a list: {error}"),
            }
            from = Some(key);
            if items.len() == most {
                break;
            }
        }
    }
    let more = !store.list(table, from.as_deref(), Order::Descending, 1)?.is_empty();
    Ok(Page { items, next: from.filter(|_| more).and_then(|key| key.parse().ok()) })
}

fn read_picked<R: DeserializeOwned, S: DeserializeOwned>(
    table: Table,
    key: &str,
    bytes: &Bytes,
    picks: impl Fn(S) -> bool,
) -> Result<Option<R>, StoreError> {
    if picks(table.read(key, bytes)?) { table.read(key, bytes).map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::service::store::{Change, FileStore, StateDirectory};

    #[derive(Deserialize)]
    struct Row {
        number: u64,
    }

    async fn store(rows: &[(EventId, Bytes)]) -> (tempfile::TempDir, FileStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::open(StateDirectory::take(directory.path()).unwrap()).unwrap();
        let put = |(id, bytes): &(EventId, Bytes)| Change::Put(Table::Commands, id.to_string(), bytes.clone());
        store.commit(rows.iter().map(put).collect()).await.unwrap();
        (directory, store)
    }

    fn rows(count: u64, padding: usize) -> Vec<(EventId, Bytes)> {
        let row = |number| json!({ "number": number, "padding": "x".repeat(padding) }).to_string();
        (0..count).map(|number| (EventId::now(), row(number).into())).collect()
    }

    fn list(store: &FileStore, before: Option<EventId>, most: usize) -> Page<u64> {
        let even = |row: Row| row.number.is_multiple_of(2);
        list_newest(store, Table::Commands, before, most, even, |row: Row| row.number).unwrap()
    }

    #[tokio::test]
    async fn pages_follow_each_other_and_what_cannot_be_read_is_passed_over() {
        let mut rows = rows(9, 0);
        rows[4].1 = Bytes::from_static(b"no json");
        let (_directory, store) = store(&rows).await;
        let first = list(&store, None, 2);
        assert_eq!((first.items, first.next), (vec![8, 6], Some(rows[6].0)));
        let rest = list(&store, first.next, 2);
        assert_eq!((rest.items, rest.next), (vec![2, 0], None), "the last one is the end");
    }

    #[tokio::test]
    async fn a_page_ends_where_much_was_read_and_the_next_one_goes_on_there() {
        let (_directory, store) = store(&rows(24, 1 << 20)).await;
        let first = list(&store, None, 100);
        assert!(first.items.len() < 12 && first.next.is_some(), "{first:?}");
        let rest = list(&store, first.next, 100);
        assert_eq!([first.items, rest.items].concat(), (0..12).rev().map(|half| 2 * half).collect::<Vec<_>>());
    }
}
