//! What goes on beside the commands of a workspace: the server is asked now and then whether it is still the one that
//! started them, and shown signs of use so that the sandbox is not reaped.

mod identity;
mod restart;

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use identity::Identity;
use restart::Reason;
use tokio::sync::Notify;

use super::{
    core::{Core, count},
    keepalive::Use,
};
use crate::{
    ErrorKind, Failure,
    protocol::{EventId, ServerInfo},
};

/// How long commands have run before anything is asked on their account. Most have ended by then.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How far apart the looks at a server are on which commands run.
const BETWEEN_LOOKS: Duration = Duration::from_secs(15);

/// The same where nothing runs and the workspace is only held.
const BETWEEN_LOOKS_WHEN_HELD: Duration = Duration::from_secs(300);

/// No two looks are closer together than this, whatever gives reason to look.
const SHORTEST: Duration = Duration::from_millis(500);

/// A server tells at most this as its idle limit; longer is as good as none.
const LONGEST_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is known of a workspace's server beside its health.
pub(crate) struct Attendant {
    /// What times are told from.
    base: Instant,
    identity: RefCell<Option<Identity>>,
    /// Whether the server is reached in another way since it was last asked: another identity is then no surprise.
    moved: Cell<bool>,
    sandbox_use: Cell<Use>,
    /// How many hold the workspace.
    holds: Cell<usize>,
    /// Whether the task runs.
    running: Cell<bool>,
    last_look: Cell<Option<Instant>>,
    next_look: Cell<Instant>,
    /// Wakes the task; present while it runs.
    wake: RefCell<Option<Rc<Notify>>>,
    /// Whether something has happened since the last look that a restart of the server would explain.
    doubtful: Cell<bool>,
    /// Whether the server puts uploads in place in one step, where that is known.
    places_uploads: Cell<Option<bool>>,
    /// Whether a command was attached to since the last look, which an earlier server may have started.
    attached: Cell<bool>,
    /// Whether the last search for output failed.
    feed_failed: Cell<bool>,
    /// Whether a restart is being looked into.
    resolving: Cell<bool>,
    /// A further reason that came meanwhile.
    restarted_again: RefCell<Option<Box<(Identity, Reason)>>>,
}

impl Default for Attendant {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            base: now,
            identity: RefCell::default(),
            moved: Cell::new(false),
            sandbox_use: Cell::default(),
            holds: Cell::new(0),
            running: Cell::new(false),
            last_look: Cell::new(None),
            next_look: Cell::new(now),
            wake: RefCell::default(),
            doubtful: Cell::new(false),
            places_uploads: Cell::new(None),
            attached: Cell::new(false),
            feed_failed: Cell::new(false),
            resolving: Cell::new(false),
            restarted_again: RefCell::default(),
        }
    }
}

impl Attendant {
    /// Looks at the server as soon as may be, for something makes it doubtful that it is still the same.
    pub(crate) fn look_soon(&self) {
        self.doubtful.set(true);
        let soonest = self.last_look.get().map_or(Instant::now(), |last| last + SHORTEST);
        if soonest < self.next_look.get() {
            self.next_look.set(soonest);
            self.wake();
        }
    }

    /// Looks at a server at once at which nobody has looked yet.
    pub(crate) fn look_first(&self) {
        if self.last_look.get().is_none() {
            self.next_look.set(Instant::now());
            self.wake();
        }
    }

    /// Takes in that the server could not tell of a command. One that runs and is unknown was started by another server.
    pub(crate) fn missed(&self, core: &Core, id: EventId, failure: &Failure) {
        if matches!(failure.kind, ErrorKind::NotFound { .. }) && core.feed.is_watched(id) {
            self.look_soon();
        }
    }

    /// Takes in whether a search for output was answered. After an outage the server may be another.
    pub(crate) fn searched(&self, answered: bool) {
        if self.feed_failed.replace(!answered) && answered {
            self.look_soon();
        }
    }

    /// Wakes the task, if it runs.
    fn wake(&self) {
        if let Some(wake) = &*self.wake.borrow() {
            wake.notify_one();
        }
    }

