use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    rc::Rc,
    time::{Duration, Instant},
};

use actix::{Addr, Message};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    FleetSupervisor, Selector,
    lease_table::{Answer, Asked, LeaseTable, Taken, Ticket, Token},
};
use crate::{ErrorKind, Failure, RemoteWorkspace, messages::WhatGoesOn};

/// How long the commands of a workspace may take to end after its lease was given back.
const RELEASE_PATIENCE: Duration = Duration::from_secs(30);

/// The time between two looks at a workspace that is to get free.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Takes a workspace for somebody alone.
#[derive(Message)]
#[rtype(result = "Result<(LeaseGuard, Addr<RemoteWorkspace>), Failure>")]
pub(crate) struct Acquire {
    pub(crate) selector: Selector,
    /// Cancelled when nobody waits for it any more: it then leaves the line.
    pub(crate) gone: CancellationToken,
}

/// Gives one back. Answered when it is free, or nobody's.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Release {
    name: String,
    token: Token,
    /// When the lease began.
    since: Instant,
    /// Why nobody is to get it.
    quarantine: Option<String>,
}

/// Ends the quarantine of a workspace. Answered with whether there was one.
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct Restore(pub(crate) String);

/// Holds a workspace, and tells the supervisor when it holds it no more.
pub(crate) struct LeaseGuard {
    name: String,
    token: Token,
    since: Instant,
    supervisor: Addr<FleetSupervisor>,
    /// Whether the workspace is nobody's when the guard is dropped.
    pub(crate) quarantine_on_drop: bool,
    given_back: bool,
}

impl LeaseGuard {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Gives the workspace back, or to nobody. Returns when that is done.
    pub(crate) async fn give_back(mut self, quarantine: Option<String>) {
        self.given_back = true;
        let release = Release { name: self.name.clone(), token: self.token, since: self.since, quarantine };
        // A fleet that has ended has no leases.
        let _ = self.supervisor.send(release).await;
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        if self.given_back {
            return;
        }
        let quarantine = if std::thread::panicking() {
            Some("its holder panicked".to_owned())
        } else {
            self.quarantine_on_drop.then(|| "its holder was dropped".to_owned())
        };
        let release = Release { name: self.name.clone(), token: self.token, since: self.since, quarantine };
        self.supervisor.do_send(release);
    }
}

/// The leases of a fleet: the table, and those who wait for an answer from it. It lives on the supervisor's thread.
#[derive(Default)]
pub(crate) struct Leases {
    table: RefCell<LeaseTable>,
    waiting: RefCell<HashMap<Ticket, oneshot::Sender<RunLease>>>,
    /// How many may wait before those that have gone are looked for.
    prune_at: RefCell<usize>,
    /// Tells runs that a workspace came into quarantine.
    quarantines: Notify,
    /// Whether the fleet is being drained or has ended.
    ended: Cell<bool>,
}

/// A workspace that is held on the supervisor's own thread. Dropping it gives it back.
pub(crate) struct RunLease {
    leases: Rc<Leases>,
    name: String,
    token: Token,
    since: Instant,
    held: bool,
}

/// What came of asking for one workspace.
pub(crate) enum TakenByRun {
    Lease(RunLease),
    Held,
    Quarantined,
    Unknown,
}

impl Leases {
    pub(super) fn add(self: &Rc<Self>, name: &str, labels: BTreeMap<String, String>) {
        let answer = self.table.borrow_mut().add(name, labels);
        self.answer(answer);
    }

    pub(super) fn remove(self: &Rc<Self>, name: &str) {
        let answers = self.table.borrow_mut().remove(name);
        self.answer(answers);
    }

