use std::{
    collections::HashSet,
    fmt::Display,
    io::{self, Write},
};

use super::{Layout, Sink, body, fold::Fold, lines::Lines, paint::Paint, summary::Summary, words};
use crate::{
    Outcome, OutputStream,
    fleet::{CancelReason, RunEvent, RunEventKind, StepFinished, TargetFinished, TargetId, TargetValue},
};

/// Text for people: what each target gave, target by target or live, then a summary with every failure.
///
/// What commands write to their stdout goes to stdout as it is; what they write to their stderr goes to stderr, marked.
pub(super) struct Human<O, E> {
    to: Streams<O, E>,
    layout: Layout,
    lines: Lines,
    fold: Fold,
    /// The targets of which steps were shown: their last step is not shown again.
    stepped: HashSet<TargetId>,
    summary: Summary,
}

impl<O: Write, E: Write> Human<O, E> {
    pub(super) fn new(out: O, err: E, (paint_out, paint_err): (Paint, Paint), layout: Layout) -> Self {
        let to = Streams { out, err, paint_out, paint_err };
        let (lines, fold) = (Lines::default(), Fold::default());
        Self { to, layout, lines, fold, stepped: HashSet::new(), summary: Summary::default() }
    }

    fn output(&mut self, target: &str, stream: OutputStream, text: &str) -> io::Result<()> {
        let Self { to, lines, .. } = self;
        let mut written = Ok(());
        lines.take(target, stream, text, |line| {
            if written.is_ok() {
                written = to.marked(target, stream, line);
            }
        });
        written
    }

    fn step(&mut self, step: &StepFinished) -> io::Result<()> {
        self.summary.note_step(step);
        self.stepped.insert(step.target.clone());
        let target = step.target.label();
        let label = || format!("{target} {}", words::one_line(&step.step));
        match self.layout {
            Layout::Live => self.live_end(target, step.value.as_ref()),
            Layout::Tagged => self.tagged(target, step.value.as_ref()),
            Layout::Grouped => {
                let headline = body::headline_of(&label(), step.outcome, step.value.as_ref(), step.duration);
                self.group(target, &headline, step.outcome, step.value.as_ref())
            }
            Layout::Folded => self.fold.step(step),
        }
    }

    fn target(&mut self, target: &TargetFinished) -> io::Result<()> {
        self.summary.note(target);
        let label = target.target.label();
        let value = if self.stepped.remove(&target.target) { None } else { target.value.as_ref() };
        if let Some(TargetValue::Started(id)) = value {
            // A line that `attach --from` and `stop --from` read.
            return writeln!(self.to.out, "{label}\t{id}");
        }
        match self.layout {
            Layout::Live => self.live_end(label, value),
            // The summary counts them; there may be thousands, and there is nothing to say of any.
            _ if target.outcome == Outcome::Skipped => Ok(()),
            Layout::Tagged => self.tagged(label, value),
            Layout::Grouped => self.group(label, &body::headline(target), target.outcome, value),
            Layout::Folded => self.fold.add(target),
        }
    }

    /// Ends the last line of a target, and prints what was not printed as it came.
    fn live_end(&mut self, target: &str, value: Option<&TargetValue>) -> io::Result<()> {
        let Self { to, lines, .. } = self;
        let mut written = Ok(());
        lines.finish(target, |stream, line| {
            if written.is_ok() {
                written = to.marked(target, stream, line);
            }
        });
        written?;
        self.tagged(target, value.filter(|value| !matches!(value, TargetValue::Command(_))))
    }

    fn tagged(&mut self, label: &str, value: Option<&TargetValue>) -> io::Result<()> {
        for line in value.map(body::text).unwrap_or_default().lines() {
            self.to.marked(label, OutputStream::Stdout, line)?;
        }
        if let Some(TargetValue::Command(result)) = value {
            self.to.stderr_lines(label, &result.stderr)?;
        }
        Ok(())
    }

