//! The events of a run as text: JSON Lines for programs, grouped or live lines for people.

mod body;
mod human;
mod json;
mod lines;
mod paint;
mod words;

use std::io;

use super::args::ColorWhen;
use crate::fleet::RunEvent;

/// Shows events.
pub(super) trait Sink {
    /// Shows one event. The code is what the process would exit with if this were the last one.
    ///
    /// # Errors
    /// When stdout does not take it.
    fn event(&mut self, event: &RunEvent, exit_code: u8) -> io::Result<()>;
}

/// How events are shown.
pub(super) struct Style {
    /// As JSON Lines.
    pub(super) json: bool,
    pub(super) color: ColorWhen,
    /// Live, line by line.
    pub(super) stream: bool,
    /// Whether the operation is a command, whose fields then are those of JSON.
    pub(super) command: bool,
}

/// The sink for this style on stdout and stderr.
pub(super) fn sink(style: &Style) -> Box<dyn Sink> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    if style.json {
        return Box::new(json::JsonLines::new(io::BufWriter::new(stdout), style.command));
    }
    let paint = (paint::Paint::new(style.color, &stdout), paint::Paint::new(style.color, &stderr));
    Box::new(human::Human::new(io::BufWriter::new(stdout), stderr, paint, style.stream))
}
