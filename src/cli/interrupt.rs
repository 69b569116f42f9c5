use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{error::CliError, exit};

/// Ctrl-C, SIGTERM and SIGHUP: the first stops what runs and lets the program report it, the second ends the program.
///
/// They are taken on a thread of their own, so that neither a full pipe nor a slow disk can hold them up.
#[derive(Clone, Default)]
pub(super) struct Interrupt {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    interrupted: bool,
    cancel: Option<Box<dyn Fn() + Send>>,
    remove_when_leaving: Vec<PathBuf>,
}

impl Interrupt {
    /// Begins to take signals.
    pub(super) fn listen() -> Result<Self, CliError> {
        let failed = |error: io::Error| CliError::internal(format!("can not handle signals: {error}"));
        let interrupt = Self::default();
        let runtime = Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let mut signals = {
            let _context = runtime.enter();
            Signals::new().map_err(failed)?
        };
        let taken = interrupt.clone();
        let take = move || {
            runtime.block_on(async {
                signals.next().await;
                taken.first();
                signals.next().await;
                taken.second();
            });
        };
        thread::Builder::new().name("wsfleet-signals".to_owned()).spawn(take).map_err(failed)?;
        Ok(interrupt)
    }

    /// Whether there was a signal.
    pub(super) fn is_interrupted(&self) -> bool {
        self.lock().interrupted
    }

    /// Says how to stop what runs; done at once when there was a signal already.
    pub(super) fn on_first(&self, cancel: impl Fn() + Send + 'static) {
        let mut state = self.lock();
        if state.interrupted {
            cancel();
        }
        state.cancel = Some(Box::new(cancel));
    }

    /// Names a directory that has no other way to be removed when the program leaves at once.
    pub(super) fn remove_when_leaving(&self, directory: &Path) {
        self.lock().remove_when_leaving.push(directory.to_owned());
    }

    fn first(&self) {
        let mut state = self.lock();
        state.interrupted = true;
        if let Some(cancel) = &state.cancel {
            cancel();
        }
        drop(state);
        let _ = writeln!(io::stderr(), "wsfleet: stopping; once more leaves at once, with commands left running");
    }

    fn second(&self) -> ! {
        for directory in &self.lock().remove_when_leaving {
            // There is nobody left to tell.
            let _ = std::fs::remove_dir_all(directory);
        }
        process::exit(i32::from(exit::INTERRUPTED))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