    fn group(&mut self, label: &str, headline: &str, outcome: Outcome, value: Option<&TargetValue>) -> io::Result<()> {
        self.to.headline(outcome, headline)?;
        let Some(value) = value else { return Ok(()) };
        ended_lines(&mut self.to.out, &body::text(value))?;
        match value {
            TargetValue::Command(result) => self.to.stderr_lines(label, &result.stderr),
            _ => Ok(()),
        }
    }

    fn retried(&mut self, target: &TargetFinished) {
        self.stepped.remove(&target.target);
        self.fold.forget(&target.target);
        self.summary.forget_output(&target.target);
        let reason = body::reason(target).unwrap_or_default();
        let attempt = target.attempt;
        self.to
            .note(Outcome::TimedOut, format_args!("{}: attempt {attempt} {reason}; once more", target.target.label()));
    }
}

impl<O: Write, E: Write> Sink for Human<O, E> {
    fn event(&mut self, event: &RunEvent, exit_code: u8) -> io::Result<()> {
        match &event.kind {
            RunEventKind::Output { target, stream, text } if self.layout == Layout::Live => {
                self.output(target.label(), *stream, text)?;
            }
            RunEventKind::StepFinished(step) => self.step(step)?,
            RunEventKind::TargetRetried(target) => {
                if self.layout == Layout::Live {
                    self.live_end(target.target.label(), None)?;
                }
                self.retried(target);
            }
            RunEventKind::TargetFinished(target) => self.target(target)?,
            RunEventKind::TargetSlow { target, running_for } => {
                let time = words::duration(*running_for);
                self.to.note(Outcome::TimedOut, format_args!("{}: slow, has been running for {time}", target.label()));
            }
            // Whoever interrupts it is told by the handler of the signal.
            RunEventKind::RunCancelled { reason } if *reason != CancelReason::Cancelled => {
                self.to.note(Outcome::Failed, format_args!("wsfleet: the run ends early: {}", reason.describe()));
            }
            RunEventKind::RunFinished(summary) => {
                self.fold.print(&mut self.to)?;
                self.to.flush()?;
                self.summary.tell(&mut self.to.err, self.to.paint_err, summary, exit_code);
            }
            _ => {}
        }
        self.to.flush()
    }
}

/// Where text goes.
pub(super) struct Streams<O, E> {
    pub(super) out: O,
    err: E,
    paint_out: Paint,
    paint_err: Paint,
}

impl<O: Write, E: Write> Streams<O, E> {
    pub(super) fn headline(&mut self, outcome: Outcome, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{}", self.paint_out.headline(outcome, format_args!("== {text}")))
    }

    /// A line of output with its target before it.
    fn marked(&mut self, target: &str, stream: OutputStream, line: &str) -> io::Result<()> {
        match stream {
            OutputStream::Stdout => writeln!(self.out, "{} {line}", self.paint_out.mark(format_args!("{target}:"))),
            OutputStream::Stderr => self.stderr_lines(target, line),
        }
    }

    pub(super) fn stderr_lines(&mut self, target: &str, text: &str) -> io::Result<()> {
        // Before stderr, so that both are in order where they end on one terminal.
        self.out.flush()?;
        for line in text.lines() {
            // A closed stderr must not spoil what stdout is told.
            let _ = writeln!(self.err, "{} {line}", self.paint_err.stderr_mark(format_args!("{target} stderr:")));
        }
        let _ = self.err.flush();
        Ok(())
    }

    fn note(&mut self, outcome: Outcome, text: impl Display) {
        let _ = writeln!(self.err, "{}", self.paint_err.outcome(outcome, text));
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let _ = self.err.flush();
        Ok(())
    }
}

