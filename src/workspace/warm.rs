//! The clients that the workspaces of one arbiter hold for their next request, and when they are dropped.
//!
//! A client and its connection are many times what an idle workspace takes. One task an arbiter looks at all of them now
//! and then: a timer and a task for each would cost as much again.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use super::core::Core;
use crate::client::AgentClient;

/// How long a client without use is kept; servers close idle connections after 5 s.
pub(super) const IDLE: Duration = Duration::from_secs(4);

/// More than so many on one arbiter are a crowd,
const CROWD: usize = 128;

/// in which only those are kept that were used a moment ago, and those of workspaces that came back for theirs before: a
/// workspace that runs one command after another connects once more, and not again. A run over thousands of workspaces
/// with a command each would otherwise hold a connection to all of them.
const IDLE_IN_A_CROWD: Duration = Duration::from_millis(25);

/// How far apart the looks at all clients are.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
/// The same in a crowd, for each client, so that it is a small part of the time in which somebody looks.
const BETWEEN_LOOKS_FOR_EACH: Duration = Duration::from_micros(20);
/// How far apart looks in a crowd are at least, and those at clients that are new in it, which go soon or are needed for longer.
const BETWEEN_LOOKS_AT_NEW_ONES: Duration = Duration::from_millis(10);

thread_local! {
    static WARM: RefCell<Warm> = RefCell::default();
}

#[derive(Default)]
struct Warm {
    /// Those that were taken in since the last look, and of a crowd those that will have to go very soon: few, since nothing
    /// stays among them for long.
    new: Vec<Entry>,
    rest: Vec<Entry>,
    /// Whether the task runs.
    looking: bool,
}

/// A client, by its workspace and its generation there.
struct Entry {
    core: Weak<Core>,
    generation: u64,
}

/// Takes in that a workspace holds a client, of this generation.
pub(super) fn keep(core: &Rc<Core>, generation: u64) {
    let begin = WARM.with_borrow_mut(|warm| {
        warm.new.push(Entry { core: Rc::downgrade(core), generation });
        !std::mem::replace(&mut warm.looking, true)
    });
    if begin {
        actix_rt::spawn(look(Looking));
    }
}

/// The task's line in the thread's book, which is struck out when the runtime of the thread ends the task.
struct Looking;

impl Drop for Looking {
    fn drop(&mut self) {
        // While a thread ends this may be gone already.
        let _ = WARM.try_with(|warm| std::mem::take(&mut *warm.borrow_mut()));
    }
}

async fn look(_looking: Looking) {
    let mut all_seen = Instant::now();
    loop {
        let (between, has_new) =
            WARM.with_borrow(|warm| (warm.between_looks(), warm.is_crowd() && !warm.new.is_empty()));
        actix_rt::time::sleep(if has_new { BETWEEN_LOOKS_AT_NEW_ONES } else { between }).await;
        let sees_all = all_seen.elapsed() >= between;
        if sees_all {
            all_seen = Instant::now();
        }
        let (idle, done) = WARM.with_borrow_mut(|warm| (warm.take_idle(sees_all), warm.is_empty()));
        // Closing a connection may wake whoever waits for it.
        drop(idle);
        if done {
            return;
        }
    }
}

impl Warm {
    const fn is_crowd(&self) -> bool {
        self.new.len() + self.rest.len() > CROWD
    }

    /// How far apart the looks at all clients are.
    fn between_looks(&self) -> Duration {
        match self.is_crowd() {
            true => (BETWEEN_LOOKS_FOR_EACH * self.rest.len() as u32).clamp(BETWEEN_LOOKS_AT_NEW_ONES, BETWEEN_LOOKS),
            false => BETWEEN_LOOKS,
        }
    }

    const fn is_empty(&self) -> bool {
        self.new.is_empty() && self.rest.is_empty()
    }

    /// Looks at the new clients, or at all, and takes those that go.
    fn take_idle(&mut self, sees_all: bool) -> Vec<AgentClient> {
        let is_crowd = self.is_crowd();
        let mut idle = Vec::new();
        if sees_all {
            self.rest.retain(|entry| entry.look(is_crowd, &mut idle).is_some());
        }
        for entry in std::mem::take(&mut self.new) {
            match entry.look(is_crowd, &mut idle) {
                Some(Stay::Brief) => self.new.push(entry),
                Some(Stay::Longer) => self.rest.push(entry),
                None => {}
            }
        }
        idle
    }
}

/// How long a client that is not dropped now is likely to stay.
enum Stay {
    Brief,
    Longer,
}

impl Entry {
    /// Whether the client stays. One whose time is over goes to the idle ones.
    fn look(&self, is_crowd: bool, idle: &mut Vec<AgentClient>) -> Option<Stay> {
        let core = self.core.upgrade()?;
        let (patience, stay) = match is_crowd && !core.needs_client_soon() {
            true => (IDLE_IN_A_CROWD, Stay::Brief),
            false => (IDLE, Stay::Longer),
        };
        match core.idle_client(self.generation, patience) {
            Held::InUse => Some(Stay::Longer),
            Held::Kept => Some(stay),
            Held::Other => None,
            Held::Idle(client) => {
                idle.push(client);
                None
            }
        }
    }
}

/// What a workspace says of a client that it held.
pub(super) enum Held {
    /// It holds it still, and a request is under way.
    InUse,
    /// It holds it still, and it was used lately.
    Kept,
    /// It holds none, or another one.
    Other,
    /// It has given it up now.
    Idle(AgentClient),
}
