//! The events of a run, for whoever wants to know: JSON Lines for programs, text and a display for people, and files.
//!
//! `relay` hands each event to the sinks. `json` and `human` write stdout, `joblog`, `junit` and `results` files; `progress`
//! is what the terminal shows meanwhile.

mod body;
mod commands;
mod fold;
mod human;
mod joblog;
mod json;
mod junit;
mod lines;
mod ordered;
mod paint;
mod progress;
mod queue;
mod relay;
mod results;
mod resume;
#[cfg(test)]
mod sample;
mod screen;
mod shelf;
mod spill;
mod summary;
mod words;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
};

pub(super) use commands::Commands;
#[cfg(any(test, feature = "hot-paths"))]
pub(crate) use json::JsonLineWriter;
pub(super) use progress::{Progress, Watch};
pub(super) use relay::{Outlet, Relay, Unwritten};
pub(super) use resume::Resume;
pub(super) use screen::Screen;

use super::{args::ColorWhen, error::CliError};
use crate::fleet::{RunEvent, RunEventKind, TargetId, TargetValue};

/// Takes the events of a run, in order.
pub(super) trait Sink {
    /// Takes one event. The code is what the process would exit with if this were the last one.
    ///
    /// # Errors
    /// When what it writes to does not take it. It gets no more events then.
    fn event(&mut self, event: &RunEvent, exit_code: u8) -> io::Result<()>;

    /// Writes what it has kept back. Called when no further event waits.
    ///
    /// # Errors
    /// As above.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Box<dyn Sink + Send> {
    fn event(&mut self, event: &RunEvent, exit_code: u8) -> io::Result<()> {
        self.as_mut().event(event, exit_code)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.as_mut().flush()
    }
}

/// How the output of targets is arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Layout {
    /// Target by target, as they end.
    #[default]
    Grouped,
    /// The same, with the target before each line.
    Tagged,
    /// Line by line, as it comes.
    Live,
    /// Targets that ended alike are one group, at the end of the run.
    Folded,
}

/// How events are shown, and which files are written.
#[derive(Debug, Default)]
pub(super) struct Style {
    /// As JSON Lines.
    pub(super) json: bool,
    pub(super) color: ColorWhen,
    pub(super) layout: Layout,
    /// In the order of the targets.
    pub(super) keep_order: bool,
    pub(super) joblog: Option<PathBuf>,
    /// Whether lines are added to a joblog that is there.
    pub(super) append_joblog: bool,
    pub(super) junit: Option<PathBuf>,
    pub(super) results: Option<PathBuf>,
}

impl Style {
    /// Whether output must be reported while commands run.
    pub(super) fn takes_output(&self) -> bool {
        self.layout == Layout::Live || self.results.is_some()
    }

    /// The sinks of this style, for a run of this on these targets.
    ///
    /// # Errors
    /// When a file can not be written; it is told before anything is sent.
    pub(super) fn outlets(
        &self,
        commands: &Arc<Commands>,
        targets: &[Arc<str>],
        screen: &Screen,
    ) -> Result<Vec<Outlet>, CliError> {
        let live = self.layout == Layout::Live;
        let outlet = |what: String, takes_output, sink| Outlet { what, takes_output, sink, temporary: None };
        let mut outlets = vec![outlet("stdout".to_owned(), live, self.stdout(commands, targets, screen))];
        if let Some(file) = &self.joblog {
            let sink = joblog::Joblog::open(file, self.append_joblog, commands)?;
            outlets.push(outlet(file.display().to_string(), false, Box::new(sink)));
        }
        if let Some(file) = &self.junit {
            let sink = junit::Junit::create(file, commands)?;
            outlets.push(outlet(file.display().to_string(), false, Box::new(sink)));
        }
        if let Some(folder) = &self.results {
            let sink = results::Results::create(folder, commands, targets)?;
            let temporary = Some(sink.partial().to_owned());
            outlets.push(Outlet { temporary, ..outlet(folder.display().to_string(), true, Box::new(sink)) });
        }
        Ok(outlets)
    }

    fn stdout(&self, commands: &Arc<Commands>, targets: &[Arc<str>], screen: &Screen) -> Box<dyn Sink + Send> {
        let (out, err) = (screen::Above::stdout(screen), screen::Above::stderr(screen));
        let sink: Box<dyn Sink + Send> = if self.json {
            Box::new(json::JsonLines::new(out, Arc::clone(commands)))
        } else {
            let paints = (paint::Paint::new(self.color, &io::stdout()), paint::Paint::new(self.color, &io::stderr()));
            Box::new(human::Human::new(out, err, paints, self.layout))
        };
        // Lines of JSON are streamed: who reads them knows the targets of each.
        if self.keep_order && !self.json { Box::new(ordered::Ordered::new(sink, targets)) } else { sink }
    }
}

/// Whether stderr is a terminal on which something can be drawn.
pub(super) fn can_draw() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The target of an event, if it is of one.
fn target_of(kind: &RunEventKind) -> Option<&TargetId> {
    match kind {
        RunEventKind::TargetBegan { target, .. }
        | RunEventKind::TargetStarted { target, .. }
        | RunEventKind::Output { target, .. }
        | RunEventKind::TargetSlow { target, .. } => Some(target),
        RunEventKind::StepFinished(step) => Some(&step.target),
        RunEventKind::TargetRetried(target) | RunEventKind::TargetFinished(target) => Some(&target.target),
        RunEventKind::RunStarted { .. }
        | RunEventKind::TargetsAdded { .. }
        | RunEventKind::RunCancelled { .. }
        | RunEventKind::RunFinished(_) => None,
    }
}

/// About how many bytes of memory an event takes.
fn weight(kind: &RunEventKind) -> usize {
    let of_value = |value: Option<&TargetValue>| match value {
        Some(TargetValue::Command(result)) => result.command.len() + result.stdout.len() + result.stderr.len(),
        Some(TargetValue::Changes(changes)) => changes.iter().map(|change| 64 + change.path.len()).sum(),
        Some(TargetValue::Diff(diff)) => [&diff.original, &diff.modified].into_iter().flatten().map(String::len).sum(),
        _ => 0,
    };
    let more = match kind {
        RunEventKind::Output { text, .. } => text.len(),
        RunEventKind::StepFinished(step) => of_value(step.value.as_ref()),
        RunEventKind::TargetRetried(target) | RunEventKind::TargetFinished(target) => of_value(target.value.as_ref()),
        _ => 0,
    };
    512 + more
}
