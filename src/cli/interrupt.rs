use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use futures::future::join_all;
use rustix::process::{Pid, Signal, getpid, getppid, getsid, kill_process, kill_process_group};
use tokio::{
    runtime::Builder,
    signal::unix::{self, SignalKind, signal},
};

use super::{
    error::CliError,
    exit,
    output::{Progress, Screen},
};
use crate::{Fleet, agent::AgentHandle};

/// Ctrl-C, SIGTERM and SIGHUP: the first stops what runs and lets the program report it, the second ends the program. As long
/// as nothing runs, the first ends it.
///
/// They are taken on a thread of their own, so that neither a full pipe nor a slow disk can hold them up.
#[derive(Clone, Default)]
pub(super) struct Interrupt {
    state: Arc<Mutex<State>>,
}

/// How long leaving, or getting ready to be stopped, may take.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Default)]
struct State {
    interrupted: bool,
    /// Whether what the first signal ends is not the commands on the workspaces.
    leaves_commands: bool,
    cancel: Option<Box<dyn Fn() + Send>>,
    /// What holds sockets that must not be open while this process is stopped.
    fleet: Option<Fleet>,
    screen: Screen,
    progress: Progress,
    remove_when_leaving: Vec<PathBuf>,
    stop_when_leaving: Vec<Arc<AgentHandle>>,
    /// The process group of a program that is waited for.
    program: Option<Pid>,
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
                signals.end(&taken).await;
                taken.first();
                signals.end(&taken).await;
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

