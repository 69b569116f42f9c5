use std::collections::VecDeque;

/// Keeps the text of one stream up to a bound: its first half and its last half, with the number of bytes left out.
pub(crate) struct Collector {
    head: String,
    tail: VecDeque<String>,
    tail_bytes: usize,
    total: u64,
    bound: usize,
}

/// What a [`Collector`] kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Collected {
    /// The kept text.
    pub(crate) text: String,
    /// The bytes that were written, kept or not.
    pub(crate) total: u64,
    /// Whether the text is less than was written.
    pub(crate) truncated: bool,
}

impl Collector {
    pub(crate) fn new(bound: usize) -> Self {
        Self { head: String::new(), tail: VecDeque::new(), tail_bytes: 0, total: 0, bound }
    }

    pub(crate) fn push(&mut self, text: String) {
        self.total += text.len() as u64;
        let text = if self.tail.is_empty() { self.fill_head(text) } else { text };
        if !text.is_empty() {
            self.push_tail(text);
        }
    }

    /// The same for a text that somebody else has, of which no more is copied than may be kept.
    pub(crate) fn push_copy(&mut self, text: &str) {
        if text.len() <= self.bound {
            return self.push(text.to_owned());
        }
        let room = if self.tail.is_empty() { self.head_bound().saturating_sub(self.head.len()) } else { 0 };
        let (first, rest) = text.split_at(text.floor_char_boundary(room));
        self.head.push_str(first);
        let last = &rest[rest.ceil_char_boundary(rest.len() - self.tail_bound())..];
        self.total += text.len() as u64;
        // All that came before is further from the end than is kept.
        self.tail.clear();
        self.tail_bytes = 0;
        self.push_tail(last.to_owned());
    }

    fn push_tail(&mut self, text: String) {
        self.tail_bytes += text.len();
        self.tail.push_back(text);
        // Whole pieces leave the tail, so that keeping it costs no copying; the rest is cut at the end.
        let tail_bound = self.tail_bound();
        while let Some(first) = self.tail.front()
            && self.tail_bytes - first.len() >= tail_bound
        {
            self.tail_bytes -= first.len();
            self.tail.pop_front();
        }
    }

    pub(crate) fn finish(mut self) -> Collected {
        let mut text = std::mem::take(&mut self.head);
        let kept_whole =
            self.total == (text.len() + self.tail_bytes) as u64 && text.len() + self.tail_bytes <= self.bound;
        if kept_whole {
            text.extend(self.tail);
            return Collected { text, total: self.total, truncated: false };
        }
        let tail_bound = self.tail_bound();
        let tail: String = self.tail.into_iter().collect();
        let tail = &tail[tail.ceil_char_boundary(tail.len().saturating_sub(tail_bound))..];
        let left_out = self.total - (text.len() + tail.len()) as u64;
        if self.bound > 0 {
            text.push_str(&format!("\n[{left_out} bytes left out]\n"));
        }
        text.push_str(tail);
        Collected { text, total: self.total, truncated: true }
    }

    const fn head_bound(&self) -> usize {
        self.bound / 2
    }

    const fn tail_bound(&self) -> usize {
        self.bound - self.head_bound()
    }

    /// Fills the head and returns what does not fit.
    fn fill_head(&mut self, mut text: String) -> String {
        let room = self.head_bound().saturating_sub(self.head.len());
        if text.len() <= room {
            if self.head.is_empty() {
                self.head = text;
            } else {
                self.head.push_str(&text);
            }
            return String::new();
        }
        let cut = text.floor_char_boundary(room);
        let rest = text.split_off(cut);
        self.head.push_str(&text);
        rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn within_the_bound_nothing_changes() {
        let mut collector = Collector::new(10);
        for piece in ["abc", "défg", ""] {
            collector.push(piece.to_owned());
        }
        assert_eq!(collector.finish(), Collected { text: "abcdéfg".into(), total: 8, truncated: false });
    }

    #[test]
    fn beyond_it_both_ends_are_kept() {
        let mut collector = Collector::new(8);
        for piece in ["0123", "45", "6789", "abcdef"] {
            collector.push(piece.to_owned());
        }
        assert_eq!(
            collector.finish(),
            Collected { text: "0123\n[8 bytes left out]\ncdef".into(), total: 16, truncated: true }
        );
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_short_output_is_whole(bound in 0..64usize, pieces in proptest::collection::vec("\\PC{0,12}", 0..20)) {
            let whole = pieces.concat();
            let longest = pieces.iter().map(String::len).max().unwrap_or(0);
            let (mut collector, mut copying) = (Collector::new(bound), Collector::new(bound));
            for piece in pieces {
                copying.push_copy(&piece);
                collector.push(piece);
                prop_assert!(collector.head.len() + collector.tail_bytes <= bound + longest);
            }
            let collected = collector.finish();
            prop_assert_eq!(&copying.finish(), &collected);
            prop_assert_eq!(collected.total, whole.len() as u64);
            prop_assert_eq!(collected.truncated, collected.text != whole);
            prop_assert!(collected.truncated || whole.len() <= bound);
            prop_assert!(!collected.truncated || whole.len() > bound);
        }
    }
}
