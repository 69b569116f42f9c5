use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;

use super::Place;

/// How many bytes of events are kept for readers that are behind, or come back.
const MAX_BYTES: usize = 8 << 20;

/// The last events, in the form in which they are sent.
pub(super) struct Ring {
    boot: u32,
    /// The number of the first event that is here.
    first: u64,
    events: VecDeque<Bytes>,
    bytes: usize,
    most: usize,
}

impl Ring {
    /// One whose first event will have this number.
    pub(super) fn new(boot: u32, first: u64) -> Self {
        Self { boot, first, events: VecDeque::new(), bytes: 0, most: MAX_BYTES }
    }

    /// The number of the next event.
    pub(super) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Adds an event, and drops the oldest where there are too many bytes.
    pub(super) fn push(&mut self, name: &str, data: &impl Serialize) {
        let event = render(Place { boot: self.boot, next: self.next() + 1 }, name, data);
        self.bytes += event.len();
        self.events.push_back(event);
        while self.bytes > self.most
            && let Some(gone) = self.events.pop_front()
        {
            self.first += 1;
            self.bytes -= gone.len();
        }
    }

    /// Drops everything, so that every reader is told that it missed something.
    pub(super) fn cut(&mut self) {
        self.first = self.next() + 1;
        self.events.clear();
        self.bytes = 0;
    }

    /// The events from this number on, of so many bytes at most but one at least. `None` where they are no longer here, or
    /// never were.
    pub(super) fn from(&self, number: u64, most: usize) -> Option<Vec<Bytes>> {
        let skip = usize::try_from(number.checked_sub(self.first)?).ok()?;
        if skip > self.events.len() {
            return None;
        }
        let mut taken = 0;
        let fits = |event: &&Bytes| {
            let is_first = taken == 0;
            taken += event.len();
            is_first || taken <= most
        };
        Some(self.events.range(skip..).take_while(fits).cloned().collect())
    }
}

/// An event as it is sent. Its id is the place behind it.
pub(super) fn render(behind: Place, name: &str, data: &impl Serialize) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(format!("id: {behind}\nevent: {name}\ndata: ").as_bytes());
    // The events are structures without maps of their own, which JSON can always hold, and which have no line break in it.
    bytes.put_slice(&serde_json::to_vec(data).unwrap_or_default());
    bytes.put_slice(b"\n\n");
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(events: u64) -> Ring {
        let mut ring = Ring { most: 400, ..Ring::new(1, 10) };
        (0..events).for_each(|number| ring.push("n", &number));
        ring
    }

    #[test]
    fn a_place_is_good_as_long_as_all_behind_it_is_there() {
        let ring = ring(3);
        assert_eq!(ring.from(10, usize::MAX).unwrap().len(), 3);
        assert_eq!(ring.from(12, usize::MAX).unwrap()[0], "id: 00000001-13\nevent: n\ndata: 2\n\n");
        assert_eq!(ring.from(13, usize::MAX).unwrap().len(), 0);
        assert_eq!((ring.from(9, 1), ring.from(14, 1)), (None, None));
        assert_eq!(ring.from(10, 1).unwrap().len(), 1, "one event always fits");
    }

    #[test]
    fn the_oldest_events_make_room() {
        let ring = ring(100);
        assert_eq!(ring.next(), 110);
        assert!(ring.bytes <= 400 && ring.events.len() > 5);
        assert_eq!(ring.from(10, 1), None);
        assert_eq!(ring.from(ring.first, usize::MAX).unwrap().len(), ring.events.len());
    }

    #[test]
    fn after_a_cut_no_place_is_good_that_was_before() {
        let mut ring = ring(3);
        ring.cut();
        assert_eq!(ring.from(13, 1), None);
        ring.push("n", &1);
        assert_eq!(ring.from(14, 1).unwrap().len(), 1);
    }
}
