use std::{
    future::Future,
    rc::Rc,
    time::{Duration, Instant},
};

use futures::channel::oneshot;
use tokio_util::sync::CancellationToken;

use super::{resume::PAST_ITS_HEAD, start::Prepared};
use crate::{
    CommandResult, ErrorKind, Failure,
    messages::{CommandEvent, CommandOutput, Execute, ExecuteCommand, HoldUntil, Known, OnDrop, Spec},
    protocol::{CommandHead, EventId},
    workspace::{
        attendant,
        backoff::Retry,
        caller,
        core::Core,
        feed,
        step_queue::{Permit, Refused},
        superseded::{self, Fate, is_superseded},
        watch::{Assembly, CommandWatch, Progress, Started, Watching},
    },
};

/// How much of what a command of the runtime's own says is kept.
const MOST_SAID: usize = 64 << 10;

/// Runs a command to its end.
pub(crate) async fn execute(
    core: Rc<Core>,
    place: Result<impl Future<Output = Result<Permit, Refused>>, Refused>,
    execute: Execute,
) -> Result<CommandResult, Failure> {
    let Execute { command, caller, called_off, events, follow_output, known } = execute;
    let mut permit = Some(take_turn(&core, place, &command, &called_off).await?);
    let mut prepared = Prepared::new(&core, command, called_off).await?;
    let holds = prepared.command.hold_until == HoldUntil::Finished;
    let begun = |may_be_superseded: bool| {
        if !holds && !may_be_superseded {
            permit = None;
        }
    };
    let watching = Watching {
        caller,
        on_drop: prepared.command.on_drop,
        events,
        follow_output,
        outlives: false,
        from: None,
        told: [0; 2],
        is_own: false,
    };
    let result = run(&core, &mut prepared, &watching, known, begun).await?;
    prepared.clean_up(&core, &result);
    drop(permit);
    result
}

/// Starts a command, as often as it turns out never to have run, and waits for its end. Tells when it was started, and whether
/// that may turn out.
async fn run(
    core: &Rc<Core>,
    prepared: &mut Prepared,
    watching: &Watching,
    mut known: Option<Known>,
    mut begun: impl FnMut(bool),
) -> Result<Result<CommandResult, Failure>, Failure> {
    loop {
        let known_id = known.as_ref().map(|known| known.command_id);
        let (started, resumed) = prepared.resume_or_start(core, known_id, &watching.caller).await?;
        let told = known.take().map(|known| known.told).filter(|_| resumed).unwrap_or_default();
        if let Some(events) = &watching.events {
            // A follower that has gone is noticed by its token.
            let _ = events.send(CommandEvent::Started { command_id: started.id }).await;
        }
        let may_be_superseded = started.may_be_superseded;
        begun(may_be_superseded);
        let watching = Watching { from: resumed.then_some([0, 0]), told, ..watching.clone() };
        let result = watch(core, &prepared.command, started, watching).await;
        if let (true, Ok(result)) = (may_be_superseded || resumed, &result)
            && is_superseded(result.raw_exit_code, &result.stderr)
        {
            continue;
        }
        return Ok(result);
    }
}

/// Runs a command of the runtime's own that may take long: it is started and watched as a user's is, so that a server that falls
/// silent or restarts meanwhile is noticed. It is stopped when nobody waits any more.
pub(super) async fn run_own(core: &Rc<Core>, command: String, timeout: Duration) -> Result<CommandResult, Failure> {
    // The directory that commands run in by default may be missing.
    let command = ExecuteCommand::new(command).with_cwd("/").with_timeout(timeout).with_max_output(MOST_SAID);
    let caller = no_caller();
    let going = async {
        let mut prepared = Prepared::new(core, command, caller.clone()).await?;
        let watching = Watching {
            caller: caller.clone(),
            on_drop: OnDrop::Stop,
            events: None,
            follow_output: false,
            outlives: false,
            from: None,
            told: [0; 2],
            is_own: true,
        };
        run(core, &mut prepared, &watching, None, |_| ()).await?
    };
    tokio::pin!(going);
    let result = tokio::select! {
        biased;
        result = &mut going => result,
        () = caller::gone() => {
            caller.cancel();
            going.await
        }
    };
    match result {
        Ok(result) if result.timeout_occurred => {
            let waiting_for = "a command of the runtime's own in the sandbox".to_owned();
            Err(Failure::maybe_sent(ErrorKind::Deadline { waiting_for, limit: timeout }))
        }
        Ok(result) if result.stopped => Err(core.record.refusal()),
        Err(Failure { kind: ErrorKind::OutcomeUnknown { reason, .. }, effect }) => {
            Err(Failure { kind: ErrorKind::Unreachable { reason }, effect })
        }
        result => result,
    }
}

/// Waits for the turn of a command. One that may have been started before has to be looked for even if nobody wants it any
/// more, and whatever keeps it from that says nothing of what it has done.
async fn take_turn(
    core: &Rc<Core>,
    place: Result<impl Future<Output = Result<Permit, Refused>>, Refused>,
    command: &ExecuteCommand,
    caller: &CancellationToken,
) -> Result<Permit, Failure> {
    if !command.resume {
        return core.turn(place, Some(caller)).await;
    }
    core.turn(place, None).await.map_err(|failure| Failure::maybe_sent(failure.kind))
}

