use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Mutex, OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::{
    Workspace,
    service::{
        StoreError,
        store::{Change, CommandRecord, CommandState, FrameKind, Log, MAX_PAYLOAD, Table},
    },
};

/// How long to wait before something is tried again that the store could not take, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// A command that has not ended yet.
pub(crate) struct CommandHandle {
    /// What is known of it, as it is written down.
    record: watch::Sender<Arc<CommandRecord>>,
    /// One change of the record after another.
    changing: Mutex<()>,
    log: Arc<Log>,
    /// Where it runs.
    pub(super) workspace: Workspace,
    /// Cancelled when it is to be stopped: it is not started any more, or stopped as soon as it has been.
    pub(super) stop: CancellationToken,
    /// Whether some of its output was left out of its log.
    cut: AtomicBool,
    /// Cancelled when a command of an earlier process was found on its workspace, or was not.
    pub(super) taken_up: CancellationToken,
    /// Its place among those that may run at once; those of an earlier process may be more.
    _place: Option<OwnedSemaphorePermit>,
}

impl CommandHandle {
    pub(super) fn new(
        record: CommandRecord,
        log: Arc<Log>,
        workspace: Workspace,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let stop = CancellationToken::new();
        if record.stop_requested {
            stop.cancel();
        }
        Self {
            stop,
            record: watch::Sender::new(Arc::new(record)),
            changing: Mutex::new(()),
            log,
            workspace,
            cut: AtomicBool::new(false),
            taken_up: CancellationToken::new(),
            _place: place,
        }
    }

    /// What is known of it now.
    pub(crate) fn record(&self) -> Arc<CommandRecord> {
        Arc::clone(&self.record.borrow())
    }

    /// Waits until it is in this state or beyond, and returns what is known then.
    pub(crate) async fn reached(&self, state: CommandState) -> Arc<CommandRecord> {
        let mut record = self.record.subscribe();
        let reached = record.wait_for(|record| record.state >= state).await;
        // The sender is in the handle itself.
        reached.map_or_else(|_| self.record(), |record| Arc::clone(&record))
    }

    /// Its output.
    pub(crate) const fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Whether some of its output was left out of its log, which was full.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }
}

impl Engine {
    /// Changes the record of a command, writes it down, and then tells those who wait for it. A store that fails is asked
    /// again until the service ends: the next one then begins with the record that there is.
    pub(super) async fn change_command(
        &self,
        handle: &CommandHandle,
        change: impl FnOnce(&mut CommandRecord),
        with: &[Change],
    ) {
        let _one = handle.changing.lock().await;
        let mut record = CommandRecord::clone(&handle.record());
        change(&mut record);
        let put = Table::Commands.put(record.id, &record);
        let bytes = put.size() + handle.log.end();
        let is_end = record.state == CommandState::Finished;
        let what = async || {
            if is_end {
                self.sync(&handle.log).await?;
            }
            self.store.commit([with, std::slice::from_ref(&put)].concat()).await
        };
        if self.until_stored("the record of a command", what).await {
            if is_end {
                self.kept.add(bytes);
            }
            let record = Arc::new(record);
            self.events.command(&record);
            handle.record.send_replace(record);
        }
    }

    /// Adds output to the log of a command, for as long as there is room in it. So the log has the beginning of what the
    /// command wrote, which the next service goes on from.
    pub(super) async fn append_output(&self, handle: &CommandHandle, kind: FrameKind, payload: Bytes) {
        if handle.log.end() < self.limits.log {
            self.append(&handle.log, kind, payload).await;
        } else if !handle.cut.swap(true, Ordering::SeqCst) {
            self.append(&handle.log, FrameKind::Cut, Bytes::new()).await;
        }
    }

    /// Adds to a log what is no longer than [`MAX_PAYLOAD`]. The output waits on its workspace while the log cannot take it, and
    /// is fetched again by the next service when this one ends meanwhile.
    pub(super) async fn append(&self, log: &Log, kind: FrameKind, payload: Bytes) -> bool {
        debug_assert!(payload.len() <= MAX_PAYLOAD, "what is too long would be tried for ever");
        self.until_stored("a log", || std::future::ready(log.append(kind, payload.clone()).map_err(failed))).await
    }

    /// Brings a log to the disk, before it is written down that nothing more comes: many at once, and without holding up others.
    pub(super) async fn sync(&self, log: &Arc<Log>) -> Result<(), StoreError> {
        let log = Arc::clone(log);
        let synced = self.runtime.spawn_blocking(move || log.sync()).await;
        synced.map_err(|error| StoreError::Database(error.to_string()))?.map_err(failed)
    }

    /// Repeats something until the store has taken it or the service ends. Returns whether it has.
    pub(super) async fn until_stored<F: Future<Output = Result<T, StoreError>>, T>(
        &self,
        what: &str,
        attempt: impl Fn() -> F,
    ) -> bool {
        let mut wait = FIRST_WAIT;
        loop {
            match attempt().await {
                Ok(_) => return true,
                Err(error) => log::error!("{what} cannot be written, and is tried again in {wait:?}: {error}"),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (2 * wait).min(LONGEST_WAIT),
                () = self.ending.cancelled() => return attempt().await.is_ok(),
            }
        }
    }
}

fn failed(error: io::Error) -> StoreError {
    StoreError::Database(error.to_string())
}
