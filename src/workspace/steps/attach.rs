use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use super::helper;
use crate::{
    CommandResult, ErrorKind, Failure,
    messages::{Attach, AttachCommand, CommandEvent, Spec},
    protocol::{BashCommand, BashEvent, CommandHead, EventId},
    workspace::{
        attendant,
        backoff::Retry,
        core::Core,
        feed,
        watch::{CommandWatch, Started, Watching},
    },
};

/// Follows a command that was started before, by whomever.
pub(crate) async fn attach(core: &Rc<Core>, message: Attach) -> Result<CommandResult, Failure> {
    let Attach { attach, caller, events, follow_output, told } = message;
    let retry = Retry::for_caller(core, &caller);
    let command = find(core, &retry, attach.command_id).await?;
    let has_ended = async || feed::last_output(&core.client()?, command.id).await;
    let has_ended = retry.until_answered(has_ended).await?.is_some_and(|last| last.is_final());
    let at = if has_ended { Instant::now() } else { began(core, &retry, &command).await? };
    if core.closing.is_cancelled() {
        return Err(core.record.refusal());
    }
    if let Some(events) = &events {
        // A follower that has gone is noticed by its token.
        let _ = events.send(CommandEvent::Started { command_id: command.id }).await;
    }
    let AttachCommand { stdout_from, stderr_from, max_output, timeout, on_drop, .. } = attach;
    let (head, text) = match CommandHead::strip(&command.command) {
        Some((head, text)) => (Some(head), text),
        None => (None, command.command.as_str()),
    };
    let watching = Watching {
        caller,
        on_drop,
        follow_output,
        events,
        outlives: on_drop == crate::messages::OnDrop::Detach,
        from: Some([stdout_from, stderr_from]),
        is_own: false,
        told,
    };
    let spec = Spec { command: text.to_owned(), timeout, max_output };
    let started = Started {
        id: command.id,
        head,
        at,
        server_time: command.timestamp,
        round_trip: None,
        may_be_superseded: false,
        instance: None,
    };
    let mut result = CommandWatch::spawn(core, spec, started, watching);
    let look = async {
        if !has_ended {
            attendant::look_at_attached(core).await;
        }
    };
    let result = tokio::select! {
        biased;
        result = &mut result => result,
        () = look => result.await,
    };
    result.unwrap_or_else(|_| {
        let reason = "the actor that watched it ended unexpectedly".to_owned();
        let process_id = head.map(CommandHead::id);
        Err(Failure::done(ErrorKind::OutcomeUnknown { reason, command_id: Some(command.id), process_id }))
    })
}

async fn find(core: &Rc<Core>, retry: &Retry, id: EventId) -> Result<BashCommand, Failure> {
    match retry.until_answered(|| async { core.client()?.bash_event(id).await }).await {
        Ok(BashEvent::Command(command)) => Ok(command),
        Ok(_) => {
            Err(Failure::invalid(format!("{id} is an event of a command and not a command: give the command's id")))
        }
        Err(Failure { kind: ErrorKind::NotFound { detail }, effect }) => {
            let detail = format!("the server knows no command {id}, or no longer ({detail})");
            Err(Failure { kind: ErrorKind::NotFound { detail }, effect })
        }
        Err(failure) => Err(failure),
    }
}

/// When a command began, by this machine's clock. The server's may differ, and so it is asked how long ago that was.
async fn began(core: &Rc<Core>, retry: &Retry, command: &BashCommand) -> Result<Instant, Failure> {
    let now = retry.until_answered(|| helper::run(core, "true".to_owned())).await?;
    let age = Duration::try_from(now.timestamp.duration_since(command.timestamp)).unwrap_or_default();
    Ok(Instant::now().checked_sub(age).unwrap_or_else(Instant::now))
}