async fn watch(
    core: &Rc<Core>,
    command: &ExecuteCommand,
    started: Started,
    watching: Watching,
) -> Result<CommandResult, Failure> {
    let (id, head) = (started.id, started.head);
    let result = watch_in_background(core, command, started, watching).await;
    result.unwrap_or_else(|oneshot::Canceled| {
        let reason = "the actor that watched it ended unexpectedly".to_owned();
        let process_id = head.map(CommandHead::id);
        Err(Failure::done(ErrorKind::OutcomeUnknown { reason, command_id: Some(id), process_id }))
    })
}

/// Starts a command and does not wait for its end. It is watched all the same, so that its time is held to.
pub(crate) async fn start_detached(
    core: Rc<Core>,
    place: Result<impl Future<Output = Result<Permit, Refused>>, Refused>,
    command: ExecuteCommand,
) -> Result<Started, Failure> {
    let caller = no_caller();
    let _permit = take_turn(&core, place, &command, &caller).await?;
    let mut prepared = Prepared::new(&core, ExecuteCommand { max_output: 0, ..command }, caller.clone()).await?;
    loop {
        let (started, resumed) = prepared.resume_or_start(&core, None, &caller).await?;
        let (id, head, may_be_superseded) = (started.id, started.head, started.may_be_superseded);
        let on_drop = prepared.command.on_drop;
        let watching = Watching {
            caller: caller.clone(),
            on_drop,
            events: None,
            follow_output: false,
            outlives: on_drop == OnDrop::Detach,
            from: resumed.then_some([0, 0]),
            told: [0; 2],
            is_own: false,
        };
        let watch = watch_in_background(&core, &prepared.command, started.clone(), watching);
        let superseded = if may_be_superseded { turns_out_superseded(&core, id).await } else { Ok(false) };
        if let Ok(true) = superseded {
            continue;
        }
        let tasks = core.tasks.clone();
        tasks.spawn_local(async move {
            // A watch that ended unexpectedly has left things in doubt.
            let result = watch.await.unwrap_or_else(|_| Err(Failure::protocol("the watch ended")));
            prepared.clean_up(&core, &result);
        });
        return superseded.map(|_| started).map_err(|failure| {
            let reason = format!("it was started, but whether it ran or was called off could not be seen: {failure}");
            let process_id = head.map(CommandHead::id);
            Failure::done(ErrorKind::OutcomeUnknown { reason, command_id: Some(id), process_id })
        });
    }
}

/// Waits until a command has ended, or has run for so long that it was past its head. The head is the first thing that
/// it does.
async fn turns_out_superseded(core: &Rc<Core>, id: EventId) -> Result<bool, Failure> {
    let past_its_head = Instant::now() + PAST_ITS_HEAD;
    while Instant::now() < past_its_head {
        match superseded::fate(&core.client()?, id).await? {
            Fate::Open => {}
            fate => return Ok(fate == Fate::Superseded),
        }
        actix_rt::time::sleep(PAST_ITS_HEAD / 20).await;
    }
    Ok(false)
}

fn watch_in_background(
    core: &Rc<Core>,
    command: &ExecuteCommand,
    started: Started,
    watching: Watching,
) -> oneshot::Receiver<Result<CommandResult, Failure>> {
    let spec = Spec { command: command.command.clone(), timeout: command.timeout, max_output: command.max_output };
    if watching.from.is_some() {
        // Its server may have been started anew since: its end would never come.
        let core = core.clone();
        core.tasks.clone().spawn_local(async move { attendant::look_at_attached(&core).await });
    }
    CommandWatch::spawn(core, spec, started, watching)
}

/// Reads what a command has written so far.
pub(crate) async fn output(core: &Rc<Core>, id: EventId) -> Result<CommandOutput, Failure> {
    let retry = Retry::new(core);
    let mut tries = 0;
    loop {
        let mut assembly = retry.until_answered(|| read_all(core, id)).await?;
        let mut output = CommandOutput { stdout: String::new(), stderr: String::new(), exit_code: None };
        while let Some(event) = assembly.release() {
            output.stdout.push_str(event.stdout.as_deref().unwrap_or_default());
            output.stderr.push_str(event.stderr.as_deref().unwrap_or_default());
        }
        match assembly.progress() {
            Progress::Running if assembly.is_empty() => {
                // Without any output the command may also be one that the server does not know.
                let known = retry.until_answered(|| async { core.client()?.bash_event(id).await }).await;
                known.inspect_err(|failure| core.attendant.missed(core, id, failure))?;
                return Ok(output);
            }
            Progress::Running => return Ok(output),
            Progress::Complete { exit_code } => return Ok(CommandOutput { exit_code: Some(exit_code), ..output }),
            Progress::Short { .. } if tries < 3 => {
                tries += 1;
                actix_rt::time::sleep(Duration::from_millis(50) * tries).await;
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

async fn read_all(core: &Rc<Core>, id: EventId) -> Result<Assembly, Failure> {
    let mut assembly = Assembly::default();
    feed::read_all(&core.client()?, id, |event| assembly.add(event)).await?;
    Ok(assembly)
}

/// A caller that never goes.
pub(crate) fn no_caller() -> CancellationToken {
    CancellationToken::new()
}
