use std::sync::Arc;

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
    /// Commands, the newest first: those before the one that the page before ended with.
    pub(crate) async fn list_commands(
        self: &Arc<Self>,
        filter: CommandFilter,
        before: Option<EventId>,
        most: usize,
    ) -> Result<Page<Arc<CommandRecord>>, EngineError> {
        if filter.state.is_some_and(|state| state < CommandState::Finished) {
            return Ok(self.list_running(&filter, before, most));
        }
        let store = Arc::clone(&self.store);
        let page = self.blocking(move || {
            let picks = |sight: Sight| filter.picks(&sight.workspace, sight.state);
            list_newest::<CommandRecord, Sight>(&*store, Table::Commands, before, most, picks)
        });
        let page = page.await?;
        Ok(Page { items: page.items.into_iter().map(Arc::new).collect(), next: page.next })
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

/// Records of a table whose keys are ids, the newest first.
pub(super) fn list_newest<T: DeserializeOwned, S: DeserializeOwned>(
    store: &dyn Store,
    table: Table,
    before: Option<EventId>,
    most: usize,
    picks: impl Fn(S) -> bool,
) -> Result<Page<T>, StoreError> {
    let (mut items, mut looked_at) = (Vec::new(), 0);
    let mut from = before.map(|id| id.to_string());
    while looked_at < MOST_LOOKED_AT {
        let rows = store.list(table, from.as_deref(), Order::Descending, PIECE)?;
        let is_last = rows.len() < PIECE;
        for (index, (key, bytes)) in rows.iter().enumerate() {
            if picks(table.read(key, bytes)?) {
                items.push(table.read(key, bytes)?);
            }
            if items.len() == most {
                let is_end = is_last && index + 1 == rows.len();
                return Ok(Page { items, next: if is_end { None } else { key.parse().ok() } });
            }
        }
        if is_last {
            return Ok(Page { items, next: None });
        }
        looked_at += rows.len();
        from = rows.into_iter().next_back().map(|(key, _)| key);
    }
    Ok(Page { items, next: from.and_then(|key| key.parse().ok()) })
}
