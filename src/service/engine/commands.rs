use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use secrecy::SecretString;

use super::{Claim, CommandHandle, Engine, EngineError, Made, lock, new_id};
use crate::{
    CommandResult, CommandStream, OutputStream, WorkspaceError,
    messages::{CommandEvent, ExecuteCommand, OnDrop, Stdin},
    protocol::EventId,
    service::{
        StoreError,
        store::{Change, CommandRecord, CommandState, FrameKind, Table, Unfinished},
    },
};

/// A command that is to be started.
pub(crate) struct StartRequest {
    /// Where.
    pub(crate) workspace: String,
    /// What. Its `on_drop`, `max_output` and ids are the service's.
    pub(crate) command: ExecuteCommand,
    /// The lease under which it runs.
    pub(crate) lease: Option<EventId>,
}

/// A command that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    /// Its id.
    pub(crate) id: EventId,
    /// Whether this request made it, and not an earlier one with the same key.
    pub(crate) is_new: bool,
}

/// Where a command of the service is.
pub(crate) fn command_location(id: EventId) -> String {
    format!("{LOCATION}{id}")
}

const LOCATION: &str = "/v1/commands/";

impl Engine {
    /// Writes a command down and begins to start it, also when nobody waits for that any more. With a claim it is started
    /// once, however often this is asked for.
    pub(crate) async fn start_command(
        self: &Arc<Self>,
        request: StartRequest,
        claim: Option<Claim>,
    ) -> Result<Started, EngineError> {
        let engine = Arc::clone(self);
        let claimed = claim.clone();
        match self.once(claim, async move { engine.begin_command(request, claimed.as_ref()).await }).await? {
            Made::New(id) => Ok(Started { id, is_new: true }),
            Made::Before(location) => {
                let id = location.strip_prefix(LOCATION).and_then(|id| id.parse().ok());
                let id = id.ok_or(EngineError::KeyReused)?;
                Ok(Started { id, is_new: false })
            }
        }
    }

