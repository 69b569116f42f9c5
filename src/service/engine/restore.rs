//! Going on where an earlier process was. What is known is there before the service answers; what has to be asked of
//! workspaces is asked in the background.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::ExposeSecret as _;
use tokio::sync::OwnedSemaphorePermit;

use super::{CommandHandle, Engine, EngineError, RunFollowed, lock, output::stream_bytes};
use crate::{
    CommandResult, CommandStream, ErrorKind, Failure, Operation, WorkspaceError,
    messages::{AttachCommand, ExecuteCommand, Stdin},
    protocol::EventId,
    service::{
        StoreError,
        store::{Change, CommandRecord, CommandState, Order, RunRecord, Table, Unfinished},
    },
};

/// How many commands are taken up at once.
pub(super) const AT_ONCE: usize = 128;

/// How long one that is being taken up holds up others; it goes on after that.
const HOLDS_UP: Duration = Duration::from_secs(2);

/// How long a workspace that does not answer is asked for a command that ran when the service ended.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long to wait before it is asked again, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// How many records are read at once.
const PAGE: usize = 1000;

impl Engine {
    /// Takes up everything again that has not ended.
    pub(super) async fn restore_work(self: &Arc<Self>) -> Result<(), EngineError> {
        let mut from = None;
        loop {
            let page = self.store.list(Table::Unfinished, from.as_deref(), Order::Ascending, PAGE)?;
            for (key, kind) in &page {
                let restored = match Table::Unfinished.read(key, kind) {
                    Ok(Unfinished::Command) => self.restore_command(key).await,
                    Ok(Unfinished::Run) => self.restore_run(key).await,
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = restored {
                    // One record that cannot be read is no reason to leave all others.
                    log::error!("{key} cannot be gone on with: {error}");
                    if matches!(error, EngineError::Store(StoreError::Damaged { .. })) {
                        // Nor will the next service be able to: what cannot be read is listed nowhere, and is removed by its age.
                        self.store.commit(vec![Change::Remove(Table::Unfinished, key.clone())]).await?;
                    }
                }
            }
            match page.into_iter().next_back() {
                Some((key, _)) => from = Some(key),
                None => return Ok(()),
            }
        }
    }

    async fn restore_command(self: &Arc<Self>, key: &str) -> Result<(), EngineError> {
        let Some(bytes) = self.store.get(Table::Commands, key)? else {
            return Ok(self.store.commit(vec![Change::Remove(Table::Unfinished, key.to_owned())]).await?);
        };
        let record: CommandRecord = Table::Commands.read(key, &bytes)?;
        let workspace = match self.workspace(&record.workspace).await {
            Ok(workspace) => workspace,
            Err(_) => return self.leave_behind(record, "the service does not have its workspace any more").await,
        };
        let log = match self.logs.writable(record.id) {
            Ok(log) => log,
            Err(error) => {
                return self.leave_behind(record, &format!("its output cannot be gone on with: {error}")).await;
            }
        };
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        let handle = Arc::new(CommandHandle::new(record, log, workspace, place));
        lock(&self.commands).insert(handle.record().id, Arc::clone(&handle));
        let engine = Arc::clone(self);
        self.spawn(async move {
            tokio::select! {
                () = engine.take_up(&handle) => {}
                () = engine.ending.cancelled() => {}
            }
        });
        Ok(())
    }

    /// Writes down that nobody can tell what became of a command.
    async fn leave_behind(&self, mut record: CommandRecord, reason: &str) -> Result<(), EngineError> {
        let error = unknown(&record, reason.to_owned());
        record.end(Err(error));
        let put = Table::Commands.put(record.id, &record);
        self.kept.add(put.size() + self.logs.size(record.id));
        Ok(self.store.commit(vec![put, Change::Remove(Table::Unfinished, record.id.to_string())]).await?)
    }

    async fn restore_run(self: &Arc<Self>, key: &str) -> Result<(), EngineError> {
        let Some(bytes) = self.store.get(Table::Runs, key)? else {
            return Ok(self.store.commit(vec![Change::Remove(Table::Unfinished, key.to_owned())]).await?);
        };
        let record: RunRecord = Table::Runs.read(key, &bytes)?;
        let id = record.id;
        let log = match self.logs.writable(id) {
            Ok(log) => log,
            Err(error) => return self.leave_run(record, &format!("its events cannot be gone on with: {error}")).await,
        };
        let batches = self.batches(id)?.len() as u64;
        let run = Arc::new(RunFollowed::new(record, log, batches));
        lock(&self.runs).insert(id, Arc::clone(&run));
        let engine = Arc::clone(self);
        self.spawn(async move { engine.take_up_run(run).await });
        Ok(())
    }

    /// Writes down that a run could not be gone on with.
    async fn leave_run(&self, mut record: RunRecord, reason: &str) -> Result<(), EngineError> {
        record.end(None, Some(reason.to_owned()));
        let put = Table::Runs.put(record.id, &record);
        self.kept.add(put.size() + self.logs.size(record.id));
        Ok(self.store.commit(vec![put, Change::Remove(Table::Unfinished, record.id.to_string())]).await?)
    }

    async fn take_up(&self, handle: &CommandHandle) {
        // Nobody closes it.
        let turn = Arc::clone(&self.taking_up).acquire_owned().await.ok();
        let ended = match handle.record().state {
            CommandState::Starting => self.resume(handle, turn).await,
            CommandState::Running | CommandState::Finished => self.attach(handle, turn).await,
        };
        if let Some(ended) = ended {
            self.finish(handle, ended).await;
        }
    }

    /// Finds a command that was about to be started, or starts it where it is certain that it never was.
    async fn resume(
        &self,
        handle: &CommandHandle,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Option<Result<CommandResult, WorkspaceError>> {
        let record = handle.record();
        let prepared = self.unsealed(&record).and_then(|command| Ok((command, known(handle)?)));
        let (command, known) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Some(Err(unknown(&record, error.to_string()))),
        };
        let stream = handle.workspace.follow_command(command.with_process_id(record.id).with_resume(true));
        self.follow_in_turn(handle, stream, known, turn).await
    }

    fn unsealed(&self, record: &CommandRecord) -> Result<ExecuteCommand, StoreError> {
        let place = record.id.to_string();
        let mut command = record.command.clone();
        let open = |(name, sealed): (&String, &String)| Ok((name.clone(), self.sealer.open_text(&place, sealed)?));
        command.secret_env = record.sealed_env.iter().map(open).collect::<Result<BTreeMap<_, _>, StoreError>>()?;
        if let Some(sealed) = &record.sealed_stdin {
            let text = self.sealer.open_text(&place, sealed)?;
            let bytes = STANDARD.decode(text.expose_secret());
            let bytes = bytes.map_err(|error| StoreError::Database(error.to_string()))?;
            command.stdin = Some(Stdin::Bytes(bytes.into()));
        }
        Ok(command)
    }

    /// Follows a command from where its log ends.
    async fn attach(
        &self,
        handle: &CommandHandle,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Option<Result<CommandResult, WorkspaceError>> {
        let record = handle.record();
        let command_id = record.command_id.unwrap_or_else(EventId::nil);
        let (give_up, mut wait) = (Instant::now() + PATIENCE, FIRST_WAIT);
        let mut turn = turn;
        loop {
            let [stdout, stderr] = match known(handle) {
                Ok(known) => known,
                Err(error) => return Some(Err(unknown(&record, error.to_string()))),
            };
            let attach = AttachCommand::new(command_id)
                .from_position(stdout, stderr)
                .with_max_output(0)
                .with_timeout(record.command.timeout);
            let stream = handle.workspace.attach(attach);
            match self.follow_in_turn(handle, stream, [0, 0], turn.take()).await? {
                Err(error) if error.kind.is_transient() && Instant::now() + wait < give_up => {
                    log::info!("command {} is asked for again in {wait:?}: {error}", record.id);
                    tokio::time::sleep(wait).await;
                    wait = (2 * wait).min(LONGEST_WAIT);
                }
                Err(error) if matches!(error.kind, ErrorKind::NotFound { .. }) || error.kind.is_transient() => {
                    return Some(Err(unknown(
                        &record,
                        format!("it ran when the service ended, and is lost: {}", error.kind),
                    )));
                }
                ended => return Some(ended),
            }
        }
    }

    /// Follows a command, and gives the turn on when it was found or not, or that takes long.
    async fn follow_in_turn(
        &self,
        handle: &CommandHandle,
        stream: CommandStream,
        known: [u64; 2],
        turn: Option<OwnedSemaphorePermit>,
    ) -> Option<Result<CommandResult, WorkspaceError>> {
        let followed = async {
            let ended = self.follow(handle, stream, known).await;
            handle.taken_up.cancel();
            ended
        };
        let passed_on = async {
            if turn.is_some() {
                let _ = tokio::time::timeout(HOLDS_UP, handle.taken_up.cancelled()).await;
            }
            drop(turn);
        };
        futures::future::join(followed, passed_on).await.0
    }
}

/// How much of its output a command's log has.
fn known(handle: &CommandHandle) -> Result<[u64; 2], StoreError> {
    stream_bytes(handle.log()).map_err(|error| StoreError::Database(format!("its log cannot be read: {error}")))
}

fn unknown(record: &CommandRecord, reason: String) -> WorkspaceError {
    let process_id = Some(record.id);
    let kind = ErrorKind::OutcomeUnknown { reason, command_id: record.command_id, process_id };
    Failure::maybe_sent(kind).on(&record.workspace, Operation::ExecuteCommand)
}
