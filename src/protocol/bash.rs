use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::EventId;

/// The body of `POST /api/bash/start_bash_command` and of a client frame on the event socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartBashCommand {
    /// The shell text, at most [`MAX_COMMAND_BYTES`](super::MAX_COMMAND_BYTES) long.
    pub command: String,
    /// The directory to run in; the server's own choice when absent.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Whole seconds after which the server ends the command.
    #[serde(default = "default_timeout")]
    pub timeout: i64,
}

pub(super) const fn default_timeout() -> i64 {
    300
}

/// Writes a time with six digits of fraction, or none when they are all zero.
fn as_servers_do<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    if time.subsec_microsecond() == 0 && time.subsec_millisecond() == 0 {
        return serializer.collect_str(&format_args!("{time:.0}"));
    }
    serializer.collect_str(&format_args!("{time:.6}"))
}

/// A command as the server recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BashCommand {
    /// The shell text as it was sent.
    pub command: String,
    /// The directory it was asked to run in.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Whole seconds after which the server ends it.
    #[serde(default = "default_timeout")]
    pub timeout: i64,
    /// The command's id.
    pub id: EventId,
    /// When the server took it, by the server's clock.
    #[serde(serialize_with = "as_servers_do")]
    pub timestamp: Timestamp,
    /// New at each start of the server. In the answer to a start, and only of the embedded agent server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
}

/// A piece of a command's output; the one with an `exit_code` is the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BashOutput {
    /// The event's own id.
    pub id: EventId,
    /// When the server made the event, by the server's clock.
    #[serde(serialize_with = "as_servers_do")]
    pub timestamp: Timestamp,
    /// The command it belongs to.
    pub command_id: EventId,
    /// The event's position. On the last event: the number of chunks before it, even where earlier values repeat.
    pub order: u64,
    /// The exit code, on the last event only. A negative value is the signal that ended the command, or -1.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// New text of the standard output.
    #[serde(default)]
    pub stdout: Option<String>,
    /// New text of the standard error.
    #[serde(default)]
    pub stderr: Option<String>,
}

impl BashOutput {
    /// Whether this is the command's last event.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.exit_code.is_some()
    }
}

/// What the event socket answers to a frame that it cannot use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BashErrorEvent {
    /// The event's own id.
    pub id: EventId,
    /// When the server made the event.
    pub timestamp: Timestamp,
    /// A short name of the fault.
    pub code: String,
    /// The fault in words.
    pub detail: String,
}

/// One entry of a server's event log, told apart by `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind")]
pub enum BashEvent {
    /// A command was taken.
    #[serde(rename = "BashCommand")]
    Command(BashCommand),
    /// A command wrote output or ended.
    #[serde(rename = "BashOutput")]
    Output(BashOutput),
    /// A socket frame could not be used.
    #[serde(rename = "BashError")]
    Error(BashErrorEvent),
    /// A kind that this version does not know.
    Unknown,
}

/// A `kind` to search for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BashEventKind {
    /// Only commands.
    #[serde(rename = "BashCommand")]
    Command,
    /// Only output.
    #[serde(rename = "BashOutput")]
    Output,
}

impl BashEventKind {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "BashCommand",
            Self::Output => "BashOutput",
        }
    }
}

/// The order in which a search lists events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SortOrder {
    /// Oldest first.
    #[default]
    #[serde(rename = "TIMESTAMP")]
    OldestFirst,
    /// Newest first.
    #[serde(rename = "TIMESTAMP_DESC")]
    NewestFirst,
}

impl SortOrder {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OldestFirst => "TIMESTAMP",
            Self::NewestFirst => "TIMESTAMP_DESC",
        }
    }
}

/// One page of a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BashEventPage {
    /// The events of this page.
    #[serde(deserialize_with = "super::read::page")]
    pub items: Vec<BashEvent>,
    /// The id of the first item of the next page, absent on the last page.
    #[serde(default)]
    pub next_page_id: Option<String>,
}

/// One page of a search whose events are yet to be read.
#[derive(Deserialize)]
pub(crate) struct UnreadEventPage<'a> {
    /// The events of this page.
    #[serde(borrow, deserialize_with = "super::read::page")]
    pub(crate) items: Vec<&'a RawValue>,
    /// As of [`BashEventPage`].
    #[serde(default)]
    pub(crate) next_page_id: Option<String>,
}

/// The answer to `DELETE /api/bash/bash_events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClearedEvents {
    /// How many events were removed.
    pub cleared_count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_of_an_old_and_of_a_newer_server_reads_the_same() {
        let minimal = r#"{"kind":"BashOutput","id":"0f8fad5bd9cb469fa16570867728950e","timestamp":"2026-01-02T03:04:05.000006Z","command_id":"0f8fad5bd9cb469fa16570867728950f","order":0}"#;
        let full = r#"{"kind":"BashOutput","id":"0f8fad5bd9cb469fa16570867728950e","timestamp":"2026-01-02T03:04:05.000006Z","command_id":"0f8fad5bd9cb469fa16570867728950f","order":0,"exit_code":null,"stdout":null,"stderr":null,"later":{"x":1}}"#;
        let minimal: BashEvent = serde_json::from_str(minimal).unwrap();
        assert_eq!(minimal, serde_json::from_str(full).unwrap());
    }

    #[test]
    fn times_are_written_as_servers_write_them() {
        for time in ["2026-01-02T03:04:05.120000Z", "2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:05Z"] {
            let text = format!(r#"{{"command":"true","id":"0f8fad5bd9cb469fa16570867728950e","timestamp":"{time}"}}"#);
            let command: BashCommand = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_value(&command).unwrap()["timestamp"], time);
        }
    }

    #[test]
    fn an_unknown_kind_is_kept_out_without_failing_the_page() {
        let page: BashEventPage =
            serde_json::from_str(r#"{"items":[{"kind":"BashDream","x":1}],"next_page_id":null}"#).unwrap();
        assert_eq!(page.items, [BashEvent::Unknown]);
    }
}
