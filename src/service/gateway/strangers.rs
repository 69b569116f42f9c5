use std::cell::Cell;

use super::answer::Refusal;

/// How many sockets of a worker wait for their key at once, and how many who have none are told how a workspace does.
const SOCKETS: usize = 128;
const ASKING: usize = 128;

thread_local! {
    static WAITING: [Cell<usize>; 2] = const { [Cell::new(0), Cell::new(0)] };
}

/// What somebody does who has shown no key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Does {
    /// Has opened a socket and has still to send the key.
    OpensSocket,
    /// Asks how a workspace does.
    AsksForHealth,
}

/// Somebody who has shown no key, for as long as this is there: there are never many of them.
pub(super) struct Stranger(Does);

impl Stranger {
    pub(super) fn enter(does: Does) -> Result<Self, Refusal> {
        let most = match does {
            Does::OpensSocket => SOCKETS,
            Does::AsksForHealth => ASKING,
        };
        WAITING.with(|waiting| {
            let waiting = &waiting[does as usize];
            if waiting.get() >= most {
                return Err(Refusal::overloaded("too many at once have shown no key: send one with the request"));
            }
            waiting.set(waiting.get() + 1);
            Ok(Self(does))
        })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // While a thread ends what it counted may be gone already.
        let _ = WAITING.try_with(|waiting| {
            let waiting = &waiting[self.0 as usize];
            waiting.set(waiting.get() - 1);
        });
    }
}
