use std::io::{self, Write};

use super::{Sink, body, lines::Lines, paint::Paint, words};
use crate::{
    Outcome, OutputStream,
    cli::exit,
    fleet::{RunEvent, RunEventKind, RunSummary, TargetFinished, TargetValue},
};

/// Text for people: what each target gave, target by target or live, then a summary with every failure.
///
/// What commands write to their stdout goes to stdout as it is; what they write to their stderr goes to stderr, marked.
pub(super) struct Human<O, E> {
    out: O,
    err: E,
    paint_out: Paint,
    paint_err: Paint,
    live: bool,
    lines: Lines,
    /// The targets that did not succeed, with the reason.
    failures: Vec<(String, Outcome, String)>,
}

impl<O: Write, E: Write> Human<O, E> {
    pub(super) fn new(out: O, err: E, (paint_out, paint_err): (Paint, Paint), live: bool) -> Self {
        Self { out, err, paint_out, paint_err, live, lines: Lines::default(), failures: Vec::new() }
    }

    fn output(&mut self, workspace: &str, stream: OutputStream, text: &str) -> io::Result<()> {
        let Self { out, err, paint_out, paint_err, lines, .. } = self;
        let mut written = Ok(());
        lines.take(workspace, stream, text, |line| {
            if written.is_ok() {
                written = live_line(out, err, (*paint_out, *paint_err), workspace, stream, line);
            }
        });
        written.and_then(|()| self.out.flush())
    }

    fn target(&mut self, target: &TargetFinished) -> io::Result<()> {
        if let Some(reason) = body::reason(target) {
            self.failures.push((target.target.label().to_owned(), target.outcome, reason));
        }
        if self.live {
            self.live_end(target)
        } else if target.outcome == Outcome::Skipped {
            // The summary counts them; there may be thousands, and there is nothing to say of any.
            Ok(())
        } else {
            self.grouped(target)
        }
    }

    fn live_end(&mut self, target: &TargetFinished) -> io::Result<()> {
        let Self { out, err, paint_out, paint_err, lines, .. } = self;
        let mut written = Ok(());
        lines.finish(target.target.label(), |stream, line| {
            if written.is_ok() {
                written = live_line(out, err, (*paint_out, *paint_err), target.target.label(), stream, line);
            }
        });
        written.and_then(|()| self.out.flush())
    }

    fn grouped(&mut self, target: &TargetFinished) -> io::Result<()> {
        writeln!(
            self.out,
            "{}",
            self.paint_out.headline(target.outcome, format_args!("== {}", body::headline(target)))
        )?;
        if let Some(value) = &target.value {
            let text = body::text(value);
            self.out.write_all(text.as_bytes())?;
            if !text.is_empty() && !text.ends_with('\n') {
                self.out.write_all(b"\n")?;
            }
        }
        // Before stderr, so that both are in order where they end on one terminal.
        self.out.flush()?;
        if let Some(TargetValue::Command(result)) = &target.value {
            for line in result.stderr.lines() {
                stderr_line(&mut self.err, self.paint_err, target.target.label(), line);
            }
        }
        Ok(())
    }

    fn summary(&mut self, summary: &RunSummary, exit_code: u8) {
        for (workspace, outcome, reason) in &self.failures {
            // A closed stderr must not spoil what stdout was told.
            let _ = writeln!(self.err, "{workspace}: {}", self.paint_err.outcome(*outcome, reason));
        }
        let outcomes = Outcome::ALL.into_iter().map(|outcome| (outcome, summary.outcomes.get(outcome)));
        let counts: Vec<String> = outcomes
            .filter(|(_, count)| *count > 0)
            .map(|(outcome, count)| self.paint_err.outcome(outcome, format_args!("{count} {outcome}")))
            .collect();
        let interrupted = if exit_code == exit::INTERRUPTED { "interrupted, " } else { "" };
        let _ = writeln!(
            self.err,
            "{} in {}: {interrupted}{}",
            words::count(summary.total as u64, "target"),
            words::duration(summary.duration),
            counts.join(", ")
        );
    }
}

