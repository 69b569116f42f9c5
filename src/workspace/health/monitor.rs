use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    HealthState,
    machine::{Heard, Machine},
    probe,
};
use crate::{ErrorKind, Failure, client::Observer, workspace::core::Core};

/// How a workspace's server does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Health {
    /// How.
    pub state: HealthState,
    /// Since when it has been in this state.
    pub since: Timestamp,
    /// Why, where the state is not a good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Requests in a row that failed.
    pub failures: u32,
    /// When the server is asked next on purpose, while it is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe: Option<Timestamp>,
}

/// The state of a workspace's health where other threads can see it.
#[derive(Debug, Clone, Default)]
pub(crate) struct HealthLight(Arc<AtomicU8>);

impl HealthLight {
    /// The state as it was a moment ago.
    pub(crate) fn state(&self) -> HealthState {
        let at = usize::from(self.0.load(Ordering::Relaxed));
        HealthState::ALL.get(at).copied().unwrap_or(HealthState::Connecting)
    }

    fn show(&self, state: HealthState) {
        let at = HealthState::ALL.iter().position(|known| *known == state).unwrap_or(0);
        self.0.store(u8::try_from(at).unwrap_or(0), Ordering::Relaxed);
    }
}

/// Keeps the health of one workspace, on its arbiter.
pub(crate) struct Monitor {
    machine: RefCell<Machine>,
    light: RefCell<HealthLight>,
    /// Counts the ways in which the server has been reached.
    link: Cell<u64>,
    /// Whether the server has answered under this link, and not with a server error.
    answered: Cell<bool>,
    /// When the running probe asks next.
    next_probe: Cell<Option<Instant>>,
    probing: Cell<bool>,
    last_answer: Cell<Option<Instant>>,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            machine: RefCell::new(Machine::new(Instant::now())),
            light: RefCell::default(),
            link: Cell::new(0),
            answered: Cell::new(false),
            next_probe: Cell::new(None),
            probing: Cell::new(false),
            last_answer: Cell::new(None),
        }
    }
}

impl Monitor {
    /// Shows the state on this light from now on.
    pub(crate) fn show_on(&self, light: HealthLight) {
        light.show(self.machine.borrow().state);
        *self.light.borrow_mut() = light;
    }

    /// How the server does.
    pub(crate) fn health(&self) -> Health {
        let (machine, now) = (self.machine.borrow(), Instant::now());
        let next_probe = self.next_probe.get().filter(|_| machine.is_to_be_probed());
        let ahead = |at: Instant| Timestamp::now().saturating_add(at.saturating_duration_since(now)).ok();
        Health {
            state: machine.state,
            since: Timestamp::now().saturating_sub(now.saturating_duration_since(machine.since)).unwrap_or_default(),
            reason: machine.reason.clone(),
            failures: machine.failures(),
            next_probe: next_probe.and_then(ahead),
        }
    }

    /// Turns a step away that cannot work: the server does not answer, or is another sandbox's.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let machine = self.machine.borrow();
        let reason = || machine.reason.clone().unwrap_or_default();
        match machine.state {
            HealthState::Unreachable => {
                let (now, since) = (Instant::now(), machine.since.elapsed());
                let next = match self.next_probe.get() {
                    Some(at) if at > now => format!("in {}", seconds(at - now)),
                    _ => "now".to_owned(),
                };
                let reason =
                    format!("{}; it has not answered for {}, and is probed next {next}", reason(), seconds(since));
                Err(Failure::not_sent(ErrorKind::Unreachable { reason }))
            }
            HealthState::Gone => Err(Failure::not_sent(ErrorKind::Gone { reason: reason() })),
            _ => Ok(()),
        }
    }

    /// Whether the server has ever answered under this link, and not with a server error.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.get()
    }

    /// When the server last answered, with whatever.
    pub(super) fn last_answer(&self) -> Option<Instant> {
        self.last_answer.get()
    }

    /// The server is reached in another way from now on. What is still heard by the old way no longer counts.
    pub(crate) fn new_link(&self) {
        self.link.set(self.link.get() + 1);
        self.answered.set(false);
        self.hear(Heard::NewLink);
    }

    /// Another sandbox is behind the address.
    pub(crate) fn replaced(&self, reason: String) {
        self.hear(Heard::Replaced(reason));
    }

    /// The workspace has ended.
    pub(crate) fn end(&self) {
        self.hear(Heard::End);
    }

    fn hear(&self, heard: Heard) {
        let mut machine = self.machine.borrow_mut();
        let before = machine.state;
        machine.hear(heard, Instant::now());
        if machine.state != before {
            self.light.borrow().show(machine.state);
        }
    }

    pub(super) fn is_to_be_probed(&self) -> bool {
        self.machine.borrow().is_to_be_probed()
    }

    /// Takes the place of the one probe that there may be.
    pub(super) fn begin_probing(&self) -> bool {
        !self.probing.replace(true)
    }

    pub(super) fn end_probing(&self) {
        self.probing.set(false);
        self.next_probe.set(None);
    }

    pub(super) fn probe_at(&self, at: Instant) {
        self.next_probe.set(Some(at));
    }
}

fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} s", time.as_secs())
    }
}

/// Hears of the requests of one link.
pub(crate) struct LinkObserver {
    core: Weak<Core>,
    link: u64,
}

impl LinkObserver {
    /// Of the link as it is now.
    pub(crate) fn of(core: &Rc<Core>) -> Rc<Self> {
        Rc::new(Self { core: Rc::downgrade(core), link: core.health.link.get() })
    }

    /// The workspace, if this link is still its own.
    fn core(&self) -> Option<Rc<Core>> {
        self.core.upgrade().filter(|core| core.health.link.get() == self.link)
    }
}

impl Observer for LinkObserver {
    fn answered(&self, status: u16) {
        let Some(core) = self.core() else { return };
        let health = &core.health;
        health.last_answer.set(Some(Instant::now()));
        if status < 500 {
            health.answered.set(true);
            // Nearly every answer is this one, and nothing changes.
            if health.machine.borrow().state == HealthState::Ready && health.machine.borrow().failures() == 0 {
                return;
            }
            health.hear(Heard::Answer);
        } else {
            health.hear(Heard::Fault(status));
        }
    }

    fn failed(&self, failure: &Failure) {
        let Some(core) = self.core() else { return };
        let heard = match &failure.kind {
            ErrorKind::NotFound { .. } => return self.answered(404),
            ErrorKind::Gone { reason } => Heard::NoSandbox(reason.clone()),
            ErrorKind::Unreachable { reason } => Heard::Nothing(reason.clone()),
            ErrorKind::Tls { .. } | ErrorKind::Deadline { .. } => Heard::Nothing(failure.kind.to_string()),
            // What was wrong was on this side, or answered and made no sense.
            _ => return,
        };
        core.health.hear(heard);
        if core.health.is_to_be_probed() && core.health.begin_probing() {
            actix_rt::spawn(probe::until_it_answers(Rc::downgrade(&core)));
        }
    }

    fn was_cut(&self) {
        if let Some(core) = self.core() {
            core.attendant.look_soon();
        }
    }
}
