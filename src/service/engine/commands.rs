use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Engine, EngineError, new_id};
use crate::{
    CommandResult, CommandStream, Outcome, OutputStream, Workspace, WorkspaceError,
    messages::{AttachCommand, CommandEvent, ExecuteCommand, OnDrop, Stdin},
    protocol::EventId,
    service::{
        StoreError,
        store::{Change, CommandRecord, CommandState, FrameKind, Log, Table},
    },
};

/// A command that is to be started.
pub(crate) struct StartRequest {
    /// Where.
    pub(crate) workspace: String,
    /// What. Its `on_drop`, `max_output` and ids are the service's.
    pub(crate) command: ExecuteCommand,
}

/// A command that has not ended yet.
pub(crate) struct CommandHandle {
    /// What is known of it, as it is written down.
    record: watch::Sender<Arc<CommandRecord>>,
    log: Arc<Log>,
    /// Cancelled when somebody wants it stopped.
    stop: CancellationToken,
}

impl CommandHandle {
    /// What is known of it now.
    pub(crate) fn record(&self) -> Arc<CommandRecord> {
        Arc::clone(&self.record.borrow())
    }

    /// Waits until it is in this state or beyond, and returns what is known then.
    pub(crate) async fn reached(&self, state: CommandState) -> Arc<CommandRecord> {
        let mut record = self.record.subscribe();
        let reached = record.wait_for(|record| record.state as u8 >= state as u8).await;
        // The sender is in the handle itself.
        reached.map_or_else(|_| self.record(), |record| Arc::clone(&record))
    }

    /// Its output.
    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }
}

impl Engine {
    /// Writes a command down and begins to start it. Other records can be written with it.
    pub(crate) async fn start_command(
        self: &Arc<Self>,
        request: StartRequest,
        with: Vec<Change>,
    ) -> Result<Arc<CommandHandle>, EngineError> {
        if self.ending.is_cancelled() {
            return Err(EngineError::Ending);
        }
        let workspace = self.workspace(&request.workspace).await?;
        let (record, command) = self.record(request)?;
        let id = record.id;
        let log = self.logs.writable(id)?;
        let mut changes = with;
        changes.push(Table::Commands.put(id, &record));
        self.store.commit(changes).await?;
        let stream = workspace.follow_command(command);
        Ok(self.watch(record, log, stream, &workspace))
    }

    /// The record of a command, and the command as the workspace gets it.
    fn record(&self, request: StartRequest) -> Result<(CommandRecord, ExecuteCommand), EngineError> {
        let StartRequest { workspace, mut command } = request;
        let id = new_id();
        let place = id.to_string();
        command.on_drop = OnDrop::Detach;
        // The output is in the log.
        command.max_output = 0;
        let mut stored = command.clone();
        let secrets = std::mem::take(&mut stored.secret_env);
        let seal = |(name, value): (String, SecretString)| Ok((name, self.sealer.seal(&place, &value)?));
        let sealed_env = secrets.into_iter().map(seal).collect::<Result<BTreeMap<_, _>, StoreError>>()?;
        let sealed_stdin = match stored.stdin.take() {
            None => None,
            Some(Stdin::Bytes(bytes)) => Some(self.sealer.seal(&place, &STANDARD.encode(bytes).into())?),
            Some(Stdin::Path(_)) => {
                return Err(EngineError::Invalid(
                    "stdin comes from the request and not from a file of the service".into(),
                ));
            }
        };
        let record = CommandRecord {
            id,
            workspace,
            command: stored,
            sealed_env,
            sealed_stdin,
            state: CommandState::Starting,
            created: Timestamp::now(),
            started: None,
            ended: None,
            command_id: None,
            outcome: None,
            result: None,
            error: None,
        };
        Ok((record, command))
    }

    /// Follows a command to its end in the background.
    pub(super) fn watch(
        self: &Arc<Self>,
        record: CommandRecord,
        log: Arc<Log>,
        stream: CommandStream,
        workspace: &Workspace,
    ) -> Arc<CommandHandle> {
        let handle = Arc::new(CommandHandle {
            record: watch::Sender::new(Arc::new(record)),
            log,
            stop: CancellationToken::new(),
        });
        lock(&self.commands).insert(handle.record().id, Arc::clone(&handle));
        self.events.command(&handle.record());
        let (engine, workspace, watched) = (Arc::clone(self), workspace.clone(), Arc::clone(&handle));
        self.spawn(async move { engine.follow(watched, stream, workspace).await });
        handle
    }

