use std::collections::HashMap;

use crate::OutputStream;

/// The longest part of a line that is held back until its end comes.
const MAX_HELD: usize = 64 << 10;

/// Makes whole lines of output that comes in pieces, so that the lines of several workspaces do not mix.
#[derive(Default)]
pub(super) struct Lines {
    held: HashMap<(String, OutputStream), String>,
}

impl Lines {
    /// Takes a piece and hands out the lines that are whole now, without their ends.
    pub(super) fn take(&mut self, workspace: &str, stream: OutputStream, text: &str, mut line: impl FnMut(&str)) {
        let held = self.held.entry((workspace.to_owned(), stream)).or_default();
        let mut rest = text;
        while let Some((whole, after)) = rest.split_once('\n') {
            if held.is_empty() {
                line(whole);
            } else {
                held.push_str(whole);
                line(held);
                held.clear();
            }
            rest = after;
        }
        held.push_str(rest);
        if held.len() > MAX_HELD {
            line(held);
            held.clear();
        }
    }

    /// Hands out what a workspace wrote without ending the line, and forgets the workspace.
    pub(super) fn finish(&mut self, workspace: &str, mut line: impl FnMut(OutputStream, &str)) {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            if let Some(held) = self.held.remove(&(workspace.to_owned(), stream))
                && !held.is_empty()
            {
                line(stream, &held);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_two_workspaces_do_not_mix() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for (workspace, text) in [("a", "on"), ("b", "two\n"), ("a", "e\nrest")] {
            lines.take(workspace, OutputStream::Stdout, text, |line| seen.push(format!("{workspace}: {line}")));
        }
        lines.finish("a", |_, line| seen.push(format!("a: {line}")));
        assert_eq!(seen, ["b: two", "a: one", "a: rest"]);
    }

    #[test]
    fn a_line_without_end_is_not_held_for_ever() {
        let mut lines = Lines::default();
        let mut seen = 0;
        for _ in 0..100 {
            lines.take("a", OutputStream::Stdout, &"x".repeat(10_000), |line| seen += line.len());
        }
        lines.finish("a", |_, line| seen += line.len());
        assert_eq!(seen, 1_000_000);
    }

    proptest! {
        #[test]
        fn whatever_the_pieces_the_lines_are_the_same(pieces in prop::collection::vec("[ab\n]{0,5}", 0..20)) {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for piece in &pieces {
                lines.take("a", OutputStream::Stderr, piece, |line| seen.push(line.to_owned()));
            }
            lines.finish("a", |_, line| seen.push(line.to_owned()));
            let whole = pieces.concat();
            prop_assert_eq!(seen, whole.lines().map(str::to_owned).collect::<Vec<_>>());
        }
    }
}
