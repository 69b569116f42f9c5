use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    Outcome,
    cli::output::words,
    fleet::{CancelReason, OutcomeCounts, RunEvent, RunEventKind, TargetId},
};

/// How many running targets are named in the display.
const MOST_NAMED: usize = 8;

/// How many running targets are named when somebody asks.
const MOST_REPORTED: usize = 100;

/// The longest bar.
const MAX_BAR: usize = 40;

/// How far a run has come. An event costs time logarithmic in the targets that run, however many wait.
#[derive(Debug, Default)]
pub(super) struct Board {
    began: Option<Timestamp>,
    total: usize,
    fanout: usize,
    outcomes: OutcomeCounts,
    retried: usize,
    running: HashMap<TargetId, (Timestamp, u64)>,
    /// The running targets, the one that has run longest first.
    by_age: BTreeSet<(Timestamp, u64, Arc<str>)>,
    slow: HashSet<TargetId>,
    ends_early: Option<CancelReason>,
}

impl Board {
    /// Takes note of an event.
    pub(super) fn note(&mut self, event: &RunEvent) {
        match &event.kind {
            RunEventKind::RunStarted { targets, fanout, .. } => {
                (self.began, self.total, self.fanout) = (Some(event.time), *targets, *fanout);
            }
            RunEventKind::TargetsAdded { targets } => self.total += targets,
            RunEventKind::TargetBegan { target, .. } | RunEventKind::TargetStarted { target, .. } => {
                self.begin(target, event);
            }
            RunEventKind::TargetSlow { target, .. } if self.running.contains_key(target) => {
                self.slow.insert(target.clone());
            }
            RunEventKind::TargetRetried(target) => {
                self.retried += 1;
                self.end(&target.target);
            }
            RunEventKind::TargetFinished(target) => {
                self.end(&target.target);
                self.outcomes.add(target.outcome);
            }
            RunEventKind::RunCancelled { reason } => self.ends_early = Some(*reason),
            _ => {}
        }
    }

    fn begin(&mut self, target: &TargetId, event: &RunEvent) {
        if !self.running.contains_key(target) {
            self.running.insert(target.clone(), (event.time, event.seq));
            self.by_age.insert((event.time, event.seq, target.label().into()));
        }
    }

    fn end(&mut self, target: &TargetId) {
        if let Some((time, seq)) = self.running.remove(target) {
            self.by_age.remove(&(time, seq, target.label().into()));
        }
        self.slow.remove(target);
    }

    fn done(&self) -> usize {
        self.outcomes.total()
    }

    /// How many of a hundred targets have ended.
    pub(super) fn percent(&self) -> usize {
        (self.done() * 100).checked_div(self.total).unwrap_or(100)
    }

    /// One line, for where nothing can be drawn.
    pub(super) fn line(&self, now: Timestamp) -> String {
        let mut parts = vec![self.counter()];
        parts.extend(self.counts());
        parts.push(format!("{} running", self.running.len()));
        parts.extend(self.pace(now));
        parts.join(", ")
    }

    /// The display: three lines of at most this many columns.
    pub(super) fn display(&self, now: Timestamp, width: usize) -> String {
        let counter = self.counter();
        let window = match self.ends_early {
            Some(reason) => format!("ending early: {}", reason.describe()),
            None => format!("{} of {} at a time", thousands(self.fanout.min(self.total)), thousands(self.total)),
        };
        let room = width.saturating_sub(counter.len() + window.len() + 6).min(MAX_BAR);
        let mut first = format!("{counter}  {window}");
        if room >= 8 {
            let full = (self.done() * room).checked_div(self.total).unwrap_or(room);
            first = format!("[{}{}] {first}", "=".repeat(full), " ".repeat(room - full));
        }
        let mut second: Vec<String> = self.counts().collect();
        second.extend(self.pace(now));
        let lines = [first, second.join(", "), self.running_line(now, width)];
        lines.map(|line| cut(&line, width)).join("\n")
    }

    /// What runs now, for whoever asks: a line each, the one that has run longest first.
    pub(super) fn report(&self, now: Timestamp) -> String {
        let mut lines = vec![self.line(now)];
        for (began, _, label) in self.by_age.iter().take(MOST_REPORTED) {
            lines.push(format!("  running for {}: {}", words::duration(since(*began, now)), words::one_line(label)));
        }
        if self.by_age.len() > MOST_REPORTED {
            lines.push(format!("  and {} more", self.by_age.len() - MOST_REPORTED));
        }
        lines.join("\n")
    }

    fn counter(&self) -> String {
        format!("{}/{} ({} %)", thousands(self.done()), thousands(self.total), self.percent())
    }

    fn counts(&self) -> impl Iterator<Item = String> {
        let outcome = |outcome| match (outcome, self.outcomes.get(outcome)) {
            (_, 0) => None,
            (Outcome::Succeeded, count) => Some(format!("{} ok", thousands(count))),
            (outcome, count) => Some(format!("{} {outcome}", thousands(count))),
        };
        let more = [(self.retried, "tried again"), (self.slow.len(), "slow")];
        let more = more.into_iter().filter(|(count, _)| *count > 0);
        let more = more.map(|(count, what)| format!("{} {what}", thousands(count)));
        Outcome::ALL.into_iter().filter_map(outcome).chain(more)
    }

    /// The rate, the time that is left, and the time that has passed.
    fn pace(&self, now: Timestamp) -> Vec<String> {
        let Some(began) = self.began else { return Vec::new() };
        let passed = since(began, now);
        let mut parts = Vec::new();
        let rate = self.done() as f64 / passed.as_secs_f64().max(0.001);
        if self.done() > 0 && passed >= Duration::from_secs(1) {
            parts.push(if rate >= 1.0 { format!("{rate:.0}/s") } else { format!("{:.1}/min", rate * 60.0) });
            if self.done() < self.total && self.ends_early.is_none() {
                let left = (self.total - self.done()) as f64 / rate;
                let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
                parts.push(format!("about {} left", clock(left)));
            }
        }
        parts.push(format!("{} passed", clock(passed)));
        parts
    }

