use std::{sync::Arc, thread};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Change, StoreError, Table, redb::Records};

/// How many sets of changes may wait for the disk before those who make them wait for a place.
const WAITING: usize = 1024;

/// How many sets go to the disk together.
const TOGETHER: usize = 256;

/// Changes that belong together.
pub(super) struct Set {
    pub(super) changes: Vec<Change>,
    /// They are made only where there is no such record.
    pub(super) unless: Option<(Table, String)>,
    done: oneshot::Sender<Result<Option<Bytes>, StoreError>>,
}

/// Writes records on a thread of its own. What comes while the disk is busy is written together.
#[derive(Clone)]
pub(super) struct Writer {
    sets: mpsc::Sender<Set>,
}

impl Writer {
    pub(super) fn start(records: Arc<Records>) -> std::io::Result<Self> {
        let (sets, mut waiting) = mpsc::channel(WAITING);
        let write = move || {
            let mut batch = Vec::with_capacity(TOGETHER);
            while waiting.blocking_recv_many(&mut batch, TOGETHER) > 0 {
                write(&records, std::mem::replace(&mut batch, Vec::with_capacity(TOGETHER)));
            }
        };
        thread::Builder::new().name("wsfleet-store".to_owned()).spawn(write)?;
        Ok(Self { sets })
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

fn write(records: &Records, batch: Vec<Set>) {
    let written = records.write(&batch.iter().collect::<Vec<_>>());
    let answers: Vec<Result<Option<Bytes>, StoreError>> = match written {
        Ok(present) => present.into_iter().map(Ok).collect(),
        Err(error) => {
            log::error!("{error}");
            batch.iter().map(|_| Err(StoreError::Database(error.to_string()))).collect()
        }
    };
    for (set, answer) in batch.into_iter().zip(answers) {
        // Who has gone meanwhile needs no answer.
        let _ = set.done.send(answer);
    }
}
