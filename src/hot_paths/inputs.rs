//! What the paths are walked with: as servers send it, and as people write it.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use jiff::Timestamp;

use crate::{
    CommandResult, Outcome, RunSpec, Selector,
    fleet::{RunEvent, RunEventKind, TargetFinished, TargetId, TargetValue},
    protocol::{BashEvent, BashOutput, CommandHead, EventId},
};

/// How many workspaces, names and lines there are.
const MANY: usize = 10_000;

/// What a command wrote between two events.
pub(super) const TEXT: &str =
    "   Compiling workspace-fleet v0.1.0 (/workspace/project)\nwarning: unused variable: `x`\n --> src/lib.rs:10:9\n";

pub(super) fn id(number: usize) -> EventId {
    format!("{number:032x}").parse().expect("these are 32 digits")
}

pub(super) fn text_with_head() -> String {
    format!("{}cargo test --locked -- --nocapture", CommandHead::new(id(1)))
}

/// The last event of a command, with so many before it.
pub(super) fn last_event(before: usize) -> BashOutput {
    BashOutput { exit_code: Some(0), ..event(before) }
}

fn event(order: usize) -> BashOutput {
    BashOutput {
        id: id(1_000 + order),
        timestamp: Timestamp::from_microsecond(1_790_000_000_123_456 + order as i64).expect("it is a time"),
        command_id: id(1),
        order: order as u64,
        exit_code: None,
        stdout: Some(TEXT.to_owned()),
        stderr: None,
    }
}

/// All events of a command.
pub(super) fn events(count: usize) -> Vec<BashOutput> {
    (0..count - 1).map(event).chain([last_event(count - 1)]).collect()
}

pub(super) fn event_text() -> Vec<u8> {
    serde_json::to_vec(&BashEvent::Output(last_event(0))).expect("events can be written")
}

/// A page of a search, as servers send it.
pub(super) fn page(count: usize) -> Vec<u8> {
    let items: Vec<_> = events(count).into_iter().map(BashEvent::Output).collect();
    serde_json::to_vec(&serde_json::json!({ "items": items, "next_page_id": null })).expect("pages can be written")
}

pub(super) fn run() -> RunSpec {
    RunSpec::command(Selector::all(), "cargo test --locked")
}

/// The event that says how a target ended.
pub(super) fn finished() -> RunEvent {
    let result = CommandResult {
        command: "cargo test --locked".to_owned(),
        exit_code: 0,
        stdout: TEXT.to_owned(),
        stderr: String::new(),
        timeout_occurred: false,
        stopped: false,
        raw_exit_code: Some(0),
        command_id: id(1),
        duration: Duration::from_millis(1_234),
        stdout_bytes: TEXT.len() as u64,
        stderr_bytes: 0,
        truncated: false,
        trace: None,
    };
    let finished = TargetFinished {
        target: TargetId::workspace("node5000"),
        outcome: Outcome::Succeeded,
        value: Some(TargetValue::Command(result)),
        error: None,
        duration: Duration::from_millis(1_300),
        attempt: 1,
    };
    let time = Timestamp::from_microsecond(1_790_000_000_123_456).expect("it is a time");
    RunEvent { seq: 30_000, time, run_id: id(2), trace: None, kind: RunEventKind::TargetFinished(Box::new(finished)) }
}

pub(super) fn names() -> Vec<String> {
    (0..MANY).map(|number| format!("node{number}")).collect()
}

/// The labels of the workspace of this number: every third one has a processor for graphics.
pub(super) fn labels(number: usize) -> BTreeMap<String, String> {
    let tier = if number.is_multiple_of(3) { "gpu" } else { "cpu" };
    [("tier", tier), ("zone", "a")].map(|(label, value)| (label.to_owned(), value.to_owned())).into()
}

pub(super) fn hostfile() -> String {
    (0..MANY).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "https://gateway.example/s/{number}");
        text
    })
}

/// An inventory of so many lines, four a workspace.
pub(super) fn inventory() -> String {
    (0..MANY / 4).fold(String::new(), |mut text, number| {
        let host = format!("https://gateway.example/s/{number}");
        let _ =
            writeln!(text, "[[workspace]]\nname = \"node{number}\"\nhost = \"{host}\"\nlabels = {{ tier = \"gpu\" }}");
        text
    })
}
