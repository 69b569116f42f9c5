//! What has ended is removed some time later, oldest first and in small steps.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Engine, EngineError, lock};
use crate::{
    protocol::EventId,
    service::{
        StoreError,
        store::{Change, Order, Table},
    },
};

/// How often is looked for what is to be removed.
const EVERY: Duration = Duration::from_secs(10);

/// How many records are looked at in one step.
const STEP: usize = 256;

/// The tables of what ends.
const TABLES: [Table; 2] = [Table::Commands, Table::Runs];

/// How many bytes everything takes that has ended: its records, the jobs that were added to it, and its log. It is counted
/// once after the start, and then as things end and are removed.
pub(super) struct Kept {
    bytes: Mutex<u64>,
    /// The first id of this process: what has a larger one is counted when it ends.
    first: EventId,
    /// What had not ended before it, and is counted when it ends.
    going: Mutex<HashSet<EventId>>,
}

impl Kept {
    pub(super) fn new(first: EventId) -> Self {
        Self { bytes: Mutex::default(), first, going: Mutex::default() }
    }

    /// Takes in that something has ended.
    pub(super) fn add(&self, bytes: u64) {
        let mut kept = lock(&self.bytes);
        *kept = kept.saturating_add(bytes);
    }

    fn remove(&self, bytes: u64) {
        let mut kept = lock(&self.bytes);
        *kept = kept.saturating_sub(bytes);
    }

    /// Whether it ended before this process began.
    fn is_of_before(&self, id: EventId) -> bool {
        id < self.first && !lock(&self.going).contains(&id)
    }
}

/// What is looked at of a record that may be removed.
#[derive(Deserialize)]
struct Sight {
    created: Timestamp,
    ended: Option<Timestamp>,
}

/// A record that may be removed.
struct Row {
    table: Table,
    key: String,
    id: EventId,
    bytes: u64,
    sight: Sight,
}

impl Row {
    /// `None` of what is no record of a command or run.
    fn read(table: Table, key: String, bytes: &Bytes) -> Option<Self> {
        let id: EventId = key.parse().ok()?;
        let sight = table.read(&key, bytes).or_else(|error| {
            // Nobody goes on with what cannot be read: it ended when it began.
            let made = id.made().ok_or(error)?;
            Ok::<_, StoreError>(Sight { created: made, ended: Some(made) })
        });
        Some(Self { table, id, bytes: bytes.len() as u64, sight: sight.ok()?, key })
    }
}

impl Engine {
    /// Takes in what has not ended, before anything of that is gone on with.
    pub(super) fn note_unfinished(&self) -> Result<(), StoreError> {
        let mut from = None;
        loop {
            let page = self.store.list(Table::Unfinished, from.as_deref(), Order::Ascending, STEP)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = Some(last.clone());
            lock(&self.kept.going).extend(page.iter().filter_map(|(key, _)| key.parse::<EventId>().ok()));
        }
    }

    /// Removes what is too old or too much, for as long as the service goes on.
    pub(super) async fn retain(self: Arc<Self>) {
        let engine = Arc::clone(&self);
        if let Err(error) = self.blocking(move || engine.take_stock()).await {
            log::warn!("what is kept could not be counted: {error}");
        }
        if let Err(error) = self.note_ages().await {
            log::warn!("some idempotency keys stay longer than they should: {error}");
        }
        let every = EVERY.min(self.retention.age / 4).max(Duration::from_millis(100));
        loop {
            if let Err(error) = self.remove_old().await {
                log::warn!("what is old could not be removed: {error}");
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.closing.cancelled() => return,
            }
        }
    }

    /// Counts what had ended before this process began, and removes logs that belong to nothing.
    fn take_stock(&self) -> Result<(), StoreError> {
        let mut logs = self.logs.list()?;
        for table in TABLES {
            self.each_row(table, |key, bytes| {
                if let Some(id) = key.parse().ok().filter(|id| self.kept.is_of_before(*id)) {
                    self.kept.add(bytes.len() as u64 + logs.remove(&id).unwrap_or_default());
                }
            })?;
        }
        self.each_row(Table::RunJobs, |key, bytes| {
            let run = key.split('/').next().and_then(|run| run.parse().ok());
            if run.is_some_and(|id| self.kept.is_of_before(id)) {
                self.kept.add(bytes.len() as u64);
            }
        })?;
        // It was about to be written to when a process ended.
        for id in logs.into_keys().filter(|id| self.kept.is_of_before(*id)) {
            self.logs.remove(id);
        }
        Ok(())
    }

