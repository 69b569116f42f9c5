use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use futures::future::join_all;

use super::helper;
use crate::{
    ErrorKind, Failure,
    protocol::{BashEvent, CommandHead, EventId},
    workspace::{
        backoff::{Retry, Waits, until_answered},
        core::Core,
        shell,
        watch::{End, Settled, Started},
    },
};

/// How long the server's own stop may take to end a command before the stop script is sent after it.
const ROUTE_PATIENCE: Duration = Duration::from_millis(100);

/// How long the stop is tried when the server can not be reached: a command that is not stopped may run for ever.
const TRYING: Duration = Duration::from_secs(10);
const WAITS: Waits = Waits { first: Duration::from_millis(100), longest: Duration::from_secs(1) };

/// Ends a watched command's processes: by the server's stop route, which ends its shell, and by the stop script, which
/// reaches those that the route leaves. A command that turns out to have ended by itself is left alone.
pub(crate) async fn end_processes(core: Rc<Core>, started: Started, settled: Rc<Settled>) {
    // The script reaches everything that the route does; without a head there is only the route.
    let route = match started.head {
        Some(_) => stop_by_route(&core, started.id).await,
        None => until_answered(Instant::now() + TRYING, WAITS, || stop_by_route(&core, started.id)).await,
    };
    if let Err(failure) = route {
        log::debug!("{}: the stop route did not stop {}: {failure}", core.config.name, started.id);
    } else {
        settled.surely.set(started.head.is_none());
        // Having waited is enough, whichever came first.
        let _ = actix_rt::time::timeout(ROUTE_PATIENCE, settled.token.cancelled()).await;
    }
    if let Some(head) = started.head
        && !settled.by_itself.get()
    {
        match run_script(&core, head).await {
            Ok(()) => settled.surely.set(true),
            Err(failure) => {
                log::warn!("{}: processes of command {} may be left: {failure}", core.config.name, started.id);
            }
        }
    }
    settled.processes_ended.cancel();
}

async fn run_script(core: &Rc<Core>, head: CommandHead) -> Result<(), Failure> {
    until_answered(Instant::now() + TRYING, WAITS, || helper::run(core, shell::stop_script(head.id()))).await.map(drop)
}

async fn stop_by_route(core: &Rc<Core>, id: EventId) -> Result<(), Failure> {
    core.client()?.stop_bash_command(id).await.map(drop)
}

/// Ends a command that may be watched here or not, also what its shell has left behind.
pub(crate) async fn stop_command(core: &Rc<Core>, id: EventId) -> Result<(), Failure> {
    let asked = core.feed.watches_of(id).into_iter().map(|watch| watch.send(End));
    if join_all(asked).await.iter().any(Result::is_ok) {
        return Ok(());
    }
    let retry = Retry::new(core);
    let route = retry.until_answered(|| stop_by_route(core, id)).await;
    match &route {
        Ok(()) | Err(Failure { kind: ErrorKind::NotFound { .. }, .. }) => {}
        Err(_) => return route,
    }
    let head = match retry.until_answered(|| async { core.client()?.bash_event(id).await }).await {
        Ok(BashEvent::Command(command)) => CommandHead::strip(&command.command).map(|(head, _)| head),
        // As in the Python class, an unknown command is as good as a stopped one.
        Ok(_) | Err(Failure { kind: ErrorKind::NotFound { .. }, .. }) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    match head {
        Some(head) => run_script(core, head).await,
        None => route,
    }
}
