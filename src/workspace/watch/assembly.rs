use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::protocol::{BashOutput, EventId};

/// Chunks below this size are never repeated by a server: they repeat only what overflowed a buffer.
const REPEATABLE_BYTES: usize = 1_000_000;

/// How much text is held back for want of what comes before it.
const MOST_HELD: usize = 64 << 20;

/// Puts the events of one command in order and tells when nothing is missing.
///
/// Events may arrive in any order, more than once, and with `order` values that repeat. What always holds is that the
/// last event's `order` is the number of events before it. An event is released when as many events of a lower order
/// have been released; events of one stream never share an order, so each stream comes out in its own order.
#[derive(Default)]
pub(crate) struct Assembly {
    seen: HashSet<EventId>,
    /// Arrived, but not yet in turn.
    held: BTreeMap<(u64, Timestamp, EventId), BashOutput>,
    released: u64,
    last_large: Option<BashOutput>,
    end: Option<BashOutput>,
    held_bytes: usize,
    /// Time and order of the newest event, and of the newest one that was released.
    newest: Option<(Timestamp, u64)>,
    newest_released: Option<(Timestamp, u64)>,
    violation: Option<String>,
}

/// Where a command's output stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not ended, as far as is known.
    Running,
    /// Ended, and so many of its events are still missing.
    Short { have: u64, want: u64 },
    /// Ended, and everything was released; with the exit code.
    Complete { exit_code: i32 },
    /// The events contradict each other.
    Contradiction(String),
}

impl Assembly {
    /// Takes an event in; events that are known already change nothing.
    pub(crate) fn add(&mut self, event: BashOutput) {
        if !event.is_final() && event.order > self.released && self.held_bytes > MOST_HELD {
            // It is asked for again when what is missing before it has come.
            return;
        }
        if !self.seen.insert(event.id) {
            return;
        }
        self.newest = self.newest.max(Some((event.timestamp, event.order)));
        if !event.is_final() {
            self.held_bytes += text_bytes(&event);
            self.held.insert((event.order, event.timestamp, event.id), event);
        } else if self.end.as_ref().is_some_and(|end| end.exit_code != event.exit_code) {
            self.violation = Some("two last events with different exit codes".to_owned());
        } else if self.end.is_none() {
            self.end = Some(event);
        }
    }

    /// The next event in turn. The last event comes when everything before it has come.
    pub(crate) fn release(&mut self) -> Option<BashOutput> {
        if let Some(entry) = self.held.first_entry() {
            if entry.key().0 > self.released {
                return None;
            }
            let event = entry.remove();
            self.released += 1;
            self.held_bytes -= text_bytes(&event);
            self.newest_released = self.newest_released.max(Some((event.timestamp, event.order)));
            if text_bytes(&event) >= REPEATABLE_BYTES {
                self.last_large = Some(event.clone());
            }
            return Some(event);
        }
        if !matches!(self.progress(), Progress::Complete { .. }) {
            return None;
        }
        let end = self.end.as_mut()?;
        let texts = (end.stdout.take(), end.stderr.take());
        if texts == (None, None) {
            return None;
        }
        let mut last = BashOutput { stdout: texts.0, stderr: texts.1, ..end.clone() };
        if self.released == end.order + 1 {
            drop_repetition(&mut last, self.last_large.as_ref());
        }
        Some(last)
    }

    pub(crate) fn progress(&self) -> Progress {
        if let Some(violation) = &self.violation {
            return Progress::Contradiction(violation.clone());
        }
        let Some(end) = &self.end else { return Progress::Running };
        let exit_code = end.exit_code.unwrap_or(-1);
        let have = self.released + self.held.len() as u64;
        let repeats_last = exit_code == -1 && have == end.order + 1;
        if have < end.order || !self.held.is_empty() {
            Progress::Short { have, want: end.order }
        } else if have == end.order || repeats_last {
            Progress::Complete { exit_code }
        } else {
            Progress::Contradiction(format!("{have} events before a last one that counts {}", end.order))
        }
    }

    /// From which time by the server's clock, and after which order, the next events are to be asked for. While an event
    /// is held, one before it is missing, and may lie between the last one released and it.
    pub(crate) fn cursor(&self) -> Option<(Timestamp, Option<u64>)> {
        if self.held.is_empty() {
            return self.newest.map(|(time, order)| (time, Some(order)));
        }
        self.newest_released.map(|(time, order)| (time, order.checked_sub(1)))
    }

    /// Whether nothing has come so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Gives up on what is missing: releases what is held, in order.
    pub(crate) fn salvage(&mut self) -> Vec<BashOutput> {
        let mut rest: Vec<_> = std::mem::take(&mut self.held).into_values().collect();
        self.held_bytes = 0;
        self.released += rest.len() as u64;
        rest.extend(self.end.as_mut().map(|end| {
            let (stdout, stderr) = (end.stdout.take(), end.stderr.take());
            BashOutput { stdout, stderr, ..end.clone() }
        }));
        rest
    }

    /// The exit code, if the last event has come.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        self.end.as_ref().map(|end| end.exit_code.unwrap_or(-1))
    }

    /// When the command ended, by the server's clock, if that is known.
    pub(crate) fn ended_at(&self) -> Option<Timestamp> {
        self.end.as_ref().map(|end| end.timestamp)
    }
}

fn text_bytes(event: &BashOutput) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    length(&event.stdout) + length(&event.stderr)
}

