use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{Change, StoreError, Table, redb::Records};

/// How many sets of changes may wait for the disk before those who make them wait for a place.
const WAITING: usize = 1024;

/// How many sets go to the disk together.
const TOGETHER: usize = 256;

/// How long after a failure nothing is tried that would fail again: to open the records takes long where they are many.
const REST: Duration = Duration::from_millis(250);

/// How often it is tried whether something can be written again, while nobody wants to.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// Changes that belong together.
pub(super) struct Set {
    pub(super) changes: Vec<Change>,
    /// They are made only where there is no such record.
    pub(super) unless: Option<(Table, String)>,
    done: oneshot::Sender<Result<Option<Bytes>, StoreError>>,
}

impl Set {
    #[cfg(test)]
    pub(super) fn of(changes: Vec<Change>) -> Self {
        Self { changes, unless: None, done: oneshot::channel().0 }
    }

    /// Whether it writes this very record.
    pub(super) fn puts(&self, table: Table, key: &str, value: &[u8]) -> bool {
        self.changes.iter().any(
            |change| matches!(change, Change::Put(of, name, bytes) if *of == table && name == key && bytes == value),
        )
    }
}

/// Writes records on a thread of its own. What comes while the disk is busy is written together.
#[derive(Clone)]
pub(super) struct Writer {
    sets: mpsc::Sender<Set>,
    failing: Arc<Failing>,
}

/// Why nothing can be written, and when that was last tried.
type Failing = Mutex<Option<(String, Instant)>>;

impl Writer {
    pub(super) fn start(records: Arc<Records>) -> io::Result<Self> {
        let (sets, waiting) = mpsc::channel(WAITING);
        let failing = Arc::<Failing>::default();
        let hand = Hand { records, failing: Arc::clone(&failing) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let write = move || runtime.block_on(hand.work(waiting));
        thread::Builder::new().name("wsfleet-store".to_owned()).spawn(write)?;
        Ok(Self { sets, failing })
    }

    /// Why the last commit failed, if it did.
    pub(super) fn failing(&self) -> Option<String> {
        lock(&self.failing).as_ref().map(|(reason, _)| reason.clone())
    }

    pub(super) async fn commit(
        self,
        changes: Vec<Change>,
        unless: Option<(Table, String)>,
    ) -> Result<Option<Bytes>, StoreError> {
        let (done, answer) = oneshot::channel();
        self.sets.send(Set { changes, unless, done }).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// What writes.
struct Hand {
    records: Arc<Records>,
    failing: Arc<Failing>,
}

impl Hand {
    /// Nothing else is on this thread, so that waiting for the disk holds up nobody.
    async fn work(&self, mut waiting: mpsc::Receiver<Set>) {
        let mut batch = Vec::with_capacity(TOGETHER);
        loop {
            let next = waiting.recv_many(&mut batch, TOGETHER);
            let fails = lock(&self.failing).is_some();
            let received = if fails { timeout(TRY_EVERY, next).await } else { Ok(next.await) };
            match received {
                Ok(0) => return,
                Ok(_) => self.write(std::mem::replace(&mut batch, Vec::with_capacity(TOGETHER))),
                // Who waits for it to be ready again may send nothing before that.
                Err(_) => self.note(&self.records.reopen()),
            }
        }
    }

    fn write(&self, batch: Vec<Set>) {
        let resting =
            lock(&self.failing).as_ref().filter(|(_, tried)| tried.elapsed() < REST).map(|(why, _)| why.clone());
        let written = match resting {
            Some(reason) => Err(reason),
            None => {
                let written = self.try_to_write(&batch);
                self.note(&written);
                written
            }
        };
        let answers: Vec<Result<Option<Bytes>, StoreError>> = match written {
            Ok(present) => present.into_iter().map(Ok).collect(),
            Err(error) => batch.iter().map(|_| Err(StoreError::Unwritable(error.clone()))).collect(),
        };
        for (set, answer) in batch.into_iter().zip(answers) {
            // Who has gone meanwhile needs no answer.
            let _ = set.done.send(answer);
        }
    }

    fn try_to_write(&self, batch: &[Set]) -> Result<Vec<Option<Bytes>>, String> {
        let first = match self.records.write(batch) {
            Ok(present) => return Ok(present),
            Err(error) => error,
        };
        let again = self.records.reopen().and_then(|()| self.records.write(batch));
        again.map_err(|again| {
            // So that what is there can be read, where that is possible.
            let _ = self.records.reopen();
            // The second may say no more than that there was a first.
            format!("{first}; and when it was opened again: {again}")
        })
    }

    fn note<T>(&self, done: &Result<T, impl ToString>) {
        let mut failing = lock(&self.failing);
        match done {
            Ok(_) if failing.take().is_some() => log::warn!("records can be written again"),
            Ok(_) => {}
            Err(error) => {
                let reason = error.to_string();
                if failing.is_none() {
                    log::error!("no records can be written, which is tried again until they can: {reason}");
                }
                *failing = Some((reason, Instant::now()));
            }
        }
    }
}

fn lock(failing: &Failing) -> std::sync::MutexGuard<'_, Option<(String, Instant)>> {
    failing.lock().unwrap_or_else(PoisonError::into_inner)
}
