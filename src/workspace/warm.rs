//! The clients that the workspaces of one arbiter hold for their next request, and when they are dropped.
//!
//! A client and its connection are many times what an idle workspace takes. One task an arbiter looks at all of them now
//! and then: a timer and a task for each would cost as much again.

use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    time::Duration,
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

/// How far apart the looks are.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);
const BETWEEN_LOOKS_AT_A_CROWD: Duration = Duration::from_millis(10);

thread_local! {
    static WARM: RefCell<Warm> = RefCell::default();
}

#[derive(Default)]
struct Warm {
    clients: Vec<(Weak<Core>, u64)>,
    /// Whether the task runs.
    looking: bool,
}

/// Takes in that a workspace holds a client, of this generation.
pub(super) fn keep(core: &Rc<Core>, generation: u64) {
    let begin = WARM.with_borrow_mut(|warm| {
        warm.clients.push((Rc::downgrade(core), generation));
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
    loop {
        let is_crowd = WARM.with_borrow(Warm::is_crowd);
        actix_rt::time::sleep(if is_crowd { BETWEEN_LOOKS_AT_A_CROWD } else { BETWEEN_LOOKS }).await;
        let (idle, done) = WARM.with_borrow_mut(|warm| (warm.take_idle(), warm.clients.is_empty()));
        // Closing a connection may wake whoever waits for it.
        drop(idle);
        if done {
            return;
        }
    }
}

impl Warm {
    const fn is_crowd(&self) -> bool {
        self.clients.len() > CROWD
    }

    fn take_idle(&mut self) -> Vec<AgentClient> {
        let patience = if self.is_crowd() { IDLE_IN_A_CROWD } else { IDLE };
        let mut idle = Vec::new();
        self.clients.retain(|(core, generation)| {
            let Some(core) = core.upgrade() else { return false };
            let patience = if core.needs_client_soon() { IDLE } else { patience };
            match core.idle_client(*generation, patience) {
                Held::Kept => true,
                Held::Other => false,
                Held::Idle(client) => {
                    idle.push(client);
                    false
                }
            }
        });
        idle
    }
}

/// What a workspace says of a client that it held.
pub(super) enum Held {
    /// It holds it still, and it was used lately or is in use.
    Kept,
    /// It holds none, or another one.
    Other,
    /// It has given it up now.
    Idle(AgentClient),
}