    /// It could not be told whether the server is another. The next look, in its time, is as good as the first.
    fn doubt_again(&self, moved: bool) {
        self.doubtful.set(true);
        if moved {
            self.moved.set(true);
        } else {
            self.identity.take();
        }
    }

    /// The server is reached in another way from now on.
    pub(crate) fn moved(&self) {
        self.moved.set(true);
        self.places_uploads.set(None);
        self.look_soon();
    }
}

/// Keeps a workspace held until it is dropped: its sandbox is shown signs of use although nothing runs.
pub(crate) struct HoldGuard(Rc<Core>);

impl Drop for HoldGuard {
    fn drop(&mut self) {
        let holds = &self.0.attendant.holds;
        holds.set(holds.get().saturating_sub(1));
    }
}

/// Holds a workspace.
pub(crate) fn hold(core: &Rc<Core>) -> HoldGuard {
    core.attendant.holds.set(core.attendant.holds.get() + 1);
    attend(core);
    HoldGuard(core.clone())
}

/// Makes sure that the server is attended to as long as commands run or somebody holds the workspace.
pub(crate) fn attend(core: &Rc<Core>) {
    let attendant = &core.attendant;
    let now = Instant::now();
    let regular = attendant.last_look.get().map_or(now, |last| last + BETWEEN_LOOKS);
    let next = regular.max(now + FIRST_LOOK);
    if attendant.running.replace(true) {
        // It may sleep long, with nothing but a hold to look after.
        if next < attendant.next_look.get() {
            attendant.next_look.set(next);
            attendant.wake();
        }
        return;
    }
    attendant.next_look.set(next);
    let wake = Rc::<Notify>::default();
    attendant.wake.replace(Some(wake.clone()));
    actix_rt::spawn(run(Rc::downgrade(core), wake));
}

async fn run(core: Weak<Core>, wake: Rc<Notify>) {
    loop {
        let Some(strong) = core.upgrade() else { return };
        let attendant = &strong.attendant;
        let busy = strong.feed.len() > 0;
        if strong.closing.is_cancelled() || !(busy || attendant.holds.get() > 0) {
            attendant.running.set(false);
            attendant.wake.take();
            return;
        }
        if attendant.next_look.get() <= Instant::now() {
            let between = if busy { BETWEEN_LOOKS } else { BETWEEN_LOOKS_WHEN_HELD };
            // Before the look: something may ask for another one meanwhile.
            attendant.next_look.set(Instant::now() + between);
            look(&strong).await;
        }
        let due = attendant.sandbox_use.get().due(strong.config.keepalive);
        if due.is_some_and(|due| due <= Instant::now()) {
            show_use(&strong).await;
        }
        let due = attendant.sandbox_use.get().due(strong.config.keepalive);
        let next = due.map_or(attendant.next_look.get(), |due| due.min(attendant.next_look.get()));
        let closing = strong.closing.clone();
        drop(strong);
        tokio::select! {
            () = actix_rt::time::sleep_until(next.into()) => {}
            () = wake.notified() => {}
            () = closing.cancelled() => {}
        }
    }
}

/// Sends a request that the server counts as use.
async fn show_use(core: &Rc<Core>) {
    // Below the prefix of a conversation only its own directory may be asked about.
    let path = core.config.default_cwd.as_deref().or(core.config.working_dir.as_deref()).unwrap_or("/");
    let sent = async { core.client()?.show_use(path).await };
    let result = sent.await;
    let mut sandbox_use = core.attendant.sandbox_use.get();
    match result {
        Ok(()) => {
            count(&core.counters.keepalives);
            sandbox_use.used(Instant::now());
        }
        Err(failure) => {
            log::info!("{}: the sandbox could not be shown a sign of use: {failure}", core.config.name);
            sandbox_use.failed(Instant::now(), core.config.keepalive);
        }
    }
    core.attendant.sandbox_use.set(sandbox_use);
}

