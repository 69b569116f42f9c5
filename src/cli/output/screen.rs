use std::io::{self, IsTerminal as _, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the terminal is drawn in a second at most.
const REDRAWS: u8 = 10;

/// What is drawn at the bottom of the terminal while a run goes on, if anything is. Lines are printed above it.
#[derive(Clone, Default)]
pub(in crate::cli) struct Screen {
    bar: Option<ProgressBar>,
}

impl Screen {
    /// A screen that draws on stderr, which is a terminal.
    pub(in crate::cli) fn on_terminal() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAWS));
        // The text is made elsewhere; the template has no part that could be wrong.
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        Self { bar: Some(bar.with_style(style)) }
    }

    /// Whether anything is drawn at all.
    pub(in crate::cli) fn is_drawn(&self) -> bool {
        self.bar.is_some()
    }

    /// Does something while nothing is drawn, and draws again.
    pub(in crate::cli) fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) if !bar.is_finished() => bar.suspend(act),
            _ => act(),
        }
    }

    /// Draws this from now on.
    pub(super) fn draw(&self, text: String) {
        if let Some(bar) = &self.bar
            && !bar.is_finished()
            && bar.message() != text
        {
            bar.set_message(text);
        }
    }

    /// Clears what is drawn, for good.
    pub(in crate::cli) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A stream that is written when it is flushed, at once, and above what is drawn where both are on the terminal.
pub(super) struct Above<W> {
    stream: W,
    /// Absent where the stream does not end on the terminal: whoever reads it may stall, and the screen must not.
    screen: Option<Screen>,
    waiting: Vec<u8>,
}

/// How many bytes wait at most where no line can be torn.
const WAITING: usize = 64 << 10;

impl Above<io::Stdout> {
    pub(super) fn stdout(screen: &Screen) -> Self {
        let stream = io::stdout();
        let on_terminal = stream.is_terminal() && screen.is_drawn();
        Self { stream, screen: on_terminal.then(|| screen.clone()), waiting: Vec::new() }
    }
}

impl Above<io::Stderr> {
    pub(super) fn stderr(screen: &Screen) -> Self {
        Self { stream: io::stderr(), screen: screen.is_drawn().then(|| screen.clone()), waiting: Vec::new() }
    }
}

impl<W: Write> Write for Above<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.screen.is_none() && self.waiting.len() > WAITING {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let Self { stream, screen, waiting } = self;
        let mut write = || stream.write_all(waiting).and_then(|()| stream.flush());
        let written = match screen {
            Some(screen) => screen.aside(write),
            None => write(),
        };
        self.waiting.clear();
        written
    }
}
