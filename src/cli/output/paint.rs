use std::fmt::Display;

use anstream::{AutoStream, ColorChoice, stream::RawStream};
use anstyle::{AnsiColor, Style};

use crate::{Outcome, cli::args::ColorWhen};

/// Colours for one stream, or none.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours as asked for; by itself on a terminal, unless the environment says otherwise.
    pub(super) fn new(when: ColorWhen, stream: &impl RawStream) -> Self {
        let on = match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => AutoStream::choice(stream) != ColorChoice::Never,
        };
        Self { on }
    }

    #[cfg(test)]
    pub(super) const fn fixed(on: bool) -> Self {
        Self { on }
    }

    /// The headline of a target.
    pub(super) fn headline(self, outcome: Outcome, text: impl Display) -> String {
        self.with(color_of(outcome).on_default().bold(), text)
    }

    /// What is said of an outcome.
    pub(super) fn outcome(self, outcome: Outcome, text: impl Display) -> String {
        self.with(color_of(outcome).on_default(), text)
    }

    /// The mark before a line.
    pub(super) fn mark(self, text: impl Display) -> String {
        self.with(AnsiColor::Cyan.on_default(), text)
    }

    /// The mark before a line of stderr.
    pub(super) fn stderr_mark(self, text: impl Display) -> String {
        self.with(AnsiColor::Magenta.on_default(), text)
    }

    fn with(self, style: Style, text: impl Display) -> String {
        if self.on { format!("{style}{text}{style:#}") } else { text.to_string() }
    }
}

const fn color_of(outcome: Outcome) -> AnsiColor {
    match outcome {
        Outcome::Succeeded => AnsiColor::Green,
        Outcome::TimedOut | Outcome::Stopped | Outcome::Skipped => AnsiColor::Yellow,
        _ => AnsiColor::Red,
    }
}
