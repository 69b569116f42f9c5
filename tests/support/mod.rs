//! What the tests over real sockets share: servers to talk to, a proxy that spoils things, and eyes in the sandbox.

pub(crate) mod boot;
pub(crate) mod http;
pub(crate) mod memory;
pub(crate) mod pattern;
pub(crate) mod processes;
pub(crate) mod proxy;
pub(crate) mod server;

use std::time::{Duration, Instant};

/// Waits until something holds, and says whether it did in time.
pub(crate) async fn eventually(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let give_up = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= give_up {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