    /// Whether the fleet has a workspace of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.table.borrow().has(name)
    }

    /// Turns away all who wait.
    pub(super) fn end(&self) {
        self.ended.set(true);
        self.waiting.borrow_mut().clear();
        self.table.borrow_mut().keep(|_| false);
    }

    /// Whether those who wait were turned away, since the fleet is being drained or has ended.
    pub(super) fn have_ended(&self) -> bool {
        self.ended.get()
    }

    /// Takes a workspace for a run, if it is free.
    pub(super) fn take(self: &Rc<Self>, name: &str) -> TakenByRun {
        match self.table.borrow_mut().take(name) {
            Taken::Granted(token) => TakenByRun::Lease(self.lease(name.to_owned(), token)),
            Taken::Held => TakenByRun::Held,
            Taken::Quarantined(reason) => {
                log::info!("{name}: a run does without it, for it is in quarantine: {reason}");
                TakenByRun::Quarantined
            }
            Taken::Unknown => TakenByRun::Unknown,
        }
    }

    /// Waits in line for a workspace. `None` when there is none left that the selector picks, or the fleet ends.
    pub(super) fn acquire(self: &Rc<Self>, selector: &Selector) -> impl Future<Output = Option<RunLease>> + use<> {
        let asked = self.table.borrow_mut().ask(selector);
        self.answer_to(asked)
    }

    fn answer_to(self: &Rc<Self>, asked: Asked) -> impl Future<Output = Option<RunLease>> + use<> {
        let answer = match asked {
            Asked::Granted { name, token } => Ok(Some(self.lease(name, token))),
            Asked::Nothing => Ok(None),
            Asked::Waiting { ticket } => {
                let (answer, answered) = oneshot::channel();
                self.waiting.borrow_mut().insert(ticket, answer);
                self.prune();
                Err(answered)
            }
        };
        async move {
            match answer {
                Ok(lease) => lease,
                Err(answered) => answered.await.ok(),
            }
        }
    }

    /// Waits in line for one workspace. `None` when it was removed or is in quarantine, or the fleet ends.
    pub(super) fn line_up(self: &Rc<Self>, name: &str) -> impl Future<Output = Option<RunLease>> + use<> {
        let (leases, name) = (self.clone(), name.to_owned());
        let asked = self.table.borrow_mut().ask_for(&name);
        let lease = self.answer_to(asked);
        async move {
            tokio::pin!(lease);
            loop {
                let quarantined = leases.quarantines.notified();
                tokio::pin!(quarantined);
                quarantined.as_mut().enable();
                if leases.table.borrow().is_quarantined(&name) {
                    return None;
                }
                tokio::select! {
                    lease = &mut lease => return lease,
                    () = quarantined => {}
                }
            }
        }
    }

    pub(super) fn restore(self: &Rc<Self>, name: &str) -> bool {
        let restored = self.table.borrow_mut().restore(name);
        let was_quarantined = restored.is_some();
        self.answer(restored.flatten());
        was_quarantined
    }

    /// Where every lease begins.
    fn lease(self: &Rc<Self>, name: String, token: Token) -> RunLease {
        log::debug!("{name}: leased");
        RunLease { leases: self.clone(), name, token, since: Instant::now(), held: true }
    }

    /// Where every lease ends.
    fn end_lease(self: &Rc<Self>, name: &str, token: Token, quarantine: Option<String>) {
        log::debug!("{name}: no longer leased");
        match quarantine {
            Some(reason) => {
                if self.table.borrow_mut().quarantine(name, token, reason.clone()) {
                    log::warn!("{name} is given to nobody until it is restored: {reason}");
                    self.quarantines.notify_waiters();
                }
            }
            None => {
                let answer = self.table.borrow_mut().release(name, token);
                self.answer(answer);
            }
        }
    }

    fn answer(self: &Rc<Self>, answers: impl IntoIterator<Item = Answer>) {
        for answer in answers {
            let (Answer::Granted { ticket, .. } | Answer::NothingLeft { ticket }) = &answer;
            let waits = self.waiting.borrow_mut().remove(ticket);
            if let Answer::Granted { name, token, .. } = answer {
                let lease = self.lease(name, token);
                // One that does not wait any more gives it back at once by dropping it, to the next in line.
                if let Some(waits) = waits {
                    drop(waits.send(lease));
                }
            }
        }
    }

    /// Forgets those who do not wait any more, each time that their number may have doubled.
    fn prune(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < *self.prune_at.borrow() {
            return;
        }
        waiting.retain(|_, answer| !answer.is_closed());
        *self.prune_at.borrow_mut() = (waiting.len() * 2).max(64);
        self.table.borrow_mut().keep(|ticket| waiting.contains_key(&ticket));
    }
}

impl RunLease {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the workspace nobody's.
    pub(crate) fn quarantine(mut self, reason: String) {
        self.held = false;
        self.leases.end_lease(&self.name, self.token, Some(reason));
    }

    /// Gives the workspace back when nothing goes on there any more that was begun while it was held.
    pub(crate) fn give_back_when_idle(mut self, address: Addr<RemoteWorkspace>) {
        self.held = false;
        let release =
            Release { name: std::mem::take(&mut self.name), token: self.token, since: self.since, quarantine: None };
        actix_rt::spawn(self::release(self.leases.clone(), Some(address), release));
    }

    /// Hands the workspace over to a holder on another thread.
    pub(super) fn hand_over(mut self, supervisor: Addr<FleetSupervisor>) -> LeaseGuard {
        self.held = false;
        LeaseGuard {
            name: std::mem::take(&mut self.name),
            token: self.token,
            since: self.since,
            supervisor,
            quarantine_on_drop: false,
            given_back: false,
        }
    }
}

impl Drop for RunLease {
    fn drop(&mut self) {
        if self.held {
            self.leases.end_lease(&self.name, self.token, None);
        }
    }
}

/// Gives a workspace back when nothing goes on there any more.
pub(super) async fn release(leases: Rc<Leases>, address: Option<Addr<RemoteWorkspace>>, release: Release) {
    let Release { name, token, since, mut quarantine } = release;
    if quarantine.is_none()
        && let Some(address) = address
        && !is_idle_in_time(&address, since).await
    {
        quarantine = Some(format!("something still went on there {RELEASE_PATIENCE:?} after its lease had ended"));
    }
    leases.end_lease(&name, token, quarantine);
}

impl Release {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Waits until a workspace does nothing that it began since then and until now. What others begin meanwhile does not count,
/// but for steps, which are soon over.
async fn is_idle_in_time(address: &Addr<RemoteWorkspace>, since: Instant) -> bool {
    let began = Instant::now();
    let (mut until, mut was_starting) = (began, true);
    loop {
        // One that has ended does nothing.
        let Ok(goes_on) = address.send(WhatGoesOn { since, until }).await else { return true };
        if goes_on.steps + goes_on.commands == 0 {
            return true;
        }
        was_starting &= goes_on.steps > 0;
        if was_starting {
            // A step that had begun when the lease ended may be about to start a command.
            until = Instant::now();
        }
        if began.elapsed() > RELEASE_PATIENCE {
            return false;
        }
        actix_rt::time::sleep(LOOK_EVERY).await;
    }
}

/// What is said to those who asked in vain.
pub(super) fn nothing_to_lease(has_ended: bool) -> Failure {
    if has_ended {
        return Failure::not_sent(ErrorKind::Stopped { reason: "the fleet was shut down".to_owned() });
    }
    Failure::invalid("the fleet has no workspace that the selector picks; add one, or ask for another")
}
