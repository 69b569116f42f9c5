use std::fmt;

use super::EventId;

/// What a superseded command writes to its standard error.
pub const MARKER: &str = "wsfleet:superseded";

/// What a superseded command exits with.
pub const SUPERSEDED_EXIT_CODE: i32 = 125;

/// The text put before a command so that it can be found again and kept from starting late.
///
/// It is on the command's own first line, so no line number of the command moves. Its id is chosen by the runtime,
/// before anything is sent; it is not the id that the server gives the command.
///
/// ```
/// use workspace_fleet::protocol::{CommandHead, EventId};
///
/// let head = CommandHead::new(EventId::random());
/// let sent = format!("{head}make test");
/// let (found, command) = CommandHead::strip(&sent).unwrap();
/// assert_eq!(found, head);
/// assert_eq!(command, "make test");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandHead(EventId);

const VARIABLE: &str = "WSFLEET_COMMAND_ID";
const BEFORE_ID: &str = "export WSFLEET_COMMAND_ID=";
const AFTER_ID: &str =
    "; if [ -e /tmp/.wsfleet-$WSFLEET_COMMAND_ID ]; then echo wsfleet:superseded >&2; exit 125; fi; ";

impl CommandHead {
    /// The environment variable by which a command's processes are found.
    pub const VARIABLE: &'static str = VARIABLE;

    /// How many bytes every head has.
    #[cfg(feature = "service")]
    pub(crate) const LENGTH: usize = BEFORE_ID.len() + 32 + AFTER_ID.len();

    /// Whether a text that is shorter than a head may be the beginning of one.
    #[cfg(feature = "service")]
    pub(crate) fn may_begin(text: &[u8]) -> bool {
        let known = text.len().min(BEFORE_ID.len());
        text[..known] == BEFORE_ID.as_bytes()[..known]
    }

    /// The head of the command that the runtime calls `id`.
    #[must_use]
    pub const fn new(id: EventId) -> Self {
        Self(id)
    }

    /// The id in the head.
    #[must_use]
    pub const fn id(self) -> EventId {
        self.0
    }

    /// The remote file whose existence keeps the command from starting.
    #[must_use]
    pub fn tombstone_path(self) -> String {
        format!("/tmp/.wsfleet-{}", self.0)
    }

    /// Splits a command text into its head and the rest; `None` when it has no head at its very beginning.
    #[must_use]
    pub fn strip(text: &str) -> Option<(Self, &str)> {
        let rest = text.strip_prefix(BEFORE_ID)?;
        let (id, rest) = rest.split_at_checked(32)?;
        let command = rest.strip_prefix(AFTER_ID)?;
        // Ids are written in one way only, and what is written otherwise is somebody else's.
        if id.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        Some((Self(id.parse().ok()?), command))
    }
}

impl fmt::Display for CommandHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEFORE_ID}{}{AFTER_ID}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_only_at_the_beginning() {
        let head = CommandHead::new(EventId::random());
        assert_eq!(CommandHead::strip(&format!("{head}")), Some((head, "")));
        assert_eq!(CommandHead::strip(&format!(" {head}true")), None);
        assert_eq!(CommandHead::strip("export WSFLEET_COMMAND_ID=zz"), None);
        assert_eq!(CommandHead::strip("true"), None);
    }

    #[test]
    fn a_head_has_no_line_break() {
        assert!(!CommandHead::new(EventId::random()).to_string().contains('\n'));
    }

    #[test]
    fn a_head_with_foreign_characters_in_place_of_the_id_is_not_ours() {
        let text = format!("{BEFORE_ID}{}{AFTER_ID}", "é".repeat(16));
        assert_eq!(CommandHead::strip(&text), None);
    }
}
