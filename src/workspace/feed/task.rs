use std::{
    cell::Cell,
    collections::HashMap,
    iter::repeat_n,
    panic::AssertUnwindSafe,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, channel::oneshot};
use jiff::Timestamp;

use super::{
    WatchKey,
    plan::{Plan, plan},
    search::Search,
};
use crate::{
    ErrorKind, Failure,
    protocol::{BashEvent, BashOutput, EventId},
    workspace::{
        core::{Core, count},
        supervision::panic_text,
        watch::{Appetite, News, NewsFailed},
    },
};

/// The longest rest between two searches.
const LONGEST_REST: Duration = Duration::from_millis(20);

/// What is shorter is no time to sleep: timers go by the millisecond.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// A search that brings more bytes than this is one of a flood.
const FLOOD: usize = 128 << 10;

/// The part of the time for a flood that is rested after it.
const FLOODS_REST: u32 = 4;

/// Serves the children of a workspace until none is left.
///
/// A panic must not leave them waiting for a feed that no longer runs: each is told of a failed look, after which it looks
/// again for as long as it would bear with a server that does not answer.
pub(crate) async fn run(core: Weak<Core>) {
    while let Err(payload) = AssertUnwindSafe(serve(core.clone())).catch_unwind().await {
        let Some(core) = core.upgrade() else { return };
        let reason = format!("the search for output panicked: {}", panic_text(&*payload));
        log::error!("{}: {reason}", core.config.name);
        core.record.failed(reason.clone());
        count(&core.counters.poll_failures);
        let failure = Failure::not_sent(ErrorKind::Panicked { reason });
        for watch in core.feed.watches() {
            // One that has ended needs no news.
            let _ = watch.send(NewsFailed(failure.clone())).await;
        }
        drop(core);
        actix_rt::time::sleep(LONGEST_REST).await;
    }
}

async fn serve(core: Weak<Core>) {
    let mut owed = Duration::ZERO;
    loop {
        let Some(core) = core.upgrade() else { return };
        let (next_due, woken) = {
            let mut state = core.feed.0.borrow_mut();
            if state.watched.is_empty() {
                state.running = false;
                // What it once took is many times what an idle workspace takes.
                state.watched = HashMap::new();
                (state.seen_until, state.caught_up, state.quickest_start) = (None, false, None);
                return;
            }
            let (wake, woken) = oneshot::channel();
            state.wake = Some(wake);
            (state.next_due(), woken)
        };
        if next_due.is_none_or(|due| due > Instant::now()) {
            let weak = Rc::downgrade(&core);
            drop(core);
            wait(next_due, woken).await;
            if weak.strong_count() == 0 {
                return;
            }
            continue;
        }
        let plan = plan(&mut core.feed.0.borrow_mut(), Instant::now());
        if let Some(plan) = plan {
            owed += carry_out(&core, plan).await.min(LONGEST_REST);
            drop(core);
            // But for floods, waiting for pages takes at most half of the time: a server that is slow to answer is not asked the
            // more often, and the children that become due meanwhile share the next search.
            if owed < SHORTEST_SLEEP {
                tokio::task::yield_now().await;
            } else {
                actix_rt::time::sleep(std::mem::take(&mut owed)).await;
            }
        }
    }
}

/// Waits until somebody is due or something changes.
async fn wait(due: Option<Instant>, woken: oneshot::Receiver<()>) {
    match due {
        Some(due) => {
            tokio::select! {
                _ = woken => {}
                () = actix_rt::time::sleep_until(due.into()) => {}
            }
        }
        None => drop(woken.await),
    }
}