    async fn begin_command(
        self: &Arc<Self>,
        request: StartRequest,
        claim: Option<&Claim>,
    ) -> Result<EventId, EngineError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            EngineError::Overloaded(format!(
                "{} commands run already, and no more may at once: wait until some have ended, or start the service with a \
                 larger --max-commands",
                self.limits.commands
            ))
        })?;
        let workspace = match request.lease {
            Some(lease) => self.leased(lease, &request.workspace)?,
            None => self.workspace(&request.workspace).await?,
        };
        let (record, command) = self.new_record(request)?;
        let id = record.id;
        let log = self.logs.writable(id)?;
        let written = self
            .commit_claimed(
                claim,
                &command_location(id),
                vec![Table::Commands.put(id, &record), Table::Unfinished.put(id, &Unfinished::Command)],
            )
            .await;
        if let Err(error) = written {
            drop(log);
            self.logs.remove(id);
            return Err(error);
        }
        let stream = workspace.follow_command(command);
        let handle = Arc::new(CommandHandle::new(record, log, workspace, Some(place)));
        self.watch(handle, stream, [0, 0]);
        Ok(id)
    }

    /// The record of a command, and the command as the workspace gets it.
    fn new_record(&self, request: StartRequest) -> Result<(CommandRecord, ExecuteCommand), EngineError> {
        let StartRequest { workspace, mut command, lease: _ } = request;
        let id = new_id();
        let place = id.to_string();
        command.on_drop = OnDrop::Detach;
        // So it is found again by the next service, also when the answer to its start never came.
        command.process_id = Some(id);
        command.resume = false;
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
            stop_requested: false,
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

    /// Follows a command to its end in the background. So many bytes of its two streams are in its log already.
    pub(super) fn watch(self: &Arc<Self>, handle: Arc<CommandHandle>, stream: CommandStream, known: [u64; 2]) {
        lock(&self.commands).insert(handle.record().id, Arc::clone(&handle));
        self.events.command(&handle.record());
        let engine = Arc::clone(self);
        self.spawn(async move {
            if let Some(ended) = engine.follow(&handle, stream, known).await {
                engine.finish(&handle, ended).await;
            }
        });
    }

    /// Follows a command, and returns how it ended; `None` when the service ended before it.
    pub(super) async fn follow(
        &self,
        handle: &CommandHandle,
        mut stream: CommandStream,
        mut known: [u64; 2],
    ) -> Option<Result<CommandResult, WorkspaceError>> {
        let mut is_called_off = false;
        loop {
            tokio::select! {
                () = handle.stop.cancelled(), if !is_called_off => {
                    stream.call_off();
                    is_called_off = true;
                }
                event = stream.next() => match event {
                    Some(CommandEvent::Started { command_id }) => self.note_start(handle, command_id).await,
                    Some(CommandEvent::Output { stream, text }) => self.note_output(handle, stream, text, &mut known).await,
                    None => break,
                },
                // Let go of, to be taken up again by the next service.
                () = self.ending.cancelled() => return None,
            }
        }
        let ended = stream.result().await;
        (!self.ending.is_cancelled()).then_some(ended)
    }

    async fn note_start(&self, handle: &CommandHandle, command_id: EventId) {
        handle.taken_up.cancel();
        let started = |record: &mut CommandRecord| {
            record.state = CommandState::Running;
            record.started.get_or_insert_with(Timestamp::now);
            // One whose start was called off has another id when it is started again.
            record.command_id = Some(command_id);
            record.forget_secrets();
        };
        if handle.record().command_id != Some(command_id) {
            self.change_command(handle, started, &[]).await;
            self.metrics.command_started(&handle.record());
        }
        if handle.stop.is_cancelled() {
            let stopped = handle.workspace.stop_command(command_id);
            self.spawn(async move {
                if let Err(error) = stopped.await {
                    log::warn!("{error}");
                }
            });
        }
    }

    async fn note_output(&self, handle: &CommandHandle, stream: OutputStream, text: String, known: &mut [u64; 2]) {
        let (kind, known) = match stream {
            OutputStream::Stdout => (FrameKind::Stdout, &mut known[0]),
            OutputStream::Stderr => (FrameKind::Stderr, &mut known[1]),
        };
        let text = Bytes::from(text);
        let again = usize::try_from(*known).unwrap_or(usize::MAX).min(text.len());
        *known -= again as u64;
        if again < text.len() {
            self.append_output(handle, kind, text.slice(again..)).await;
        }
    }

    /// Writes down how a command ended.
    pub(super) async fn finish(&self, handle: &CommandHandle, ended: Result<CommandResult, WorkspaceError>) {
        let is_cut = handle.is_cut();
        let finished = |record: &mut CommandRecord| {
            record.end(ended.map(|result| CommandResult {
                // Of one that was taken up again its server tells with what the runtime had put before it.
                command: record.command.command.clone(),
                // Nothing was kept of it here: the output is in the log, all of it that has room there.
                stdout: String::new(),
                stderr: String::new(),
                truncated: is_cut,
                ..result
            }));
        };
        let id = handle.record().id;
        self.change_command(handle, finished, &[Change::Remove(Table::Unfinished, id.to_string())]).await;
        self.metrics.command_ended(&handle.record());
        handle.log().finish();
        lock(&self.commands).remove(&id);
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

    /// Waits until a command is in this state or beyond, or so much time has gone by, and returns what is known of it then.
    pub(crate) async fn reached(
        &self,
        id: EventId,
        state: CommandState,
        within: Duration,
    ) -> Result<Arc<CommandRecord>, EngineError> {
        if let Some(handle) = self.running_command(id) {
            tokio::select! {
                record = handle.reached(state) => return Ok(record),
                () = tokio::time::sleep(within) => {}
                () = self.ending.cancelled() => {}
            }
        }
        self.command(id)
    }

    /// Stops a command, or sees to it that it is stopped once it has started, also by the next service. A command that has
    /// ended is left as it is.
    pub(crate) async fn stop_command(&self, id: EventId) -> Result<Arc<CommandRecord>, EngineError> {
        if let Some(handle) = self.running_command(id) {
            if !handle.record().stop_requested {
                self.change_command(&handle, |record| record.stop_requested = true, &[]).await;
            }
            handle.stop.cancel();
            if let Some(command_id) = handle.record().command_id {
                handle.workspace.stop_command(command_id).await?;
            }
        }
        self.command(id)
    }
}