    async fn follow(self: Arc<Self>, handle: Arc<CommandHandle>, mut stream: CommandStream, workspace: Workspace) {
        let mut stopping = false;
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    Some(event) => self.note(&handle, event).await,
                    None => break,
                },
                // Let go of, to be taken up again by the next process.
                () = self.ending.cancelled() => return,
                () = handle.stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.stop(&handle, &workspace);
                }
            }
        }
        let ended = stream.result().await;
        if !self.ending.is_cancelled() {
            self.finish(&handle, ended).await;
        }
    }

    async fn note(&self, handle: &CommandHandle, event: CommandEvent) {
        match event {
            CommandEvent::Started { command_id } => {
                let mut record = CommandRecord::clone(&handle.record());
                if record.state == CommandState::Starting {
                    record.state = CommandState::Running;
                    record.started = Some(Timestamp::now());
                    record.command_id = Some(command_id);
                    record.sealed_env.clear();
                    record.sealed_stdin = None;
                    self.write_down(handle, record, Vec::new()).await;
                }
            }
            CommandEvent::Output { stream, text } => {
                let kind = match stream {
                    OutputStream::Stdout => FrameKind::Stdout,
                    OutputStream::Stderr => FrameKind::Stderr,
                };
                if let Err(error) = handle.log.append(kind, Bytes::from(text)) {
                    log::error!("output of command {} is lost: {error}", handle.record().id);
                }
            }
        }
    }

    fn stop(&self, handle: &CommandHandle, workspace: &Workspace) {
        // Its end is told by the stream, with the last of its output.
        if let Some(command_id) = handle.record().command_id {
            let stopped = workspace.stop_command(command_id);
            self.spawn(async move {
                if let Err(error) = stopped.await {
                    log::info!("{error}");
                }
            });
        }
    }

    async fn finish(&self, handle: &CommandHandle, ended: Result<CommandResult, WorkspaceError>) {
        let mut record = CommandRecord::clone(&handle.record());
        record.state = CommandState::Finished;
        record.ended = Some(Timestamp::now());
        record.sealed_env.clear();
        record.sealed_stdin = None;
        match ended {
            Ok(mut result) => {
                record.outcome = Some(Outcome::from(&result));
                // Nothing was kept of it here, and nothing is missing in the log.
                (result.stdout, result.stderr, result.truncated) = Default::default();
                record.result = Some(result);
            }
            Err(error) => {
                record.outcome = Some(Outcome::from(&error.kind));
                record.error = Some(error);
            }
        }
        let id = record.id;
        self.write_down(handle, record, Vec::new()).await;
        handle.log.finish();
        lock(&self.commands).remove(&id);
    }

    /// Writes a record, and tells those who wait for it.
    async fn write_down(&self, handle: &CommandHandle, record: CommandRecord, with: Vec<Change>) {
        let mut changes = with;
        changes.push(Table::Commands.put(record.id, &record));
        if let Err(error) = self.store.commit(changes).await {
            log::error!("command {} cannot be written down: {error}", record.id);
        }
        let record = Arc::new(record);
        self.events.command(&record);
        handle.record.send_replace(record);
    }

    /// The command of this id, whether it has ended or not.
    pub(crate) fn command(&self, id: EventId) -> Result<Arc<CommandRecord>, EngineError> {
        if let Some(handle) = self.running_command(id) {
            return Ok(handle.record());
        }
        let key = id.to_string();
        let found = self.store.get(Table::Commands, &key)?;
        let bytes = found.ok_or_else(|| EngineError::NotFound { what: "command", name: key.clone() })?;
        Ok(Arc::new(Table::Commands.read(&key, &bytes)?))
    }

    /// The command of this id, if it has not ended.
    pub(crate) fn running_command(&self, id: EventId) -> Option<Arc<CommandHandle>> {
        lock(&self.commands).get(&id).cloned()
    }

    /// The output of a command.
    pub(crate) fn output(&self, id: EventId) -> Result<Arc<Log>, EngineError> {
        if let Some(handle) = self.running_command(id) {
            return Ok(Arc::clone(handle.log()));
        }
        self.command(id)?;
        let found = self.logs.readable(id)?;
        found.ok_or_else(|| EngineError::NotFound { what: "output of command", name: id.to_string() })
    }

    /// Asks for a command to be stopped; nothing where it has ended.
    pub(crate) fn stop_command(&self, id: EventId) -> Result<Arc<CommandRecord>, EngineError> {
        if let Some(handle) = self.running_command(id) {
            handle.stop.cancel();
        }
        self.command(id)
    }

    /// Takes up a command again that was being followed when an earlier process ended.
    pub(super) fn attach(
        self: &Arc<Self>,
        record: CommandRecord,
        log: Arc<Log>,
        workspace: &Workspace,
        from: (u64, u64),
    ) {
        let Some(command_id) = record.command_id else { return };
        let attach = AttachCommand::new(command_id).from_position(from.0, from.1).with_max_output(0);
        let stream = workspace.attach(attach);
        self.watch(record, log, stream, workspace);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