    fn each_row(&self, table: Table, mut visit: impl FnMut(&str, &Bytes)) -> Result<(), StoreError> {
        let mut from: Option<String> = None;
        while !self.closing.is_cancelled() {
            let page = self.store.list(table, from.as_deref(), Order::Ascending, STEP)?;
            page.iter().for_each(|(key, bytes)| visit(key, bytes));
            match page.into_iter().next_back() {
                Some((key, _)) => from = Some(key),
                None => break,
            }
        }
        Ok(())
    }

    async fn remove_old(self: &Arc<Self>) -> Result<(), EngineError> {
        for table in TABLES {
            self.remove_aged(table).await?;
        }
        self.remove_keys().await?;
        self.remove_surplus().await
    }

    /// Removes what ended too long ago. Ids grow with time, so that the first one that was made after that ends the search.
    async fn remove_aged(self: &Arc<Self>, table: Table) -> Result<(), EngineError> {
        let age = i64::try_from(self.retention.age.as_secs()).unwrap_or(i64::MAX / 2);
        let oldest = Timestamp::now().as_second().saturating_sub(age);
        let mut from: Option<String> = None;
        loop {
            let (store, after) = (Arc::clone(&self.store), from.clone());
            let page = self.blocking(move || store.list(table, after.as_deref(), Order::Ascending, STEP)).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = Some(last.clone());
            let rows = page.into_iter().filter_map(|(key, bytes)| Row::read(table, key, &bytes));
            let (mut old, mut is_last) = (Vec::new(), false);
            for row in rows {
                is_last = row.sight.created.as_second() > oldest;
                if is_last {
                    break;
                }
                if row.sight.ended.is_some_and(|ended| ended.as_second() <= oldest) {
                    old.push(row);
                }
            }
            self.forget(old).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Removes records of what has ended, and then their logs.
    async fn forget(self: &Arc<Self>, rows: Vec<Row>) -> Result<(), EngineError> {
        if rows.is_empty() {
            return Ok(());
        }
        let engine = Arc::clone(self);
        let prepare = move || {
            let (mut changes, mut bytes) = (Vec::new(), 0);
            for row in &rows {
                changes.push(Change::Remove(row.table, row.key.clone()));
                bytes += row.bytes;
                if row.table == Table::Runs {
                    for (key, size) in engine.batches(row.id)? {
                        changes.push(Change::Remove(Table::RunJobs, key));
                        bytes += size;
                    }
                }
            }
            Ok((changes, bytes, rows))
        };
        let (changes, bytes, rows) = self.blocking(prepare).await?;
        self.store.commit(changes).await?;
        let engine = Arc::clone(self);
        let logs = self.blocking(move || Ok(rows.iter().map(|row| engine.logs.remove(row.id)).sum::<u64>())).await?;
        self.kept.remove(bytes + logs);
        Ok(())
    }

    /// How many bytes everything takes now, also what goes on.
    fn kept_bytes(&self) -> u64 {
        let commands: u64 = lock(&self.commands).values().map(|handle| handle.log().end()).sum();
        let runs: u64 = lock(&self.runs).values().map(|run| run.log().end()).sum();
        *lock(&self.kept.bytes) + commands + runs
    }

    /// Removes the oldest that has ended while everything together is too large.
    async fn remove_surplus(self: &Arc<Self>) -> Result<(), EngineError> {
        let mut from: Option<String> = None;
        loop {
            let surplus = self.kept_bytes().saturating_sub(self.retention.bytes);
            if surplus == 0 {
                return Ok(());
            }
            let engine = Arc::clone(self);
            let after = from.take();
            let Some((rows, last)) = self.blocking(move || engine.oldest(after.as_deref(), surplus)).await? else {
                return Ok(());
            };
            from = Some(last);
            self.forget(rows).await?;
        }
    }

    /// The oldest commands and runs behind this one that have ended, as many as make up so many bytes, and how far was looked;
    /// `None` where nothing comes.
    fn oldest(&self, from: Option<&str>, surplus: u64) -> Result<Option<(Vec<Row>, String)>, StoreError> {
        let mut rows = Vec::new();
        let mut last: Option<String> = None;
        for table in TABLES {
            let page = self.store.list(table, from, Order::Ascending, STEP)?;
            // Behind the end of one part there may be older ones than in the other.
            if let Some((key, _)) = page.last()
                && last.as_ref().is_none_or(|last| key < last)
            {
                last = Some(key.clone());
            }
            rows.extend(page.into_iter().filter_map(|(key, bytes)| Row::read(table, key, &bytes)));
        }
        let Some(last) = last else { return Ok(None) };
        rows.retain(|row| row.key <= last && row.sight.ended.is_some());
        rows.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let mut bytes = 0;
        let enough = rows.iter().position(|row| {
            bytes += row.bytes + self.logs.size(row.id);
            bytes >= surplus
        });
        rows.truncate(enough.map_or(rows.len(), |index| index + 1));
        Ok(Some((rows, last)))
    }
}
