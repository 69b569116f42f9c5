use std::{
    io::{self, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rustix::termios::tcgetwinsize;

use super::board::Board;
use crate::{
    cli::{
        args::ProgressKind,
        output::{Screen, can_draw},
    },
    fleet::RunEvent,
};

/// How often the display is made anew.
const REDRAW: Duration = Duration::from_millis(100);

/// How often a line of the counter is printed when it was asked for.
const COUNTER: Duration = Duration::from_secs(5);

/// After how many of a hundred targets more it is printed too.
const STEP: usize = 10;

/// How often one is printed when it was not: only long runs have any.
const LONG_RUN: Duration = Duration::from_secs(60);

/// The columns of a terminal that does not say how wide it is.
const USUAL_WIDTH: u16 = 80;

/// How far a run has come, for everybody who wants to show it.
#[derive(Clone, Default)]
pub(in crate::cli) struct Progress {
    board: Arc<Mutex<Board>>,
}

impl Progress {
    /// Takes note of an event.
    pub(in crate::cli) fn note(&self, event: &RunEvent) {
        self.lock().note(event);
    }

    /// What runs now, in lines.
    pub(in crate::cli) fn report(&self) -> String {
        self.lock().report(Timestamp::now())
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows progress on a thread of its own, until it is dropped.
pub(in crate::cli) struct Watch {
    screen: Screen,
    thread: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Watch {
    /// The screen for what was asked for. A bar needs a terminal; elsewhere it is the counter.
    pub(in crate::cli) fn screen(kind: ProgressKind) -> Screen {
        let bar = matches!(kind, ProgressKind::Auto | ProgressKind::Bar) && can_draw();
        if bar { Screen::on_terminal() } else { Screen::default() }
    }

    /// Begins to show.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(in crate::cli) fn start(kind: ProgressKind, screen: Screen, progress: Progress) -> io::Result<Self> {
        let (ending, ended) = mpsc::channel();
        let shown = screen.clone();
        let show: Box<dyn FnOnce() + Send> = match kind {
            ProgressKind::None => return Ok(Self { screen, thread: None }),
            _ if screen.is_drawn() => Box::new(move || draw(&shown, &progress, &ended)),
            ProgressKind::Auto => Box::new(move || count(&progress, &ended, LONG_RUN, None)),
            ProgressKind::Bar | ProgressKind::Counter => {
                Box::new(move || count(&progress, &ended, COUNTER, Some(STEP)))
            }
        };
        let thread = thread::Builder::new().name("wsfleet-progress".to_owned()).spawn(show)?;
        Ok(Self { screen, thread: Some((ending, thread)) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((ending, thread)) = self.thread.take() {
            drop(ending);
            let _ = thread.join();
        }
        self.screen.clear();
    }
}

fn draw(screen: &Screen, progress: &Progress, ended: &mpsc::Receiver<()>) {
    while goes_on(ended, REDRAW) {
        let text = progress.lock().display(Timestamp::now(), usize::from(width()));
        screen.draw(text);
    }
}

/// Prints a line every so often, and each time so many of a hundred targets more have ended.
fn count(progress: &Progress, ended: &mpsc::Receiver<()>, every: Duration, step: Option<usize>) {
    let (mut last, mut steps) = (Instant::now(), 0);
    while goes_on(ended, REDRAW) {
        let board = progress.lock();
        let now = step.map_or(0, |step| board.percent() / step);
        if last.elapsed() < every && now <= steps {
            continue;
        }
        let line = board.line(Timestamp::now());
        drop(board);
        (last, steps) = (Instant::now(), now);
        // Nobody is there to be told that stderr is closed.
        let _ = writeln!(io::stderr(), "wsfleet: {line}");
    }
}

/// Waits, and says whether the run goes on.
fn goes_on(ended: &mpsc::Receiver<()>, wait: Duration) -> bool {
    ended.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Timeout)
}

/// The columns of the terminal, less one: some terminals wrap a line that is as long as they are wide.
fn width() -> u16 {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    (if columns == 0 { USUAL_WIDTH } else { columns }) - 1
}
