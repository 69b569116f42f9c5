use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::{Engine, EngineError, lock};
use crate::service::{
    StoreError,
    store::{Change, IdempotencyRecord, Order, Store, Table},
};

/// How long a key is known.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest key.
const LONGEST: usize = 255;

/// A request that must not be carried out twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Whose it is, and its key.
    key: String,
    /// The SHA-256 of its method, path and body. It is not written down: there may be weak secrets in the body.
    fingerprint: String,
}

/// What came of a request that must not be carried out twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Made<T> {
    /// It was made now.
    New(T),
    /// It was made by an earlier request with the same key; this is its path.
    Before(String),
}

/// Requests that are being carried out, by key: those that come meanwhile wait for them.
pub(super) type Claims = std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>;

impl Claim {
    /// The claim of a request with an `Idempotency-Key`: keys of different callers have nothing to do with each other, and
    /// another method, path or body makes another request.
    pub(crate) fn new(caller: &str, key: &str, method: &str, path: &str, body: &[u8]) -> Result<Self, EngineError> {
        if key.is_empty() || key.len() > LONGEST || !key.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let what = format!("an Idempotency-Key has 1 to {LONGEST} visible ASCII characters");
            return Err(EngineError::Invalid(what));
        }
        let mut sum = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [method.as_bytes(), path.as_bytes(), body] {
            sum.update(&(part.len() as u64).to_le_bytes());
            sum.update(part);
        }
        let mut fingerprint = String::with_capacity(64);
        for byte in sum.finish().as_ref() {
            // Writing to a text does not fail.
            let _ = write!(fingerprint, "{byte:02x}");
        }
        Ok(Self { key: format!("{caller}\n{key}"), fingerprint })
    }
}

impl Engine {
    /// Carries a request out in the background, to its end also when nobody waits for it any more; not at all when it was
    /// carried out before. A request that is being carried out is waited for.
    ///
    /// What it makes is to be written with [`commit_claimed`](Self::commit_claimed).
    pub(crate) async fn once<T: Send + 'static>(
        self: &Arc<Self>,
        claim: Option<Claim>,
        make: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<Made<T>, EngineError> {
        if self.closing.is_cancelled() {
            return Err(EngineError::Ending);
        }
        let engine = Arc::clone(self);
        let task = self.tasks.spawn_on(
            async move {
                match claim {
                    None => make.await.map(Made::New),
                    Some(claim) => engine.claimed(claim, make).await,
                }
            },
            &self.runtime,
        );
        task.await.map_err(|error| EngineError::Store(StoreError::Database(error.to_string())))?
    }

    async fn claimed<T>(
        &self,
        claim: Claim,
        make: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<Made<T>, EngineError> {
        let turn = Arc::clone(lock(&self.claims).entry(claim.key.clone()).or_default());
        let made = {
            let _turn = turn.lock().await;
            match self.made_before(&claim).await {
                Ok(Some(location)) => Ok(Made::Before(location)),
                Ok(None) => make.await.map(Made::New),
                Err(error) => Err(error),
            }
        };
        let mut claims = lock(&self.claims);
        // One is in the map, one is here.
        if Arc::strong_count(&turn) == 2 {
            claims.remove(&claim.key);
        }
        drop(claims);
        made
    }

    /// The path of what an earlier request with this key made.
    async fn made_before(&self, claim: &Claim) -> Result<Option<String>, EngineError> {
        let Some(bytes) = self.store.get(Table::Idempotency, &claim.key)? else { return Ok(None) };
        let record: IdempotencyRecord = Table::Idempotency.read(&claim.key, &bytes)?;
        if is_over(&record, Timestamp::now()) {
            self.store.commit(vec![Change::Remove(Table::Idempotency, claim.key.clone())]).await?;
            return Ok(None);
        }
        // An earlier version of this program wrote it down as it is.
        let is_same = record.fingerprint == self.sealer.fingerprint(&claim.fingerprint)
            || record.fingerprint == claim.fingerprint;
        if !is_same {
            return Err(EngineError::KeyReused);
        }
        Ok(Some(record.location))
    }

    /// Writes down what a request makes, together with its key: both or none.
    pub(crate) async fn commit_claimed(
        &self,
        claim: Option<&Claim>,
        location: &str,
        mut changes: Vec<Change>,
    ) -> Result<(), EngineError> {
        let Some(claim) = claim else { return Ok(self.store.commit(changes).await?) };
        let record = IdempotencyRecord {
            created: Timestamp::now(),
            fingerprint: self.sealer.fingerprint(&claim.fingerprint),
            location: location.to_owned(),
        };
        changes.push(Table::Idempotency.put(&claim.key, &record));
        changes.push(Change::Put(Table::KeyAges, age_key(record.created, &claim.key), Bytes::new()));
        match self.store.commit_new(Table::Idempotency, claim.key.clone(), changes).await? {
            None => Ok(()),
            // By another service with the same store: within this one only one request at a time has the key.
            Some(_) => Err(EngineError::Conflict("the Idempotency-Key is being used: ask again".to_owned())),
        }
    }
}

/// How many keys are looked at in one step.
const STEP: usize = 256;

impl Engine {
    /// Removes keys that are not known any more: the oldest, up to the first one that is.
    pub(super) async fn remove_keys(self: &Arc<Self>) -> Result<(), EngineError> {
        loop {
            let engine = Arc::clone(self);
            let changes = self.blocking(move || engine.old_keys()).await?;
            if changes.is_empty() {
                return Ok(());
            }
            self.store.commit(changes).await?;
        }
    }

