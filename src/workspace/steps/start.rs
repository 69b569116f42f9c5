use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    private::PrivateFolder,
    process_ids::{MAX_SENDS, ProcessIds},
    recover::{Recovered, recover},
    resume::{Resumed, adopt, resume},
};
use tokio_util::sync::CancellationToken;

use crate::{
    CommandResult, Effect, ErrorKind, Failure,
    messages::ExecuteCommand,
    protocol::{BashCommand, CommandHead, EventId, MAX_COMMAND_BYTES, StartBashCommand},
    workspace::{
        core::{Core, count},
        shell,
        watch::{Started, whole_seconds_up},
    },
};

/// The whole seconds that a server is given for a command without a bound: 68 years.
const NO_TIMEOUT: i64 = i32::MAX as i64;

/// How much later than the runtime the server ends a command whose time is up.
const BACKSTOP: i64 = 1;

/// How long a server that is too busy is asked again.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Refuses what cannot work before anything is sent.
pub(super) fn check(command: &ExecuteCommand) -> Result<(), Failure> {
    if command.resume && command.process_id.is_none() {
        return Err(Failure::invalid(
            "a command without a `process_id` cannot be resumed: give the one that it was started with",
        ));
    }
    if command.command.contains('\0') {
        return Err(Failure::invalid("the command contains a NUL character, which no shell takes: remove it"));
    }
    for (name, value) in &command.env {
        check_variable(name, value.contains('\0'))?;
    }
    for (name, value) in &command.secret_env {
        check_variable(name, secrecy::ExposeSecret::expose_secret(value).contains('\0'))?;
    }
    match command.timeout {
        Some(timeout) if timeout.is_zero() => {
            Err(Failure::invalid("a timeout of 0 leaves no time to run: give a longer one, or none for no bound"))
        }
        Some(timeout) if timeout.as_secs() >= NO_TIMEOUT.unsigned_abs() - 2 => Err(Failure::invalid(format!(
            "a timeout of {} s is more than the server can count ({NO_TIMEOUT} s): give a shorter one, or none for no bound",
            timeout.as_secs()
        ))),
        _ => Ok(()),
    }
}

fn check_variable(name: &str, has_nul: bool) -> Result<(), Failure> {
    if !shell::is_variable_name(name) {
        return Err(Failure::invalid(format!(
            "`{name}` is no name of an environment variable: use letters, digits and _, and no digit first"
        )));
    }
    if has_nul {
        return Err(Failure::invalid(format!("the value of variable {name} contains a NUL character: remove it")));
    }
    Ok(())
}

/// A command with everything that it needs in place, ready to be started.
pub(super) struct Prepared {
    pub(super) command: ExecuteCommand,
    /// Made when the command is about to be sent.
    folder: Option<PrivateFolder>,
    ids: ProcessIds,
    /// Cancelled when it is not to be started any more.
    called_off: CancellationToken,
}

impl Prepared {
    pub(super) async fn new(
        core: &Rc<Core>,
        command: ExecuteCommand,
        called_off: CancellationToken,
    ) -> Result<Self, Failure> {
        check(&command)?;
        // The length of the text is known before the private folder is made, but for the folder's name.
        check_length(core, &text(core, &command, "", CommandHead::new(EventId::nil())))?;
        let ids = ProcessIds::new(command.process_id.unwrap_or_else(EventId::random));
        let mut prepared = Self { command, folder: None, ids, called_off };
        if !prepared.command.resume {
            prepared.make_folder(core).await?;
        }
        Ok(prepared)
    }

    async fn make_folder(&mut self, core: &Rc<Core>) -> Result<(), Failure> {
        if self.folder.is_none() && PrivateFolder::is_needed(&self.command) {
            // Boxes around what few commands come to keep the future of all others small.
            let folder = Box::pin(PrivateFolder::for_command(core, &self.command, &self.called_off));
            self.folder = Some(folder.await?);
        }
        Ok(())
    }

    /// Takes the command over that is known to have been started, or that may have been where it says so, or starts it.
    /// Returns whether it was taken over.
    pub(super) async fn resume_or_start(
        &mut self,
        core: &Rc<Core>,
        known: Option<EventId>,
        caller: &CancellationToken,
    ) -> Result<(Started, bool), Failure> {
        if let Some(command_id) = known {
            return Ok((Box::pin(adopt(core, self.ids, command_id, caller)).await?, true));
        }
        if self.command.resume
            && let Some(started) = Box::pin(self.resume(core, caller)).await?
        {
            return Ok((started, true));
        }
        Ok((self.start(core, caller).await?, false))
    }

    /// Takes the command over that another process may have started; `None` when none has, and never will.
    async fn resume(&mut self, core: &Rc<Core>, caller: &CancellationToken) -> Result<Option<Started>, Failure> {
        match resume(core, self.ids, caller).await? {
            Resumed::Found(started) => Ok(Some(started)),
            Resumed::NeverStarted(ids) => {
                self.ids = ids;
                self.command.resume = false;
                self.check_wanted()?;
                self.make_folder(core).await?;
                Ok(None)
            }
        }
    }

    fn check_wanted(&self) -> Result<(), Failure> {
        if self.called_off.is_cancelled() {
            let reason = "the caller gave up, and it had not been started before".to_owned();
            return Err(Failure::not_sent(ErrorKind::Stopped { reason }));
        }
        Ok(())
    }