impl<O: Write, E: Write> Sink for Human<O, E> {
    fn event(&mut self, event: &RunEvent, exit_code: u8) -> io::Result<()> {
        match &event.kind {
            RunEventKind::Output { target, stream, text } => self.output(target.label(), *stream, text),
            RunEventKind::TargetFinished(target) => self.target(target),
            RunEventKind::RunFinished(summary) => {
                self.summary(summary, exit_code);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn live_line(
    out: &mut impl Write,
    err: &mut impl Write,
    (paint_out, paint_err): (Paint, Paint),
    workspace: &str,
    stream: OutputStream,
    line: &str,
) -> io::Result<()> {
    match stream {
        OutputStream::Stdout => writeln!(out, "{} {line}", paint_out.mark(format_args!("{workspace}:"))),
        OutputStream::Stderr => {
            out.flush()?;
            stderr_line(err, paint_err, workspace, line);
            Ok(())
        }
    }
}

fn stderr_line(err: &mut impl Write, paint: Paint, workspace: &str, line: &str) {
    // A closed stderr must not spoil what stdout is told.
    let _ = writeln!(err, "{} {line}", paint.stderr_mark(format_args!("{workspace} stderr:")));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        cli::output::body::tests as sample,
        fleet::{OutcomeCounts, TargetId},
        protocol::EventId,
    };

    fn show(kinds: Vec<RunEventKind>, color: bool, live: bool, exit_code: u8) -> (String, String) {
        let paint = Paint::fixed(color);
        let mut human = Human::new(Vec::new(), Vec::new(), (paint, paint), live);
        for (seq, kind) in kinds.into_iter().enumerate() {
            let event = RunEvent { seq: seq as u64, time: Timestamp::UNIX_EPOCH, run_id: EventId::random(), kind };
            human.event(&event, exit_code).unwrap();
        }
        (String::from_utf8(human.out).unwrap(), String::from_utf8(human.err).unwrap())
    }

    fn summary(counts: &[(Outcome, usize)]) -> RunEventKind {
        let mut outcomes = OutcomeCounts::default();
        for (outcome, count) in counts {
            (0..*count).for_each(|_| outcomes.add(*outcome));
        }
        RunEventKind::RunFinished(RunSummary {
            total: outcomes.total(),
            outcomes,
            flaky: 0,
            cancelled: None,
            duration: Duration::from_secs(2),
        })
    }

    fn failed() -> RunEventKind {
        sample::finished(Outcome::Failed, Some(TargetValue::Command(sample::command(3, "no newline", "bad\nworse\n"))))
    }

    #[test]
    fn a_target_is_a_group_and_its_stderr_is_marked() {
        let (out, err) = show(vec![failed()], false, false, 5);
        assert_eq!(out, "== w1: failed, exit 3, 1.5 s\nno newline\n");
        assert_eq!(err, "w1 stderr: bad\nw1 stderr: worse\n");
    }

    #[test]
    fn the_summary_tells_every_failure_and_counts() {
        let skipped = sample::finished(Outcome::Skipped, None);
        let counts = [(Outcome::Succeeded, 2), (Outcome::Failed, 1), (Outcome::Skipped, 1)];
        let (out, err) = show(vec![failed(), skipped, summary(&counts)], false, false, 130);
        assert!(
            err.ends_with("w1: failed: exit 3\n4 targets in 2.0 s: interrupted, 2 succeeded, 1 failed, 1 skipped\n"),
            "{err}"
        );
        assert!(!out.contains("skipped"), "{out}");
    }

    #[test]
    fn live_output_is_marked_line_by_line() {
        let output =
            |stream, text: &str| RunEventKind::Output { target: TargetId::workspace("w1"), stream, text: text.into() };
        let events = vec![
            output(OutputStream::Stdout, "one\ntw"),
            output(OutputStream::Stderr, "oh\n"),
            output(OutputStream::Stdout, "o"),
            failed(),
        ];
        let (out, err) = show(events, false, true, 5);
        assert_eq!(out, "w1: one\nw1: two\n");
        assert_eq!(err, "w1 stderr: oh\n");
    }

    #[test]
    fn colours_only_where_asked_for() {
        let (plain, _) = show(vec![failed()], false, false, 5);
        let (coloured, _) = show(vec![failed()], true, false, 5);
        assert!(!plain.contains('\u{1b}') && coloured.contains("\u{1b}[31m"), "{coloured:?}");
        assert!(coloured.contains("no newline\n"), "output is not touched");
    }
}
