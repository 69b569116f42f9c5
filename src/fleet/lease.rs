use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use actix::{Addr, Message};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    FleetSupervisor, Selector,
    lease_table::{Answer, Asked, LeaseTable, Taken, Ticket, Token},
};
use crate::{ErrorKind, Failure, RemoteWorkspace};

/// How long what was begun under a lease may take to end after it was given back.
const RELEASE_PATIENCE: Duration = Duration::from_secs(30);

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
    /// What was begun on its behalf.
    work: TaskTracker,
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
    work: TaskTracker,
    supervisor: Addr<FleetSupervisor>,
    /// Whether the workspace is nobody's when the guard is dropped.
    pub(crate) quarantine_on_drop: bool,
    given_back: bool,
}

impl LeaseGuard {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Counts what is begun on its behalf.
    pub(crate) fn work(&self) -> TaskTracker {
        self.work.clone()
    }

    /// Gives the workspace back, or to nobody. Returns when that is done.
    pub(crate) async fn give_back(mut self, quarantine: Option<String>) {
        self.given_back = true;
        let release = Release { name: self.name.clone(), token: self.token, work: self.work.clone(), quarantine };
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
        let release = Release { name: self.name.clone(), token: self.token, work: self.work.clone(), quarantine };
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
    /// Whether the fleet is being drained or has ended.
    ended: Cell<bool>,
}

/// A workspace that is held on the supervisor's own thread. Dropping it gives it back.
pub(crate) struct RunLease {
    leases: Rc<Leases>,
    name: String,
    token: Token,
    /// What was begun on its behalf and has not ended.
    work: TaskTracker,
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
        let asked = self.table.borrow_mut().ask_for(name);
        self.answer_to(asked)
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
        RunLease { leases: self.clone(), name, token, work: TaskTracker::new(), held: true }
    }

    /// Where every lease ends.
    fn end_lease(self: &Rc<Self>, name: &str, token: Token, quarantine: Option<String>) {
        log::debug!("{name}: no longer leased");
        match quarantine {
            Some(reason) => {
                let told = self.table.borrow_mut().quarantine(name, token, reason.clone());
                if let Some(told) = told {
                    log::warn!("{name} is given to nobody until it is restored: {reason}");
                    self.answer(told);
                }
            }
            None => {
                let answer = self.table.borrow_mut().release(name, token);
                self.answer(answer);
            }
        }
    }

    fn answer(self: &Rc<Self>, answers: impl IntoIterator<Item = Answer>) {
        let mut answers: VecDeque<Answer> = answers.into_iter().collect();
        while let Some(answer) = answers.pop_front() {
            let (Answer::Granted { ticket, .. } | Answer::NothingLeft { ticket }) = &answer;
            let waits = self.waiting.borrow_mut().remove(ticket);
            let Answer::Granted { name, token, .. } = answer else { continue };
            let lease = self.lease(name, token);
            let refused = match waits {
                Some(waits) => waits.send(lease).err(),
                None => Some(lease),
            };
            // One that does not wait any more passes it on to the next in line. Dropping the lease would do so as well, but
            // from within itself, as deep as the line is long.
            if let Some(mut lease) = refused {
                lease.held = false;
                answers.extend(self.table.borrow_mut().release(&lease.name, lease.token));
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

    /// Counts what is begun on its behalf.
    pub(crate) fn work(&self) -> TaskTracker {
        self.work.clone()
    }

    /// Gives the workspace back when all has ended that was begun on its behalf.
    pub(crate) fn give_back(mut self) {
        if self.work.is_empty() {
            return;
        }
        self.held = false;
        let release = Release {
            name: std::mem::take(&mut self.name),
            token: self.token,
            work: self.work.clone(),
            quarantine: None,
        };
        actix_rt::spawn(self::release(self.leases.clone(), release));
    }

    /// Hands the workspace over to a holder on another thread.
    pub(super) fn hand_over(mut self, supervisor: Addr<FleetSupervisor>) -> LeaseGuard {
        self.held = false;
        LeaseGuard {
            name: std::mem::take(&mut self.name),
            token: self.token,
            work: self.work.clone(),
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

/// Gives a workspace back when all has ended that was begun under its lease. What others do there meanwhile does not count.
pub(super) async fn release(leases: Rc<Leases>, release: Release) {
    let Release { name, token, work, mut quarantine } = release;
    work.close();
    if quarantine.is_none() && actix_rt::time::timeout(RELEASE_PATIENCE, work.wait()).await.is_err() {
        quarantine = Some(format!("something still went on there {RELEASE_PATIENCE:?} after its lease had ended"));
    }
    leases.end_lease(&name, token, quarantine);
}

/// What is said to those who asked in vain.
pub(super) fn nothing_to_lease(has_ended: bool) -> Failure {
    if has_ended {
        return Failure::not_sent(ErrorKind::Stopped { reason: "the fleet was shut down".to_owned() });
    }
    Failure::invalid("the fleet has no workspace that the selector picks; add one, or ask for another")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_workspace_passes_by_those_who_gave_up_however_many_they_are() {
        let leases = Rc::new(Leases::default());
        leases.add("w", BTreeMap::new());
        let held = leases.acquire(&Selector::all()).now_or_never().flatten().expect("it is free");
        let gave_up: Vec<_> = (0..50_000).map(|_| leases.acquire(&Selector::all())).collect();
        let waits = leases.acquire(&Selector::all());
        drop(gave_up);
        drop(held);
        let lease = waits.now_or_never().flatten().expect("all others are gone");
        assert_eq!(lease.name(), "w");
        drop(lease);
        assert!(matches!(leases.take("w"), TakenByRun::Lease(_)));
    }
}
