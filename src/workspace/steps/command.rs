use std::{future::Future, rc::Rc};

use futures::channel::oneshot;
use tokio_util::sync::CancellationToken;

use super::{start, stop};
use crate::{
    CommandResult, ErrorKind, Failure,
    messages::{CommandEvent, CommandOutput, Execute, ExecuteCommand, HoldUntil, Spec},
    protocol::EventId,
    workspace::{
        core::Core,
        feed,
        step_queue::{Permit, Refused},
        superseded::is_superseded,
        watch::{Assembly, CommandWatch, Progress, Started, Watching},
    },
};

/// Runs a command to its end.
pub(crate) async fn execute(
    core: Rc<Core>,
    place: Result<impl Future<Output = Result<Permit, Refused>>, Refused>,
    execute: Execute,
) -> Result<CommandResult, Failure> {
    let Execute { command, caller, events, follow_output } = execute;
    let mut permit = Some(core.turn(place, Some(&caller)).await?);
    loop {
        let started = start::start(&core, &command).await?;
        if let Some(events) = &events {
            // A follower that has gone is noticed by its token.
            let _ = events.send(CommandEvent::Started { command_id: started.id }).await;
        }
        let may_be_superseded = started.may_be_superseded;
        if command.hold_until == HoldUntil::Started && !may_be_superseded {
            permit = None;
        }
        let watching = Watching {
            caller: caller.clone(),
            on_drop: command.on_drop,
            events: events.clone().filter(|_| follow_output),
        };
        let result = watch(&core, &command, started, watching).await?;
        if may_be_superseded && is_superseded(result.raw_exit_code, &result.stderr) {
            continue;
        }
        drop(permit);
        return Ok(result);
    }
}

async fn watch(
    core: &Rc<Core>,
    command: &ExecuteCommand,
    started: Started,
    watching: Watching,
) -> Result<CommandResult, Failure> {
    let spec = Spec { command: command.command.clone(), timeout: command.timeout, max_output: command.max_output };
    let id = started.id;
    let result = CommandWatch::spawn(core, spec, started, watching).await;
    result.unwrap_or_else(|oneshot::Canceled| {
        let reason = "the actor that watched it ended unexpectedly".to_owned();
        Err(Failure::done(ErrorKind::OutcomeUnknown { reason, command_id: Some(id) }))
    })
}

/// Starts a command that nobody watches; its time is still held to.
pub(crate) async fn start_detached(
    core: Rc<Core>,
    place: Result<impl Future<Output = Result<Permit, Refused>>, Refused>,
    command: ExecuteCommand,
) -> Result<EventId, Failure> {
    let _permit = core.turn(place, None).await?;
    let started = start::start(&core, &command).await?;
    let id = started.id;
    if let Some(timeout) = command.timeout {
        actix_rt::spawn(stop::guard(core.clone(), started, timeout));
    }
    Ok(id)
}

/// Reads what a command has written so far.
pub(crate) async fn output(core: &Rc<Core>, id: EventId) -> Result<CommandOutput, Failure> {
    let client = core.client()?;
    let mut tries = 0;
    loop {
        let mut assembly = Assembly::default();
        feed::read_all(&client, id, |event| assembly.add(event)).await?;
        let mut output = CommandOutput { stdout: String::new(), stderr: String::new(), exit_code: None };
        while let Some(event) = assembly.release() {
            output.stdout.push_str(event.stdout.as_deref().unwrap_or_default());
            output.stderr.push_str(event.stderr.as_deref().unwrap_or_default());
        }
        match assembly.progress() {
            Progress::Running if assembly.newest().is_none() => {
                // Without any output the command may also be one that the server does not know.
                client.bash_event(id).await?;
                return Ok(output);
            }
            Progress::Running => return Ok(output),
            Progress::Complete { exit_code } => return Ok(CommandOutput { exit_code: Some(exit_code), ..output }),
            Progress::Short { .. } if tries < 3 => {
                tries += 1;
                actix_rt::time::sleep(std::time::Duration::from_millis(50) * tries).await;
            }
            Progress::Short { have, want } => {
                return Err(Failure::protocol(format!(
                    "the output is incomplete: {have} of {want} parts could be read"
                )));
            }
            Progress::Contradiction(reason) => return Err(Failure::protocol(reason)),
        }
    }
}

/// A caller that never goes.
pub(crate) fn no_caller() -> CancellationToken {
    CancellationToken::new()
}