    fn running_line(&self, now: Timestamp, width: usize) -> String {
        if self.by_age.is_empty() {
            return "nothing runs".to_owned();
        }
        let mut line = "running: ".to_owned();
        let mut named = 0;
        for (began, _, label) in self.by_age.iter().take(MOST_NAMED) {
            let label = words::one_line(label);
            let part = format!("{}{label} {}", if named > 0 { ", " } else { "" }, clock(since(*began, now)));
            // Room for how many more there are.
            if named > 0 && columns(&line) + columns(&part) + 18 > width {
                break;
            }
            line.push_str(&part);
            named += 1;
        }
        if named < self.by_age.len() {
            line.push_str(&format!(" and {} more", thousands(self.by_age.len() - named)));
        }
        line
    }
}

fn since(began: Timestamp, now: Timestamp) -> Duration {
    // A clock that was set back is no reason for anything.
    Duration::try_from(now.duration_since(began)).unwrap_or_default()
}

/// A duration as a clock has it.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// A number with commas.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// About how many columns a text takes: no character takes more than two, and those of the Latin scripts take one.
fn columns(text: &str) -> usize {
    text.chars().map(|c| if (c as u32) < 0x1100 { 1 } else { 2 }).sum()
}

/// The beginning of a line, as much as fits: a line that is wrapped could not be cleared.
fn cut(line: &str, width: usize) -> String {
    let mut left = width;
    let mut kept = String::with_capacity(line.len());
    for c in line.chars() {
        let takes = if (c as u32) < 0x1100 { 1 } else { 2 };
        if takes > left {
            break;
        }
        left -= takes;
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::output::sample;

    fn board(kinds: Vec<RunEventKind>) -> Board {
        let mut board = Board::default();
        for event in sample::events(kinds) {
            board.note(&event);
        }
        board
    }

    fn busy() -> Board {
        let mut kinds = vec![sample::started(10_000, 64)];
        kinds.extend((0..64).map(|number| sample::began(&format!("sandbox-{number}"))));
        kinds.extend(
            (10..30).map(|number| sample::ran(&format!("sandbox-{number}"), i32::from(number % 7 == 0), "", "")),
        );
        kinds.extend([sample::unusable("sandbox-5"), sample::slow("sandbox-3", 60), sample::retried("sandbox-9")]);
        board(kinds)
    }

    #[test]
    fn the_display_in_several_widths() {
        let board = busy();
        let shown: Vec<String> = [120, 80, 40, 12]
            .into_iter()
            .map(|width| format!("--- {width} columns\n{}", board.display(sample::at(100), width)))
            .collect();
        insta::assert_snapshot!("display", shown.join("\n"));
    }

    #[test]
    fn the_display_from_begin_to_end() {
        let mut shown = Vec::new();
        let mut board = Board::default();
        let kinds = vec![
            sample::started(2, 64),
            sample::began("a"),
            sample::began("b"),
            sample::ran("a", 0, "", ""),
            RunEventKind::RunCancelled { reason: CancelReason::GlobalTimeout },
            sample::ran("b", 3, "", ""),
        ];
        for event in sample::events(kinds) {
            board.note(&event);
            shown.push(format!("--- {}\n{}", event.time, board.display(event.time, 80)));
        }
        insta::assert_snapshot!("display_of_a_run", shown.join("\n"));
    }

    #[test]
    fn what_is_said_to_those_who_ask() {
        insta::assert_snapshot!(
            "report",
            board(vec![
                sample::started(3, 2),
                sample::began("a"),
                sample::began("b\u{1b}[2J"),
                sample::ran("a", 0, "", ""),
            ])
            .report(sample::at(4000))
        );
        let many = (0..150).map(|number| sample::began(&number.to_string()));
        let report = board(many.collect()).report(sample::at(200));
        assert!(report.ends_with("  and 50 more"), "{report}");
    }

    #[test]
    fn a_line_for_where_nothing_is_drawn() {
        assert_eq!(
            busy().line(sample::at(100)),
            "21/10,000 (0 %), 17 ok, 3 failed, 1 unreachable, 1 tried again, 1 slow, 42 running, 12.6/min, about \
             13:11:59 left, 1:40 passed"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_ever_wider_than_the_terminal(width in 0..200_usize, name in "[a-zé漢\\x1b]{0,40}") {
            let board = board(vec![sample::started(3, 2), sample::began(&name), sample::began("b")]);
            for line in board.display(sample::at(50), width).lines() {
                prop_assert!(columns(line) <= width, "{:?}", line);
                prop_assert!(!line.contains(char::is_control));
            }
        }

        #[test]
        fn whatever_happens_what_runs_is_what_has_begun_and_not_ended(picks in prop::collection::vec((0..5_usize, 0..4_usize), 0..40)) {
            let mut running = std::collections::BTreeSet::new();
            let mut kinds = Vec::new();
            for (target, what) in picks {
                let name = format!("t{target}");
                kinds.push(match what {
                    0 | 1 => sample::began(&name),
                    2 => sample::ran(&name, 0, "", ""),
                    _ => sample::retried(&name),
                });
                if what < 2 { running.insert(name); } else { running.remove(&name); }
            }
            let board = board(kinds);
            let shown: std::collections::BTreeSet<String> = board.by_age.iter().map(|(_, _, label)| label.to_string()).collect();
            prop_assert_eq!(shown, running);
            prop_assert_eq!(board.by_age.len(), board.running.len());
        }
    }
}
