use std::{
    iter::repeat_n,
    rc::Rc,
    time::{Duration, Instant},
};

use super::Pushing;
use crate::{
    Failure,
    client::EventSocket,
    protocol::{BashEvent, BashOutput},
    workspace::{
        core::{Core, count},
        watch::News,
    },
};

/// Reads the event socket until no command runs any more, or the socket is no longer to be open, or is lost.
pub(super) async fn run(core: Rc<Core>) {
    let _ended = Ended(core.clone());
    let replaced = core.link_replaced();
    let enough = async {
        tokio::select! {
            () = core.feed.emptied() => {}
            () = replaced.cancelled() => {}
            () = core.pushing.suspended() => {}
        }
    };
    tokio::pin!(enough);
    let opened = tokio::select! {
        biased;
        () = &mut enough => return,
        opened = open(&core) => opened,
    };
    let mut socket = match opened {
        Ok(socket) => socket,
        Err(failure) => return lost(&core, &failure, Duration::ZERO),
    };
    let since = Instant::now();
    core.pushing.live_since.set(Some(since));
    // What was written before the server took the subscription is not told of.
    core.feed.catch_up();
    tokio::select! {
        biased;
        () = &mut enough => socket.close().await,
        failure = read(&core, &mut socket) => lost(&core, &failure, since.elapsed()),
    }
}

async fn open(core: &Rc<Core>) -> Result<EventSocket, Failure> {
    core.client()?.event_socket(false).await
}

/// Hands on what comes. A child that takes nothing, since its follower does not, never keeps the socket from being read:
/// it searches for what it missed when it can take it.
async fn read(core: &Rc<Core>, socket: &mut EventSocket) -> Failure {
    loop {
        match socket.next().await {
            Some(Ok(BashEvent::Output(output))) => hand_on(core, output).await,
            Some(Ok(_)) => {}
            Some(Err(failure)) => return failure,
            None => return Failure::protocol("the server ended the subscription"),
        }
    }
}

async fn hand_on(core: &Rc<Core>, output: BashOutput) {
    let watches = core.feed.watches_of(output.command_id);
    if watches.is_empty() {
        return;
    }
    count(&core.counters.pushed_events);
    #[cfg(test)]
    core.record.faults.strike_push();
    core.feed.pushed(output.timestamp);
    let copies = repeat_n(output, watches.len());
    for (watch, output) in watches.into_iter().zip(copies) {
        // A child that has just ended needs no news.
        let _ = watch.send(News::Pushed(output)).await;
    }
}

fn lost(core: &Rc<Core>, failure: &Failure, lived: Duration) {
    log::debug!("{}: output is searched for, since the event socket is not open: {failure}", core.config.name);
    core.pushing.failed(failure, lived, Instant::now(), fastrand::f64());
    if !lived.is_zero() {
        // A server that was started anew has closed it.
        core.attendant.look_soon();
    }
}

/// The end of a session, however it came about: from here on the children depend on searches.
struct Ended(Rc<Core>);

impl Drop for Ended {
    fn drop(&mut self) {
        let Pushing { running, live_since, ended, .. } = &self.0.pushing;
        running.set(false);
        if live_since.take().is_some() {
            self.0.feed.catch_up();
        }
        ended.notify_waiters();
    }
}