/// Searches, and hands out what was found. Returns how long to rest for it: as long as it took until the pages were there. After a
/// flood it is a part of what all of it took, in which the others on this thread have it for themselves: such a search took
/// so long because of what it brought.
async fn carry_out(core: &Rc<Core>, plan: Plan) -> Duration {
    let began = Instant::now();
    #[cfg(test)]
    core.record.faults.strike_feed();
    count(&core.counters.polls);
    let replaced = core.link_replaced();
    // What panics on a server's words does so for the children served and not for all.
    let cost = Cost::default();
    let guarded = AssertUnwindSafe(search(core, &plan, &cost)).catch_unwind();
    let result = tokio::select! {
        result = guarded => result.unwrap_or_else(|_| Err(Failure::protocol("the runtime failed on what the server sent"))),
        () = replaced.cancelled() => {
            let reason = "the connection was replaced in the middle of a request".to_owned();
            Err(Failure::not_sent(ErrorKind::Unreachable { reason }))
        }
    };
    core.attendant.searched(result.is_ok());
    if let Err(failure) = result {
        count(&core.counters.poll_failures);
        log::debug!("{}: search for output failed: {failure}", core.config.name);
        for key in &plan.serves {
            if let Some(watch) = core.feed.watch(*key) {
                // A child that has just ended needs no news of a failure.
                let _ = watch.send(NewsFailed(failure.clone())).await;
            }
        }
    }
    if cost.brought.get() > FLOOD { began.elapsed() / FLOODS_REST } else { cost.waited.get() }
}

/// What a search cost.
#[derive(Default)]
struct Cost {
    /// How long its pages were waited for.
    waited: Cell<Duration>,
    /// How many bytes of text they brought.
    brought: Cell<usize>,
}

/// Reads the pages of a search and hands their events out.
async fn search(core: &Rc<Core>, plan: &Plan, cost: &Cost) -> Result<(), Failure> {
    let client = core.client()?;
    let mut search = Search::new(plan.query.clone());
    let mut newest: Option<Timestamp> = None;
    let is_pushed = core.pushing.live_for().is_some();
    let began = Instant::now();
    loop {
        let mut pages = core.feed.0.borrow().pages;
        let asked = Instant::now();
        let page = search.next(&client, &mut pages).await;
        cost.waited.set(cost.waited.get() + asked.elapsed());
        let page = page.inspect_err(|_| {
            if plan.shared {
                // What was read is handed out, and so the next search begins there, less the overlap.
                core.feed.0.borrow_mut().saw(newest);
            }
        })?;
        core.feed.0.borrow_mut().pages = pages;
        let Some(events) = page else { break };
        cost.brought.set(search.brought());
        let by_command = group(events, &mut newest);
        for (id, events) in by_command {
            if !plan.shared && plan.query.command_id != Some(id) {
                // Not what was asked for: neither is it to be trusted nor may another child's appetite end this search.
                continue;
            }
            match plan.serves[..] {
                [key] if !plan.shared => {
                    if hand_out(core, key, News::Found(events)).await == Appetite::Full {
                        // The rest waits on the server until the reader has caught up.
                        return Ok(());
                    }
                }
                _ => {
                    let watches = core.feed.watches_of(id);
                    let copies = repeat_n(events, watches.len());
                    for (watch, events) in watches.into_iter().zip(copies) {
                        // One that can take no more asks for the rest itself.
                        let _ = watch.send(News::Found(events)).await;
                    }
                }
            }
        }
        if plan.serves.iter().all(|key| core.feed.watch(*key).is_none()) {
            // Nobody is left who waits for the pages that follow, of which there may be any number.
            return Ok(());
        }
    }
    if plan.shared {
        let mut state = core.feed.0.borrow_mut();
        state.caught_up |= is_pushed;
        state.saw(newest.max(plan.query.timestamp_gte));
    }
    for key in &plan.serves {
        hand_out(core, *key, News::Looked(began, plan.reach)).await;
    }
    Ok(())
}

fn group(events: Vec<BashEvent>, newest: &mut Option<Timestamp>) -> HashMap<EventId, Vec<BashOutput>> {
    let mut by_command: HashMap<EventId, Vec<BashOutput>> = HashMap::new();
    for event in events {
        if let BashEvent::Output(output) = event {
            *newest = (*newest).max(Some(output.timestamp));
            by_command.entry(output.command_id).or_default().push(output);
        }
    }
    by_command
}

async fn hand_out(core: &Rc<Core>, key: WatchKey, news: News) -> Appetite {
    match core.feed.watch(key) {
        Some(watch) => watch.send(news).await.unwrap_or(Appetite::Full),
        None => Appetite::More,
    }
}