/// Takes out of the last event what the chunk of the same order had brought already.
fn drop_repetition(last: &mut BashOutput, chunk: Option<&BashOutput>) {
    let Some(chunk) = chunk.filter(|chunk| chunk.order == last.order) else { return };
    for (text, repeated) in [(&mut last.stdout, &chunk.stdout), (&mut last.stderr, &chunk.stderr)] {
        if let (Some(whole), Some(repeated)) = (text.as_mut(), repeated)
            && whole.starts_with(repeated.as_str())
        {
            whole.drain(..repeated.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(order: u64, micros: i64, stdout: &str, exit_code: Option<i32>) -> BashOutput {
        BashOutput {
            id: EventId::random(),
            timestamp: Timestamp::from_microsecond(micros).unwrap(),
            command_id: "0f8fad5bd9cb469fa16570867728950e".parse().unwrap(),
            order,
            exit_code,
            stdout: Some(stdout.to_owned()),
            stderr: None,
        }
    }

    fn drain(assembly: &mut Assembly) -> String {
        std::iter::from_fn(|| assembly.release()).filter_map(|event| event.stdout).collect()
    }

    #[test]
    fn a_final_event_alone_is_complete() {
        let mut assembly = Assembly::default();
        assembly.add(event(0, 1, "hi", Some(0)));
        assert_eq!(drain(&mut assembly), "hi");
        assert_eq!(assembly.progress(), Progress::Complete { exit_code: 0 });
        assert_eq!(drain(&mut assembly), "");
    }

    #[test]
    fn repeated_orders_are_counted_not_compared() {
        let mut assembly = Assembly::default();
        for event in [event(0, 1, "a", None), event(0, 2, "b", None), event(2, 3, "c", None), event(3, 4, "d", Some(0))]
        {
            assembly.add(event);
        }
        assert_eq!(drain(&mut assembly), "abcd");
    }

    #[test]
    fn a_missing_chunk_is_told_and_holds_back_what_comes_after() {
        let mut assembly = Assembly::default();
        assembly.add(event(1, 2, "b", None));
        assembly.add(event(2, 3, "", Some(0)));
        assert_eq!(drain(&mut assembly), "");
        assert_eq!(assembly.progress(), Progress::Short { have: 1, want: 2 });
        assembly.add(event(0, 1, "a", None));
        assert_eq!(drain(&mut assembly), "ab");
        assert_eq!(assembly.progress(), Progress::Complete { exit_code: 0 });
    }

    #[test]
    fn the_last_event_of_a_timeout_may_repeat_the_last_chunk() {
        let chunk = "x".repeat(REPEATABLE_BYTES);
        let mut assembly = Assembly::default();
        assembly.add(event(0, 1, "a", None));
        assembly.add(event(1, 2, &chunk, None));
        assembly.add(event(1, 3, &format!("{chunk}tail"), Some(-1)));
        assert_eq!(drain(&mut assembly), format!("a{chunk}tail"));
    }

    #[test]
    fn too_many_events_and_changing_exit_codes_are_contradictions() {
        let mut assembly = Assembly::default();
        for event in [event(0, 1, "a", None), event(1, 2, "b", None), event(1, 3, "", Some(0))] {
            assembly.add(event);
        }
        drain(&mut assembly);
        assert!(matches!(assembly.progress(), Progress::Contradiction(_)));
        let mut assembly = Assembly::default();
        assembly.add(event(0, 1, "", Some(0)));
        assembly.add(event(0, 2, "", Some(1)));
        assert!(matches!(assembly.progress(), Progress::Contradiction(_)));
    }

    #[test]
    fn what_is_missing_is_asked_for_again() {
        let time = |micros| Timestamp::from_microsecond(micros).unwrap();
        let mut assembly = Assembly::default();
        assert_eq!(assembly.cursor(), None);
        assembly.add(event(0, 10, "a", None));
        drain(&mut assembly);
        assert_eq!(assembly.cursor(), Some((time(10), Some(0))));
        assembly.add(event(2, 30, "c", None));
        drain(&mut assembly);
        assert_eq!(assembly.cursor(), Some((time(10), None)));
        assembly.add(event(1, 20, "b", None));
        assert_eq!(drain(&mut assembly), "bc");
        assert_eq!(assembly.cursor(), Some((time(30), Some(2))));
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let chunk = "x".repeat(MOST_HELD + 1);
        let mut assembly = Assembly::default();
        assembly.add(event(1, 2, &chunk, None));
        let late = event(2, 3, "late", None);
        assembly.add(late.clone());
        assert_eq!(assembly.held.len(), 1);
        assembly.add(event(0, 1, "a", None));
        assert_eq!(drain(&mut assembly).len(), chunk.len() + 1);
        assembly.add(late);
        assert_eq!(drain(&mut assembly), "late");
    }

    proptest! {
        /// Any arrival order, any repetition, released after every arrival: the text is the same.
        #[test]
        fn any_arrival_gives_the_same_text(count in 0..12usize, picks in proptest::collection::vec(any::<usize>(), 0..60)) {
            let mut events: Vec<_> = (0..count).map(|at| event(at as u64, at as i64, &format!("<{at}>"), None)).collect();
            events.push(event(count as u64, count as i64, "end", Some(0)));
            let expected: String = events.iter().filter_map(|event| event.stdout.clone()).collect();
            let mut assembly = Assembly::default();
            let mut text = String::new();
            let arrivals = picks.iter().map(|pick| pick % events.len()).chain((0..events.len()).rev());
            for at in arrivals.collect::<Vec<_>>() {
                assembly.add(events[at].clone());
                text.push_str(&drain(&mut assembly));
            }
            prop_assert_eq!(text, expected);
            prop_assert_eq!(assembly.progress(), Progress::Complete { exit_code: 0 });
        }
    }
}
