//! What the gateway of a service asks of a workspace.

use actix::Message;

use super::ask;
use crate::{
    Connection, Operation,
    protocol::{BashCommand, BashOutput, EventId, StartBashCommand},
};

/// Asks for the way to the server as it is now. Not a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FindWay;

/// The way to a server.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// No other way of this process has it: it is another after an update or a reset.
    pub(crate) id: u64,
    pub(crate) connection: Connection,
}

impl Message for FindWay {
    type Result = Option<Way>;
}

/// Starts a command exactly once, with the time that its sender gives it: the server alone holds to that, and the command is
/// watched only so that it is counted and its sandbox kept. Answer: the server's, without what was put before the command.
#[derive(Debug, Clone)]
pub(crate) struct StartBash(pub(crate) StartBashCommand);

ask!(StartBash => BashCommand, Operation::StartCommand);

/// Asks for the newest output event of a command. Not a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GetLastOutput(pub(crate) EventId);

ask!(GetLastOutput => Option<BashOutput>, Operation::GetCommandOutput);
