use std::{rc::Rc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::helper;
use crate::{
    ErrorKind, Failure,
    protocol::{BashEvent, CommandHead, EventId},
    workspace::{
        core::Core,
        feed, shell,
        watch::{End, Started},
    },
};

/// How long the server's own stop may take to end a command before the stop script is sent after it.
const ROUTE_PATIENCE: Duration = Duration::from_millis(100);

/// How often the stop script is sent.
const SCRIPTS: u32 = 3;

/// Ends a command's processes: by the server's stop route, and by the stop script when that is not enough. Returns as
/// soon as `settled` is cancelled, because its end was seen.
pub(crate) async fn end_processes(core: Rc<Core>, id: EventId, head: Option<CommandHead>, settled: CancellationToken) {
    let ending = async {
        if let Err(failure) = stop_by_route(&core, id).await {
            log::debug!("{}: the stop route did not stop {id}: {failure}", core.config.name);
        } else {
            actix_rt::time::sleep(ROUTE_PATIENCE).await;
        }
        let Some(head) = head else { return };
        for _ in 0..SCRIPTS {
            match helper::run(&core, shell::stop_script(head.id())).await {
                Ok(_) => return,
                Err(failure) => log::debug!("{}: the stop script was not run: {failure}", core.config.name),
            }
            actix_rt::time::sleep(ROUTE_PATIENCE).await;
        }
    };
    tokio::select! {
        () = settled.cancelled() => {}
        () = ending => {}
    }
}

async fn stop_by_route(core: &Rc<Core>, id: EventId) -> Result<(), Failure> {
    core.client()?.stop_bash_command(id).await.map(drop)
}

/// Ends a command that may be watched here or not.
pub(crate) async fn stop_command(core: &Rc<Core>, id: EventId) -> Result<(), Failure> {
    if let Some(watch) = core.feed.watch_of(id) {
        // A watch that closes its mailbox has just seen the end.
        let _ = watch.send(End).await;
        return Ok(());
    }
    let route = stop_by_route(core, id).await;
    match &route {
        Ok(()) | Err(Failure { kind: ErrorKind::NotFound { .. }, .. }) => {}
        Err(_) => return route,
    }
    actix_rt::time::sleep(ROUTE_PATIENCE).await;
    let client = core.client()?;
    if feed::last_output(&client, id).await?.is_some_and(|output| output.is_final()) {
        return Ok(());
    }
    let head = match client.bash_event(id).await {
        Ok(BashEvent::Command(command)) => CommandHead::strip(&command.command).map(|(head, _)| head),
        // As in the Python class, an unknown command is as good as a stopped one.
        Ok(_) | Err(Failure { kind: ErrorKind::NotFound { .. }, .. }) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    match head {
        Some(head) => helper::run(core, shell::stop_script(head.id())).await.map(drop),
        None => route,
    }
}

/// Ends a command that nobody watches when its time is up.
pub(crate) async fn guard(core: Rc<Core>, started: Started, timeout: Duration) {
    tokio::select! {
        () = core.closing.cancelled() => {}
        () = actix_rt::time::sleep_until((started.at + timeout).into()) => {
            if let Err(failure) = stop_command(&core, started.id).await {
                log::warn!("{}: command {} could not be ended in time: {failure}", core.config.name, started.id);
            }
        }
    }
}