    fn old_keys(&self) -> Result<Vec<Change>, StoreError> {
        let (now, mut changes) = (Timestamp::now(), Vec::new());
        for (age, _) in self.store.list(Table::KeyAges, None, Order::Ascending, STEP)? {
            let Some((created, key)) = of_age_key(&age) else {
                changes.push(Change::Remove(Table::KeyAges, age));
                continue;
            };
            if !is_old(created, now) {
                break;
            }
            // It may have been used again since then.
            let record = self.store.get(Table::Idempotency, key)?;
            let record = record.map(|bytes| Table::Idempotency.read::<IdempotencyRecord>(key, &bytes));
            if !matches!(record, Some(Ok(record)) if !is_over(&record, now)) {
                changes.push(Change::Remove(Table::Idempotency, key.to_owned()));
            }
            changes.push(Change::Remove(Table::KeyAges, age));
        }
        Ok(changes)
    }

    /// Notes the age of keys of which an earlier version of this program has not.
    pub(super) async fn note_ages(self: &Arc<Self>) -> Result<(), EngineError> {
        let mut from: Option<String> = None;
        loop {
            let (store, after) = (Arc::clone(&self.store), from.clone());
            let (changes, last) = self.blocking(move || missing_ages(&*store, after.as_deref())).await?;
            if !changes.is_empty() {
                self.store.commit(changes).await?;
            }
            match last {
                Some(key) => from = Some(key),
                None => return Ok(()),
            }
        }
    }
}

fn missing_ages(store: &dyn Store, from: Option<&str>) -> Result<(Vec<Change>, Option<String>), StoreError> {
    let page = store.list(Table::Idempotency, from, Order::Ascending, STEP)?;
    let (mut changes, last) = (Vec::new(), page.last().map(|(key, _)| key.clone()));
    for (key, bytes) in page {
        let record = Table::Idempotency.read::<IdempotencyRecord>(&key, &bytes);
        let age = age_key(record.map_or_else(|_| Timestamp::now(), |record| record.created), &key);
        if store.get(Table::KeyAges, &age)?.is_none() {
            changes.push(Change::Put(Table::KeyAges, age, Bytes::new()));
        }
    }
    Ok((changes, last))
}

/// A key behind the time at which it came, so that the oldest comes first.
fn age_key(created: Timestamp, key: &str) -> String {
    format!("{:020}/{key}", created.as_microsecond().max(0))
}

fn of_age_key(age: &str) -> Option<(Timestamp, &str)> {
    let (micros, key) = age.split_once('/')?;
    Some((Timestamp::from_microsecond(micros.parse().ok()?).ok()?, key))
}

fn is_old(created: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(created)).is_ok_and(|age| age > KEPT)
}

/// Whether a key is not known any more.
fn is_over(record: &IdempotencyRecord, now: Timestamp) -> bool {
    is_old(record.created, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_request_has_another_fingerprint_and_another_caller_another_key() {
        let claim = |caller, method, path, body: &str| Claim::new(caller, "k", method, path, body.as_bytes()).unwrap();
        let first = claim("a", "POST", "/v1/runs", "{}");
        assert_eq!(first, claim("a", "POST", "/v1/runs", "{}"));
        assert_ne!(first.key, claim("b", "POST", "/v1/runs", "{}").key);
        for other in [claim("a", "POST", "/v1/runs", "{ }"), claim("a", "POST", "/v1/runs{", "}")] {
            assert_ne!(first.fingerprint, other.fingerprint);
        }
    }

    #[test]
    fn a_key_is_a_short_visible_text() {
        for key in ["", "a\nb", "ä", &"x".repeat(256)] {
            assert!(Claim::new("", key, "POST", "/", b"").is_err(), "{key:?}");
        }
    }
}
