use std::{io, thread};

use actix::{Addr, AsyncContext as _, Context};
use tokio::sync::{oneshot, watch};

use super::{End, FleetSupervisor};
use crate::workspace::{Exit, Guarded};

/// The threads of a fleet. Dropping it signals their end.
pub(crate) struct Runtime {
    pub(crate) supervisor: Addr<FleetSupervisor>,
    /// Closed when the threads have ended.
    alive: watch::Receiver<()>,
}

impl Runtime {
    /// Starts one thread for the supervisor and `arbiters` for the workspaces.
    pub(crate) fn start(arbiters: usize) -> io::Result<Self> {
        let (keep_alive, alive) = watch::channel(());
        let (started, supervisor) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new().name("wsfleet-supervisor".to_owned()).spawn(move || {
            let arbiters = actix_rt::System::new().block_on(async move {
                let (ended, arbiters_left) = oneshot::channel();
                let context = Context::new();
                let supervisor = context.address();
                actix_rt::spawn(guard(Guarded::new(context, FleetSupervisor::new(arbiters, ended))));
                // Whoever waits for this is in `start`, below.
                let _ = started.send(supervisor);
                arbiters_left.await.unwrap_or_default()
            });
            for arbiter in arbiters {
                // A thread that panicked has ended, too.
                let _ = arbiter.join();
            }
            drop(keep_alive);
        })?;
        let supervisor = supervisor.recv().map_err(|_| io::Error::other("the supervisor's thread ended at once"))?;
        Ok(Self { supervisor, alive })
    }

    /// Waits until the threads have ended.
    pub(crate) async fn ended(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // A signal without work in it; an end that was asked for already makes it superfluous.
        self.supervisor.do_send(End);
    }
}

/// Keeps the supervisor going: a panic in it costs the message that it was handling.
async fn guard(mut supervisor: Guarded<FleetSupervisor>) {
    while let Exit::Panicked(said) = supervisor.run().await {
        log::error!("the fleet's supervisor panicked: {said}");
        if !supervisor.restart() {
            return;
        }
    }
}