    /// Starts the command exactly once, whatever happens to the requests.
    async fn start(&mut self, core: &Rc<Core>, caller: &CancellationToken) -> Result<Started, Failure> {
        let result = self.send_until_known(core, caller).await;
        if let (Err(failure), Some(folder)) = (&result, &self.folder)
            && failure.effect == Effect::NotSent
        {
            folder.remove_later(core);
        }
        result
    }

    /// Removes what only the command itself would have removed, if it may not have come to that: its shell may never
    /// have run, or not far enough, or what was sent again may have come after it. Nobody waits for that.
    pub(super) fn clean_up(&self, core: &Rc<Core>, result: &Result<CommandResult, Failure>) {
        let ran = result.as_ref().is_ok_and(|result| result.raw_exit_code == Some(0));
        if matches!(result, Err(Failure { kind: ErrorKind::Stopped { .. }, .. })) {
            // It was let go and runs on: it may not have read the folder yet, and removes it itself.
            return;
        }
        if let Some(folder) = &self.folder
            && (!ran || folder.may_come_again())
        {
            folder.remove_later(core);
        }
    }

    async fn send_until_known(&mut self, core: &Rc<Core>, caller: &CancellationToken) -> Result<Started, Failure> {
        let prelude = self.folder.as_ref().map(PrivateFolder::prelude).unwrap_or_default();
        let mut sends = 0;
        loop {
            self.check_wanted()?;
            sends += 1;
            let head = CommandHead::new(self.ids.next());
            let text = text(core, &self.command, &prelude, head);
            check_length(core, &text)?;
            let asked = Instant::now();
            let failure = match send(core, &self.command, text, head, &self.called_off).await {
                Ok(answer) => return Ok(started(core, &answer, head, Some(asked.elapsed()), false)),
                Err(failure) if failure.effect == Effect::NotSent => return Err(failure),
                Err(failure) => failure,
            };
            if !core.config.command_head {
                let reason = format!("the answer to its start was lost ({failure}) and it has no head to find it by");
                let kind = ErrorKind::OutcomeUnknown { reason, command_id: None, process_id: None };
                return Err(Failure::maybe_sent(kind));
            }
            log::info!("{}: the answer to a start was lost ({failure}); looking for the command", core.config.name);
            match Box::pin(recover(core, head, asked, &failure, caller)).await? {
                Recovered::Found { command, forbidden } => {
                    count(&core.counters.starts_recovered);
                    return Ok(started(core, &command, head, None, forbidden));
                }
                Recovered::NeverRuns if sends >= MAX_SENDS => return Err(Failure::not_sent(failure.kind)),
                Recovered::NeverRuns => count(&core.counters.starts_recovered),
            }
        }
    }
}

fn started(
    core: &Core,
    answer: &BashCommand,
    head: CommandHead,
    round_trip: Option<Duration>,
    may_be_superseded: bool,
) -> Started {
    Started {
        id: answer.id,
        head: core.config.command_head.then_some(head),
        at: Instant::now(),
        server_time: answer.timestamp,
        round_trip,
        instance: answer.instance_id.clone(),
        may_be_superseded,
    }
}

/// Sends a start; a server that says it is too busy is asked again for a while.
async fn send(
    core: &Rc<Core>,
    command: &ExecuteCommand,
    text: String,
    head: CommandHead,
    called_off: &CancellationToken,
) -> Result<BashCommand, Failure> {
    let bound = |timeout| whole_seconds_up(timeout).as_secs().cast_signed() + BACKSTOP;
    let timeout = command.server_timeout.unwrap_or_else(|| command.timeout.map_or(NO_TIMEOUT, bound));
    let cwd = command.cwd.clone().or_else(|| core.config.default_cwd.clone());
    let body = StartBashCommand { command: text, cwd, timeout };
    let give_up = Instant::now() + BUSY_PATIENCE;
    loop {
        let failure = match core.client()?.start_bash_command(&body, Some(head.id())).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let wait = match &failure {
            Failure {
                kind: ErrorKind::ServerError { status: 408 | 429 | 503, retry_after, .. },
                effect: Effect::NotSent,
            } => retry_after.unwrap_or(BUSY_WAIT).mul_f64(1.0 + fastrand::f64() / 4.0),
            _ => return Err(failure),
        };
        if Instant::now() + wait > give_up {
            return Err(failure);
        }
        tokio::select! {
            () = actix_rt::time::sleep(wait) => {}
            () = called_off.cancelled() => {
                let reason = format!("the caller gave up while the server was busy ({failure})");
                return Err(Failure::not_sent(ErrorKind::Stopped { reason }));
            }
            () = core.closing.cancelled() => return Err(failure),
        }
    }
}

/// The whole text that the sandbox's shell gets, on as few lines as the command itself has.
fn text(core: &Core, command: &ExecuteCommand, prelude: &str, head: CommandHead) -> String {
    let mut text = if core.config.command_head { head.to_string() } else { String::new() };
    for (name, value) in &command.env {
        text.push_str(&shell::export(name, value));
    }
    text.push_str(prelude);
    text.push_str(&command.command);
    text
}

fn check_length(core: &Core, text: &str) -> Result<(), Failure> {
    if text.len() <= MAX_COMMAND_BYTES {
        return Ok(());
    }
    let head = if core.config.command_head { "the runtime's head and the variables included, " } else { "" };
    Err(Failure::invalid(format!(
        "the command is {} bytes long, {head}and the sandbox's shell takes at most {MAX_COMMAND_BYTES}: \
         upload it as a file and run that, or send the data through stdin",
        text.len()
    )))
}
