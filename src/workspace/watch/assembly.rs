use std::collections::{BTreeMap, HashSet, VecDeque};

use jiff::Timestamp;

use crate::protocol::{BashOutput, EventId};

/// Chunks below this size are never repeated by a server: they repeat only what overflowed a buffer.
const REPEATABLE_BYTES: usize = 1_000_000;

/// How much is held back for want of what comes before it, in bytes.
const MOST_HELD: usize = 64 << 20;

/// What an event takes beside its text, at least.
const EVENT_BYTES: usize = 256;

/// How many released events are remembered by their ids. Those before them are known by their order alone, so that a command
/// may write for ever.
const REMEMBERED: usize = 4_096;

/// Puts the events of one command in order and tells when nothing is missing.
///
/// Events may arrive in any order, more than once, and with `order` values that repeat. What always holds is that the
/// last event's `order` is the number of events before it. An event is released when as many events of a lower order
/// have been released; events of one stream never share an order, so each stream comes out in its own order.
///
/// An event that has not come keeps those from being released that come after it, but for the one of the other stream that
/// may share its order. So whatever has an order far below the number of released events was released.
#[derive(Default)]
pub(crate) struct Assembly {
    /// The events that are held, and the newest ones that were released.
    seen: HashSet<EventId>,
    /// The newest ones that were released, oldest first.
    remembered: VecDeque<(u64, EventId)>,
    /// No event up to this order is new.
    forgotten: Option<u64>,
    has_any: bool,
    /// Arrived, but not yet in turn.
    held: BTreeMap<(u64, Timestamp, EventId), BashOutput>,
    released: u64,
    is_orderly: bool,
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
    /// For a command of a server that gives each event an order of its own, and whose last events repeat nothing: no chunk is
    /// kept to compare.
    pub(crate) fn orderly() -> Self {
        Self { is_orderly: true, ..Self::default() }
    }

    /// Whether it was made so.
    pub(crate) const fn is_orderly(&self) -> bool {
        self.is_orderly
    }

    /// Takes an event in, and says whether it was new. Events that are known already change nothing.
    pub(crate) fn add(&mut self, event: BashOutput) -> bool {
        self.has_any = true;
        if event.is_final() {
            return self.add_last(event);
        }
        if event.order > self.released && self.held_bytes > MOST_HELD {
            // It is asked for again when what is missing before it has come.
            return false;
        }
        if self.forgotten.is_some_and(|order| event.order <= order) || !self.seen.insert(event.id) {
            return false;
        }
        self.newest = self.newest.max(Some((event.timestamp, event.order)));
        self.held_bytes += bytes_of(&event);
        self.held.insert((event.order, event.timestamp, event.id), event);
        true
    }

    fn add_last(&mut self, event: BashOutput) -> bool {
        let Some(end) = &self.end else {
            self.newest = self.newest.max(Some((event.timestamp, event.order)));
            self.end = Some(event);
            return true;
        };
        if end.exit_code != event.exit_code {
            self.violation = Some("two last events with different exit codes".to_owned());
        }
        false
    }

    /// Remembers a released event, and forgets the one that was released long before.
    fn remember(&mut self, event: &BashOutput) {
        self.remembered.push_back((event.order, event.id));
        if self.remembered.len() > REMEMBERED
            && let Some((order, id)) = self.remembered.pop_front()
        {
            self.seen.remove(&id);
            self.forgotten = self.forgotten.max(Some(order));
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
            self.held_bytes -= bytes_of(&event);
            self.remember(&event);
            self.newest_released = self.newest_released.max(Some((event.timestamp, event.order)));
            if !self.is_orderly && text_bytes(&event) >= REPEATABLE_BYTES {
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
        if end.order.checked_add(1) == Some(self.released) {
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
        let repeats_last = exit_code == -1 && end.order.checked_add(1) == Some(have);
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
        !self.has_any
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

fn bytes_of(event: &BashOutput) -> usize {
    text_bytes(event) + EVENT_BYTES
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
    fn orders_of_any_size_are_taken() {
        for exit_code in [0, -1] {
            let mut assembly = Assembly::default();
            assembly.add(event(u64::MAX, 1, "x", None));
            assembly.add(event(u64::MAX, 2, "", Some(exit_code)));
            assert_eq!(drain(&mut assembly), "");
            assert_eq!(assembly.progress(), Progress::Short { have: 1, want: u64::MAX });
            assert_eq!(assembly.salvage().len(), 2);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_comes_twice() {
        let count = 3 * REMEMBERED as u64;
        // Each stream has every second event, and every pair shares its order, as when both streams flood.
        let events: Vec<_> = (0..count).map(|at| event(at - at % 2, at as i64, &format!("<{at}>"), None)).collect();
        let mut assembly = Assembly::default();
        let mut text = String::new();
        for (at, one) in events.iter().enumerate() {
            // A little out of turn, and an old one again.
            let next = events.get(at + 1 - 2 * (at % 2)).unwrap_or(one);
            for arrived in [next, &events[at / 2], one] {
                assembly.add(arrived.clone());
                text.push_str(&drain(&mut assembly));
            }
            assert!(assembly.seen.len() <= REMEMBERED + 2 && assembly.remembered.len() <= REMEMBERED);
        }
        for again in &events {
            assert!(!assembly.add(again.clone()), "{again:?} is not new");
        }
        assembly.add(event(count, count as i64, "end", Some(0)));
        text.push_str(&drain(&mut assembly));
        let mut pairs: Vec<String> = (0..count).map(|at| format!("<{at}>")).collect();
        // Those of a pair may come in either order.
        for pair in pairs.chunks_mut(2) {
            let swapped = format!("{}{}", pair[1], pair[0]);
            if text.contains(&swapped) {
                pair.swap(0, 1);
            }
        }
        assert_eq!(text, pairs.concat() + "end");
    }

    #[test]
    fn events_without_order_are_not_kept_for_ever() {
        let mut assembly = Assembly::default();
        for at in 0..(4 * REMEMBERED as i64) {
            assembly.add(event(0, at, "x", None));
            assembly.release();
        }
        assert!(assembly.seen.len() <= REMEMBERED + 1, "{}", assembly.seen.len());
        let mut assembly = Assembly::default();
        for at in 0..1_000_000 {
            assembly.add(event(7, at, "", None));
        }
        assert!(assembly.held.len() <= MOST_HELD / EVENT_BYTES + 1, "{}", assembly.held.len());
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
