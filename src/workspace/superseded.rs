use crate::protocol::{MARKER, SUPERSEDED_EXIT_CODE};

/// Whether a command ended because its tombstone was in place before it began.
pub(crate) fn is_superseded(exit_code: Option<i32>, stderr: &str) -> bool {
    exit_code == Some(SUPERSEDED_EXIT_CODE) && stderr.trim_end() == MARKER
}