    /// Starts something that the first signal is to stop in the way that comes with it.
    pub(super) fn start<T, C: Fn() + Send + 'static>(&self, start: impl FnOnce() -> (T, C)) -> T {
        // Under the lock, so that a signal finds either nothing begun or something it can stop.
        let mut state = self.lock();
        let (started, cancel) = start();
        state.cancel = Some(Box::new(cancel));
        started
    }

    /// Says that the first signal does not stop the commands on the workspaces.
    pub(super) fn leave_commands_running(&self) {
        self.lock().leaves_commands = true;
    }

    /// Names the fleet whose sockets must not be open while this process is stopped.
    pub(super) fn suspend_when_paused(&self, fleet: Fleet) {
        self.lock().fleet = Some(fleet);
    }

    /// Names what is drawn on the terminal, which signals must find undisturbed, and what is told of a run when asked.
    pub(super) fn show(&self, screen: Screen, progress: Progress) {
        let mut state = self.lock();
        (state.screen, state.progress) = (screen, progress);
    }

    /// Names a directory that has no other way to be removed when the program leaves at once.
    pub(super) fn remove_when_leaving(&self, directory: &Path) {
        self.lock().remove_when_leaving.push(directory.to_owned());
    }

    /// Names an agent server of this process, whose commands would live on.
    pub(super) fn stop_when_leaving(&self, agent: Arc<AgentHandle>) {
        self.lock().stop_when_leaving.push(agent);
    }

    /// Names the process group of a program that is to end with this one, or none any more.
    pub(super) fn end_when_leaving(&self, program: Option<Pid>) {
        self.lock().program = program;
    }

    fn first(&self) {
        let mut state = self.lock();
        state.interrupted = true;
        let Some(cancel) = &state.cancel else {
            // What is waited for, such as a hostfile from a pipe, may never come.
            let _ = writeln!(io::stderr(), "wsfleet: interrupted; nothing was sent");
            state.leave();
        };
        cancel();
        let screen = state.screen.clone();
        let words = match state.leaves_commands {
            true => "wsfleet: leaving; the commands run on; once more leaves at once",
            false => "wsfleet: stopping; once more leaves at once, with commands left running",
        };
        drop(state);
        tell(screen, words.to_owned());
    }

    fn second(&self) -> ! {
        let state = self.lock();
        let screen = state.screen.clone();
        let (cleared, wait) = mpsc::channel();
        // A terminal that takes nothing must not keep the program from leaving.
        let clear = move || {
            screen.clear();
            let _ = cleared.send(());
        };
        if thread::Builder::new().spawn(clear).is_ok() {
            let _ = wait.recv_timeout(Duration::from_millis(200));
        }
        state.leave()
    }

    /// Tells what runs now.
    fn report(&self) {
        let state = self.lock();
        let (screen, progress) = (state.screen.clone(), state.progress.clone());
        drop(state);
        tell(screen, progress.report());
    }

    /// Stops this process until the shell lets it go on, with nothing left on the terminal meanwhile.
    fn pause(&self) {
        let state = self.lock();
        let (screen, fleet) = (state.screen.clone(), state.fleet.clone());
        drop(state);
        // Without a shell that knows of this process nobody would ever let it go on.
        let has_shell =
            getppid().is_some_and(|parent| matches!((getsid(Some(parent)), getsid(None)), (Ok(a), Ok(b)) if a == b));
        if !has_shell {
            return;
        }
        if let Some(fleet) = fleet.clone() {
            wait_for(async move { fleet.suspend().await });
        }
        if let Err(error) = screen.aside(stop_this_process) {
            log::warn!("can not stop: {error}");
        }
        if let Some(fleet) = fleet {
            wait_for(async move { fleet.resume().await });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends the program, and leaves behind what is on other machines only. It keeps the lock: nothing must begin any more.
    fn leave(&self) -> ! {
        if let Some(program) = self.program {
            // It may have ended.
            let _ = kill_process_group(program, Signal::TERM);
        }
        stop(&self.stop_when_leaving);
        for directory in &self.remove_when_leaving {
            // There is nobody left to tell.
            let _ = std::fs::remove_dir_all(directory);
        }
        process::exit(i32::from(exit::INTERRUPTED))
    }
}

/// Stops this process, and returns when it was let go on.
///
/// Sending the signal returns a little before it takes effect, in which time the screen would be drawn again: what tells of
/// the end is the signal that lets the process go on.
fn stop_this_process() -> io::Result<()> {
    let stop = || {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        runtime.block_on(async {
            let mut going_on = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
            kill_process(getpid(), Signal::STOP)?;
            let _ = tokio::time::timeout(PATIENCE, going_on.recv()).await;
            Ok(())
        })
    };
    // A thread of its own: whoever calls this is in a runtime already.
    let thread = thread::Builder::new().name("wsfleet-stopping".to_owned()).spawn(stop)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that stops panicked")))
}

/// Prints lines above what is drawn. A terminal that takes nothing must not hold up the next signal.
fn tell(screen: Screen, lines: String) {
    let print = move || screen.aside(|| drop(writeln!(io::stderr(), "{lines}")));
    let _ = thread::Builder::new().name("wsfleet-telling".to_owned()).spawn(print);
}

/// Stops the agents with their commands, all at once, and gives them up when that takes long.
fn stop(agents: &[Arc<AgentHandle>]) {
    if agents.is_empty() {
        return;
    }
    let agents = agents.to_vec();
    wait_for(async move { drop(join_all(agents.iter().map(|agent| agent.stop())).await) });
}

/// Waits for something, and gives it up when it takes long.
fn wait_for(work: impl Future<Output = ()> + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let work = move || {
        futures::executor::block_on(work);
        // Nobody waits any more when it took too long.
        let _ = done.send(());
    };
    if thread::Builder::new().name("wsfleet-waiting".to_owned()).spawn(work).is_ok() {
        let _ = wait.recv_timeout(PATIENCE);
    }
}

struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    report: unix::Signal,
    pause: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let pause = SignalKind::from_raw(rustix::process::Signal::TSTP.as_raw());
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            report: signal(SignalKind::user_defined1())?,
            pause: signal(pause)?,
        })
    }

    /// Waits for a signal that ends the program, and does meanwhile what others ask for.
    async fn end(&mut self, interrupt: &Interrupt) {
        let Self { interrupt: int, terminate, hangup, report, pause } = self;
        loop {
            tokio::select! {
                _ = int.recv() => return,
                _ = terminate.recv() => return,
                _ = hangup.recv() => return,
                _ = report.recv() => interrupt.report(),
                _ = pause.recv() => interrupt.pause(),
            }
        }
    }
}