/// Looks whether the server has been started anew since a command began that was just attached to: its end would never come.
pub(crate) async fn look_at_attached(core: &Rc<Core>) {
    core.attendant.attached.set(true);
    look(core).await;
}

/// Asks the server what it is, and whether it is still the same.
pub(crate) async fn look(core: &Rc<Core>) {
    if let Err(failure) = server_info(core).await {
        log::debug!("{}: the server could not be asked what it is: {failure}", core.config.name);
    }
}

/// Whether the server puts uploads in place in one step. It is asked where that is not known.
pub(crate) async fn places_uploads(core: &Rc<Core>) -> Result<bool, Failure> {
    match core.attendant.places_uploads.get() {
        Some(known) => Ok(known),
        None => server_info(core).await.map(|info| info.places_uploads_whole()),
    }
}

/// The same, for those who want the answer.
pub(crate) async fn server_info(core: &Rc<Core>) -> Result<ServerInfo, Failure> {
    let (client, replaced) = (core.client()?, core.link_replaced());
    let asked = Instant::now();
    core.attendant.last_look.set(Some(asked));
    let info = client.server_info().await?;
    // What a server said under an address that was given up says nothing of the one that is asked now.
    if !replaced.is_cancelled() {
        learn(core, &info, asked);
    }
    Ok(info)
}

fn learn(core: &Rc<Core>, info: &ServerInfo, asked: Instant) {
    let attendant = &core.attendant;
    let mut sandbox_use = attendant.sandbox_use.get();
    sandbox_use.learn(asked, seconds(info.idle_time), info.runtime_idle_timeout_seconds.and_then(limit));
    attendant.sandbox_use.set(sandbox_use);
    core.pushing.announce(info.pushes_output());
    attendant.places_uploads.set(Some(info.places_uploads_whole()));

    let now = Identity::of(info, asked, attendant.base);
    let before = attendant.identity.replace(Some(now.clone()));
    let (moved, doubtful) = (attendant.moved.replace(false), attendant.doubtful.replace(false));
    let watched = core.feed.watched();
    let may_be_older = attendant.attached.replace(false)
        && watched.iter().any(|watched| now.is_younger_than(watched.at, attendant.base));
    let untold = || watched.iter().filter(|watched| now.has_started(watched).is_none());
    let surely = match &before {
        // One that starts fast may have taken the place of the one that started a command before either was asked.
        _ if watched.iter().any(|watched| now.has_started(watched) == Some(false)) => true,
        _ if may_be_older => true,
        Some(before) => now.is_restart_of(before),
        // Nothing to compare with; but no server has started what ran before it did.
        None => untold().any(|watched| now.is_younger_than(watched.at, attendant.base)),
    };
    let perhaps = doubtful && before.is_none();
    let restarted = surely || (perhaps && untold().any(|watched| now.may_be_younger_than(watched.at, attendant.base)));
    if restarted || moved {
        restart::resolve(core, now, Reason { restarted, surely, moved });
    }
}

/// A time that a server told, kept within what makes sense.
fn seconds(told: f64) -> Duration {
    Duration::try_from_secs_f64(told.max(0.0)).unwrap_or(LONGEST_LIMIT).min(LONGEST_LIMIT)
}

fn limit(told: f64) -> Option<Duration> {
    let limit = seconds(told);
    (!limit.is_zero() && limit < LONGEST_LIMIT).then_some(limit)
}

/// Reads what a server says of itself as [`learn`] does, for fuzz tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_again(info: &ServerInfo, base: Instant) {
    let identity = Identity::of(info, base + FIRST_LOOK, base);
    let mut sandbox_use = Use::default();
    sandbox_use.learn(base, seconds(info.idle_time), info.runtime_idle_timeout_seconds.and_then(limit));
    let _ = (identity.is_restart_of(&identity), identity.age(base, base), identity.is_younger_than(base, base));
    let _ = sandbox_use.due(super::Keepalive::Auto);
    let _ = (info.pushes_output(), info.has_stop_route());
}

/// Reads a list of processes, for fuzz tests.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_processes(text: &str) {
    restart::read_scan(text);
}