/// Writes a text, and ends its last line where it does not.
pub(super) fn ended_lines(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::output::sample, fleet::TargetId};

    fn show(kinds: Vec<RunEventKind>, color: bool, layout: Layout, exit_code: u8) -> (String, String) {
        let paint = Paint::fixed(color);
        let mut human = Human::new(Vec::new(), Vec::new(), (paint, paint), layout);
        for event in sample::events(kinds) {
            human.event(&event, exit_code).unwrap();
        }
        (String::from_utf8(human.to.out).unwrap(), String::from_utf8(human.to.err).unwrap())
    }

    /// A run in which all there is happens.
    fn eventful() -> Vec<RunEventKind> {
        let RunEventKind::TargetFinished(mut flaky) = sample::ran("w3", 0, "fine\n", "") else { unreachable!() };
        flaky.attempt = 2;
        let RunEventKind::TargetFinished(mut job) = sample::ran("w1", 0, "built\n", "") else { unreachable!() };
        job.target = TargetId { workspace: "w1".into(), job: Some("job-1".into()) };
        vec![
            sample::started(7, 4),
            sample::began("w1"),
            sample::slow("w2", 61),
            sample::ran("w2", 0, "same\n", "warning\n"),
            sample::retried("w3"),
            RunEventKind::TargetFinished(flaky),
            sample::step("build"),
            RunEventKind::TargetFinished(job),
            sample::ran("w4", 0, "same\n", "warning\n"),
            sample::ran("w5", 3, "same\n", "warning\n"),
            sample::unusable("w6"),
            RunEventKind::RunCancelled { reason: CancelReason::MaxFailWait },
            sample::finished(Outcome::Skipped, None),
            sample::run_finished(
                &[(Outcome::Succeeded, 4), (Outcome::Failed, 1), (Outcome::Unreachable, 1), (Outcome::Skipped, 1)],
                1,
                Some(CancelReason::MaxFailWait),
            ),
        ]
    }

    #[test]
    fn every_layout_of_a_run() {
        for (name, layout) in [("grouped", Layout::Grouped), ("tagged", Layout::Tagged), ("folded", Layout::Folded)] {
            let (out, err) = show(eventful(), false, layout, 7);
            insta::assert_snapshot!(format!("human_{name}"), format!("--- stdout\n{out}--- stderr\n{err}"));
        }
    }

    #[test]
    fn a_target_is_a_group_and_its_stderr_is_marked() {
        let (out, err) = show(vec![sample::failed()], false, Layout::Grouped, 5);
        assert_eq!(out, "== w1: failed, exit 3, 1.5 s\nno newline\n");
        assert_eq!(err, "w1 stderr: bad\nw1 stderr: worse\n");
    }

    #[test]
    fn the_summary_tells_every_failure_and_counts() {
        let skipped = sample::finished(Outcome::Skipped, None);
        let counts = [(Outcome::Succeeded, 2), (Outcome::Failed, 1), (Outcome::Skipped, 1)];
        let events = vec![sample::failed(), skipped, sample::summary(&counts)];
        let (out, err) = show(events, false, Layout::Grouped, 130);
        assert!(
            err.ends_with("w1: failed: exit 3\n4 targets in 2.0 s: interrupted, 2 succeeded, 1 failed, 1 skipped\n"),
            "{err}"
        );
        assert!(!out.contains("skipped"), "{out}");
    }

    #[test]
    fn of_thousands_of_failures_the_rest_is_counted() {
        let failures = (0..2_003).map(|number| sample::ran(&format!("w{number}"), 1, "", ""));
        let events = failures.chain([sample::summary(&[(Outcome::Failed, 2_003)])]).collect();
        let (_, err) = show(events, false, Layout::Folded, 5);
        assert_eq!(err.lines().filter(|line| line.ends_with(": failed: exit 1")).count(), 2_000);
        assert!(err.contains("\nand 3 more: see --joblog"), "{err}");
    }

    #[test]
    fn what_was_cut_is_told() {
        let RunEventKind::TargetFinished(mut cut) = sample::ran("w1", 0, "ab", "") else { unreachable!() };
        let Some(TargetValue::Command(result)) = &mut cut.value else { unreachable!() };
        (result.truncated, result.stdout_bytes) = (true, 900);
        let events = vec![RunEventKind::TargetFinished(cut), sample::summary(&[(Outcome::Succeeded, 1)])];
        let (_, err) = show(events, false, Layout::Grouped, 0);
        assert!(err.contains("output of 1 target was cut: raise --max-output"), "{err}");
    }

    #[test]
    fn what_was_cut_in_a_try_that_was_not_the_last_is_not_told() {
        let RunEventKind::StepFinished(mut step) = sample::step("build") else { unreachable!() };
        let Some(TargetValue::Command(result)) = &mut step.value else { unreachable!() };
        result.truncated = true;
        result.stdout_bytes = 100;
        let ended = |workspace: &str, event: RunEventKind| {
            let (RunEventKind::TargetFinished(mut ended) | RunEventKind::TargetRetried(mut ended)) = event else {
                unreachable!()
            };
            ended.target = TargetId { workspace: workspace.into(), job: Some("job-1".into()) };
            ended
        };
        let retried = RunEventKind::TargetRetried(ended("w1", sample::retried("w1")));
        let moved = RunEventKind::TargetFinished(ended("w2", sample::ran("w2", 0, "fine\n", "")));
        let cut = vec![RunEventKind::StepFinished(step), sample::summary(&[(Outcome::Succeeded, 1)])];
        assert!(show(cut.clone(), false, Layout::Grouped, 0).1.contains("was cut"));
        let events = vec![cut[0].clone(), retried, moved, cut[1].clone()];
        let (_, err) = show(events, false, Layout::Grouped, 0);
        assert!(!err.contains("was cut"), "{err}");
    }

    #[test]
    fn targets_are_folded_only_when_all_is_the_same() {
        let events = vec![
            sample::ran("a", 0, "x\n", ""),
            sample::ran("b", 0, "x\n", ""),
            sample::ran("c", 1, "x\n", ""),
            sample::ran("d", 0, "x\n", "y\n"),
            sample::ran("e", 0, "y\n", "x\n"),
            sample::summary(&[]),
        ];
        let (out, _) = show(events, false, Layout::Folded, 5);
        let headlines: Vec<&str> = out.lines().filter(|line| line.starts_with("==")).collect();
        assert_eq!(
            headlines,
            [
                "== a,b (2): succeeded, exit 0",
                "== c (1): failed, exit 1",
                "== d (1): succeeded, exit 0",
                "== e (1): succeeded, exit 0"
            ]
        );
    }

    #[test]
    fn folded_output_beyond_memory_comes_back() {
        let text = |number: usize| format!("{number}").repeat(7 << 20);
        let mut events: Vec<_> =
            (0..4).map(|number| sample::ran(&format!("w{number}"), 0, &text(number), "")).collect();
        events.push(sample::summary(&[]));
        let (out, _) = show(events, false, Layout::Folded, 0);
        let lines: Vec<&str> = out.lines().collect();
        for number in 0..4 {
            assert!(lines.contains(&text(number).as_str()), "the output of {number} is missing");
        }
    }

    #[test]
    fn live_output_is_marked_line_by_line() {
        let events = vec![
            sample::output("w1", OutputStream::Stdout, "one\ntw"),
            sample::output("w1", OutputStream::Stderr, "oh\n"),
            sample::output("w1", OutputStream::Stdout, "o"),
            sample::failed(),
        ];
        let (out, err) = show(events, false, Layout::Live, 5);
        assert_eq!(out, "w1: one\nw1: two\n");
        assert_eq!(err, "w1 stderr: oh\n");
    }

    #[test]
    fn colours_only_where_asked_for() {
        let (plain, _) = show(vec![sample::failed()], false, Layout::Grouped, 5);
        let (coloured, _) = show(vec![sample::failed()], true, Layout::Grouped, 5);
        assert!(!plain.contains('\u{1b}') && coloured.contains("\u{1b}[31m"), "{coloured:?}");
        assert!(coloured.contains("no newline\n"), "output is not touched");
    }
}
