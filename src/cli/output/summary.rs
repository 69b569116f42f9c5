use std::{collections::HashSet, io::Write};

use super::{body, paint::Paint, words};
use crate::{
    Outcome,
    cli::exit,
    fleet::{CancelReason, RunSummary, StepFinished, TargetFinished, TargetId, TargetValue},
};

/// How many failures are told one by one.
const MOST_FAILURES: usize = 2_000;

/// How many flaky targets are named.
const MOST_FLAKY: usize = 50;

/// What the end of a run tells: every failure with its reason, what was flaky or cut, and the counts.
#[derive(Default)]
pub(super) struct Summary {
    failures: Vec<(String, Outcome, String)>,
    more_failures: usize,
    flaky: Vec<String>,
    /// The labels of the targets of which output is missing: a job may have gone to another workspace.
    cut: HashSet<String>,
}

impl Summary {
    /// Takes note of a target that ended.
    pub(super) fn note(&mut self, target: &TargetFinished) {
        if let Some(reason) = body::reason(target) {
            if self.failures.len() < MOST_FAILURES {
                self.failures.push((target.target.label().to_owned(), target.outcome, reason));
            } else {
                self.more_failures += 1;
            }
        }
        if target.outcome == Outcome::Succeeded && target.attempt > 1 && self.flaky.len() <= MOST_FLAKY {
            self.flaky.push(target.target.label().to_owned());
        }
        self.note_output(&target.target, target.value.as_ref());
    }

    /// Takes note of a step that ended.
    pub(super) fn note_step(&mut self, step: &StepFinished) {
        self.note_output(&step.target, step.value.as_ref());
    }

    /// Forgets what steps gave in an attempt after which the target is begun again.
    pub(super) fn forget_output(&mut self, target: &TargetId) {
        self.cut.remove(target.label());
    }

    fn note_output(&mut self, target: &TargetId, value: Option<&TargetValue>) {
        if let Some(TargetValue::Command(result)) = value
            && body::left_out(result).is_some()
        {
            self.cut.insert(target.label().to_owned());
        }
    }

    /// Tells it. A closed stderr must not spoil what stdout was told.
    pub(super) fn tell(&self, err: &mut impl Write, paint: Paint, run: &RunSummary, exit_code: u8) {
        for (target, outcome, reason) in &self.failures {
            let _ = writeln!(err, "{target}: {}", paint.outcome(*outcome, reason));
        }
        if self.more_failures > 0 {
            let _ = writeln!(err, "and {} more: see --joblog, --results or --json", self.more_failures);
        }
        if !self.flaky.is_empty() {
            let more = if self.flaky.len() > MOST_FLAKY { " and more" } else { "" };
            let named = &self.flaky[..self.flaky.len().min(MOST_FLAKY)];
            let _ = writeln!(err, "flaky, succeeded after another try: {}{more}", named.join(", "));
        }
        if !self.cut.is_empty() {
            let what = words::count(self.cut.len() as u64, "target");
            let _ = writeln!(
                err,
                "{}",
                paint.outcome(
                    Outcome::TimedOut,
                    format_args!("output of {what} was cut: raise --max-output, or take all of it with --results DIR")
                )
            );
        }
        let _ = writeln!(err, "{}", self.counts(paint, run, exit_code));
    }

    fn counts(&self, paint: Paint, run: &RunSummary, exit_code: u8) -> String {
        let outcomes = Outcome::ALL.into_iter().map(|outcome| (outcome, run.outcomes.get(outcome)));
        let mut parts: Vec<String> = outcomes
            .filter(|(_, count)| *count > 0)
            .map(|(outcome, count)| paint.outcome(outcome, format_args!("{count} {outcome}")))
            .collect();
        if exit_code == exit::INTERRUPTED {
            parts.insert(0, "interrupted".to_owned());
        } else if let Some(reason) = run.cancelled.filter(|reason| *reason != CancelReason::Cancelled) {
            parts.insert(0, format!("ended early because {}", reason.describe()));
        }
        if run.flaky > 0 {
            parts.push(format!("{} flaky", run.flaky));
        }
        let targets = words::count(run.total as u64, "target");
        format!("{targets} in {}: {}", words::duration(run.duration), parts.join(", "))
    }
}
