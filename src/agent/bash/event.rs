use std::{io, rc::Rc, time::Duration};

use serde::Serialize;

use super::{
    body::{Body, Text},
    json_text::push_escaped,
    timestamp::{self, Micros},
};
use crate::protocol::EventId;

/// No timer needs to be longer.
const LONGEST_TIMEOUT_SECONDS: u64 = 10 * 365 * 24 * 3600;

/// A command as it was taken.
#[derive(Debug)]
pub(super) struct CommandRecord {
    pub(super) id: EventId,
    pub(super) at: Micros,
    pub(super) command: Box<str>,
    pub(super) cwd: Option<Box<str>>,
    pub(super) timeout: i64,
}

/// A piece of a command's output; the one with an exit code is the last.
#[derive(Debug)]
pub(super) struct OutputRecord {
    pub(super) id: EventId,
    pub(super) at: Micros,
    pub(super) command_id: EventId,
    pub(super) order: u32,
    pub(super) exit_code: Option<i32>,
    pub(super) stdout: Option<Body>,
    pub(super) stderr: Option<Body>,
}

impl CommandRecord {
    /// How long it may run.
    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.timeout).unwrap_or(0).min(LONGEST_TIMEOUT_SECONDS))
    }

    /// Its JSON before and after what is between the quotes of its text.
    pub(super) fn json_around(&self) -> (&'static str, String) {
        const HEAD: &str = r#"{"command":""#;
        let json = to_json(&self.wire(""));
        (HEAD, json.get(HEAD.len()..).unwrap_or_default().to_owned())
    }

    fn wire<'a>(&'a self, command: &'a str) -> CommandWire<'a> {
        CommandWire {
            command,
            cwd: self.cwd.as_deref(),
            timeout: self.timeout,
            id: self.id,
            timestamp: timestamp::to_rfc3339(self.at),
            kind: "BashCommand",
        }
    }
}

impl OutputRecord {
    /// Its JSON before, between and after the values of its two streams.
    pub(super) fn json_around(&self) -> (String, &'static str, &'static str) {
        const BETWEEN: &str = r#","stderr":"#;
        const TAIL: &str = r#","kind":"BashOutput"}"#;
        let mut head = to_json(&OutputWire {
            id: self.id,
            timestamp: timestamp::to_rfc3339(self.at),
            command_id: self.command_id,
            order: self.order,
            exit_code: self.exit_code,
            stdout: (),
            stderr: (),
            kind: "BashOutput",
        });
        // Both are null, and only the kind comes after them.
        head.truncate(head.len().saturating_sub("null".len() * 2 + BETWEEN.len() + TAIL.len()));
        (head, BETWEEN, TAIL)
    }

    pub(super) fn bodies(&self) -> impl Iterator<Item = &Body> {
        self.stdout.iter().chain(&self.stderr)
    }
}

/// An entry of the log.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Command(Rc<CommandRecord>),
    Output(Rc<OutputRecord>),
}

impl Event {
    pub(super) fn at(&self) -> Micros {
        match self {
            Self::Command(command) => command.at,
            Self::Output(output) => output.at,
        }
    }

    /// The name under which a page refers to it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Command(command) => format!("{}_BashCommand_{}", timestamp::to_digits(command.at), command.id),
            Self::Output(output) => {
                format!("{}_BashOutput_{}_{}", timestamp::to_digits(output.at), output.command_id, output.id)
            }
        }
    }

    /// How many bytes of text it carries.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Command(command) => command.command.len(),
            Self::Output(output) => output.bodies().map(Body::len).sum(),
        }
    }

    /// Its JSON. Reads text that is only in a spill file on a thread for blocking work.
    ///
    /// # Errors
    /// The spill file cannot be read.
    pub(super) async fn to_json(&self) -> io::Result<String> {
        match self {
            Self::Command(command) => Ok(command_json(command)),
            Self::Output(output) => {
                let stdout = text_of(output.stdout.as_ref()).await?;
                let stderr = text_of(output.stderr.as_ref()).await?;
                let (mut json, between, tail) = output.json_around();
                push_value(&mut json, stdout.as_deref());
                json.push_str(between);
                push_value(&mut json, stderr.as_deref());
                json.push_str(tail);
                Ok(json)
            }
        }
    }
}

/// A body's text.
pub(super) async fn text_of(body: Option<&Body>) -> io::Result<Option<Text<'_>>> {
    match body {
        None => Ok(None),
        Some(body) => body.text().await.map(Some),
    }
}

fn push_value(json: &mut String, text: Option<&str>) {
    let Some(text) = text else { return json.push_str("null") };
    json.push('"');
    push_escaped(json, text);
    json.push('"');
}

#[derive(Serialize)]
struct CommandWire<'a> {
    command: &'a str,
    cwd: Option<&'a str>,
    timeout: i64,
    id: EventId,
    timestamp: String,
    kind: &'static str,
}

#[derive(Serialize)]
struct StartedWire<'a> {
    #[serde(flatten)]
    command: CommandWire<'a>,
    instance_id: &'a str,
}

/// The fields of a `BashOutput` in the order in which the real server writes them. Its texts are written by themselves.
#[derive(Serialize)]
struct OutputWire {
    id: EventId,
    timestamp: String,
    command_id: EventId,
    order: u32,
    exit_code: Option<i32>,
    stdout: (),
    stderr: (),
    kind: &'static str,
}

#[derive(Serialize)]
struct ErrorWire<'a> {
    id: EventId,
    timestamp: String,
    code: &'a str,
    detail: &'a str,
    kind: &'static str,
}

fn to_json(value: &impl Serialize) -> String {
    // Serialising plain fields into memory cannot fail; an empty object would be seen as malformed, not as an event.
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

pub(super) fn command_json(command: &CommandRecord) -> String {
    to_json(&command.wire(&command.command))
}

/// The answer to a start, which says who gave it: the server may be another when it is first asked what it is.
pub(super) fn started_json(command: &CommandRecord, instance_id: &str) -> String {
    to_json(&StartedWire { command: command.wire(&command.command), instance_id })
}

/// What the event socket answers to a frame that it cannot use.
pub(super) fn error_json(code: &str, detail: &str) -> String {
    let timestamp = timestamp::to_rfc3339(timestamp::now());
    to_json(&ErrorWire { id: EventId::random(), timestamp, code, detail, kind: "BashError" })
}
