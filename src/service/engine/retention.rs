//! What has ended is removed some time later, oldest first and in small steps.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde::Deserialize;

use super::{Engine, EngineError, idempotency::is_over};
use crate::{
    protocol::EventId,
    service::store::{Change, IdempotencyRecord, Order, Table},
};

/// How often is looked for what is to be removed.
const EVERY: Duration = Duration::from_secs(60);

/// How many records are looked at in one step.
const STEP: usize = 256;

/// How long a log without a record is left: the record may be about to be written.
const WITHOUT_RECORD: Duration = Duration::from_secs(3600);

/// What is looked at of a record that may be removed.
#[derive(Deserialize)]
struct Sight {
    created: Timestamp,
    ended: Option<Timestamp>,
}

impl Engine {
    /// Removes what is too old or too much, for as long as the service goes on.
    pub(super) async fn retain(self: Arc<Self>) {
        let every = EVERY.min(self.retention.age / 4).max(Duration::from_millis(100));
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = self.closing.cancelled() => return,
            }
            if let Err(error) = self.remove_old().await {
                log::warn!("what is old could not be removed: {error}");
            }
        }
    }

    async fn remove_old(self: &Arc<Self>) -> Result<(), EngineError> {
        for table in [Table::Commands, Table::Runs] {
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
            for (key, bytes) in &page {
                let sight: Sight = table.read(key, bytes)?;
                if sight.created.as_second() > oldest {
                    return Ok(());
                }
                if sight.ended.is_some_and(|ended| ended.as_second() <= oldest) {
                    self.forget(table, key).await?;
                }
            }
        }
    }

    /// Removes a record that has ended, and then its log.
    async fn forget(&self, table: Table, key: &str) -> Result<(), EngineError> {
        let Ok(id) = key.parse::<EventId>() else { return Ok(()) };
        let mut changes = vec![Change::Remove(table, key.to_owned())];
        if table == Table::Runs {
            changes.extend(self.batch_keys(id)?.into_iter().map(|key| Change::Remove(Table::RunJobs, key)));
        }
        self.store.commit(changes).await?;
        self.logs.remove(id);
        Ok(())
    }

    /// Removes idempotency keys that are not known any more.
    async fn remove_keys(self: &Arc<Self>) -> Result<(), EngineError> {
        let mut from: Option<String> = None;
        loop {
            let (store, after) = (Arc::clone(&self.store), from.clone());
            let page =
                self.blocking(move || store.list(Table::Idempotency, after.as_deref(), Order::Ascending, STEP)).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            from = Some(last.clone());
            let now = Timestamp::now();
            let is_old = |(key, bytes): &(String, bytes::Bytes)| {
                Table::Idempotency.read::<IdempotencyRecord>(key, bytes).is_ok_and(|record| is_over(&record, now))
            };
            let old: Vec<_> = page.iter().filter(|row| is_old(row)).collect();
            if !old.is_empty() {
                let remove = |(key, _): &(String, bytes::Bytes)| Change::Remove(Table::Idempotency, key.clone());
                self.store.commit(old.into_iter().map(remove).collect()).await?;
            }
        }
    }

    /// Removes the oldest that has ended while all logs together are too large, and logs that belong to nothing.
    async fn remove_surplus(self: &Arc<Self>) -> Result<(), EngineError> {
        let engine = Arc::clone(self);
        let logs = self.blocking(move || engine.logs.list()).await?;
        let mut total: u64 = logs.iter().map(|(_, size, _)| size).sum();
        let by_age: BTreeMap<EventId, (u64, SystemTime)> =
            logs.into_iter().map(|(id, size, changed)| (id, (size, changed))).collect();
        for (id, (size, changed)) in by_age {
            let is_left = changed.elapsed().is_ok_and(|since| since > WITHOUT_RECORD);
            if total <= self.retention.bytes && !is_left {
                continue;
            }
            if self.running_command(id).is_some() || self.going_run(id).is_some() {
                continue;
            }
            match self.table_of(id)? {
                Some(table) if total > self.retention.bytes => self.forget(table, &id.to_string()).await?,
                None if is_left => {
                    self.logs.remove(id);
                }
                _ => continue,
            }
            total = total.saturating_sub(size);
        }
        Ok(())
    }

    /// Where the record of this id is, if what it is of has ended.
    fn table_of(&self, id: EventId) -> Result<Option<Table>, EngineError> {
        let key = id.to_string();
        for table in [Table::Commands, Table::Runs] {
            if self.store.get(table, &key)?.is_some() {
                return Ok(Some(table));
            }
        }
        Ok(None)
    }
}
