//! Takes in how far a run had come before this process went on with it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    dispatcher::{Action, Dispatcher, TargetNo, Tries},
    progress::{RunProgress, TargetEnd, TargetProgress},
    roster::Roster,
};
use crate::fleet::Outcome;

/// What is to be done at once, and from where.
#[derive(Default)]
pub(super) struct Restored {
    /// Attempts that had begun.
    pub(super) begun: Vec<Action>,
    /// How far they had come.
    pub(super) progress: HashMap<TargetNo, TargetProgress>,
}

/// Counts the targets that have ended, and puts those that had begun where they were.
pub(super) fn restore(run: RunProgress, roster: &mut Roster, dispatcher: &mut Dispatcher) -> Restored {
    let RunProgress { mut finished, mut unfinished, cancelled, .. } = run;
    let mut restored = Restored::default();
    let mut labels = roster.labels();
    let known: HashSet<Arc<str>> = labels.iter().map(|(_, label)| label.clone()).collect();
    let of_events: HashSet<_> = finished.keys().chain(unfinished.keys()).collect();
    for label in of_events {
        if !known.contains(label) {
            // Its workspace was removed meanwhile, or its job was not given again.
            labels.push((roster.add_absent(label, dispatcher), label.clone()));
        }
    }
    labels.sort_unstable();
    let mut seen: HashMap<Arc<str>, usize> = HashMap::new();
    for (_, label) in &labels {
        *seen.entry(label.clone()).or_default() += 1;
    }
    let mut first = HashSet::new();
    for (target, label) in labels {
        let is_first = first.insert(label.clone());
        let ends = finished.get_mut(&label);
        if let Some(end) = ends.and_then(|ends| end_of(ends, is_first, seen[&label] == 1)) {
            dispatcher.restore_ended(target, end.outcome, end.attempt);
        } else if is_first && let Some(progress) = unfinished.remove(&label) {
            let tries = Tries::before(progress.attempt, progress.failed, progress.unusable, progress.last);
            if progress.began.is_none() {
                dispatcher.restore_waiting(target, tries);
                continue;
            }
            let seat = roster.seat_named(&progress.target.workspace, target, dispatcher);
            restored.begun.extend(dispatcher.restore_running(target, seat, tries));
            restored.progress.insert(target, progress);
        }
    }
    if let Some(reason) = cancelled {
        dispatcher.restore_cancelled(reason);
    }
    restored
}

/// Takes the end of a target out of those of its label. Of jobs with the same name all but the first are rejected.
fn end_of(ends: &mut Vec<TargetEnd>, is_first: bool, is_only: bool) -> Option<TargetEnd> {
    let at = ends.iter().position(|end| is_only || (end.outcome != Outcome::Rejected) == is_first)?;
    Some(ends.remove(at))
}
