use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    Outcome,
    fleet::RunSummary,
    protocol::EventId,
    service::{
        engine::RunCounts,
        store::{CommandRecord, CommandState, RunRecord, RunState},
    },
};

/// How much of a command's text is told.
const MAX_TEXT: usize = 300;

/// Something that a command or a run did.
pub(super) enum Note {
    Command(Arc<CommandRecord>),
    Run(Arc<RunRecord>, RunCounts),
}

/// A command as it is told of.
#[derive(Serialize)]
pub(super) struct CommandTold<'a> {
    id: EventId,
    workspace: &'a str,
    state: CommandState,
    /// Its text, cut where it is long.
    command: &'a str,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

impl<'a> From<&'a CommandRecord> for CommandTold<'a> {
    fn from(record: &'a CommandRecord) -> Self {
        Self {
            id: record.id,
            workspace: &record.workspace,
            state: record.state,
            command: cut(&record.command.command),
            created: record.created,
            started: record.started,
            ended: record.ended,
            outcome: record.outcome,
            exit_code: record.result.as_ref().map(|result| result.exit_code),
        }
    }
}

/// A run as it is told of.
#[derive(Serialize)]
pub(super) struct RunTold<'a> {
    id: EventId,
    state: RunState,
    /// What it does, in words, cut where they are long.
    description: String,
    cancelled: bool,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
    progress: &'a RunCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a RunSummary>,
}

impl<'a> RunTold<'a> {
    pub(super) fn new(record: &'a RunRecord, progress: &'a RunCounts) -> Self {
        Self {
            id: record.id,
            state: record.state,
            description: cut(&record.spec.describe()).to_owned(),
            cancelled: record.cancelled,
            created: record.created,
            ended: record.ended,
            progress,
            summary: record.summary.as_ref(),
        }
    }
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_TEXT);
    end.map_or(text, |end| &text[..end])
}
