use std::time::Duration;

use actix::Message;
use serde::{Deserialize, Serialize};

use super::ask;
use crate::{
    Connection, Operation,
    protocol::ServerInfo,
    workspace::{OnRemove, Snapshot},
};

/// Asks whether the server answers. Answer: the round trip. Not a step.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Alive;

ask!(Alive => Duration, Operation::Alive);

/// Asks what the server is. Not a step.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct GetServerInfo;

ask!(GetServerInfo => ServerInfo, Operation::GetServerInfo);

/// Waits until the server is ready to work, and wakes it where it waits for its
/// [configuration](crate::WorkspaceConfig::init). Answered at the latest after `timeout`. Not a step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct WaitReady {
    /// How long to wait. Stored as `timeout_ms`.
    #[serde(with = "crate::workspace::millis", rename = "timeout_ms")]
    pub timeout: Duration,
}

ask!(WaitReady => (), Operation::WaitReady);

/// Holds the workspace: as long as the answer is kept, the sandbox is
/// [kept from being reaped](crate::WorkspaceConfig::keepalive) although no command runs. Not a step.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Hold;

ask!(Hold => Held, Operation::Hold);

/// A workspace that is held. It is let go when this is dropped, on whatever thread.
#[derive(Debug)]
#[must_use = "dropping it lets the workspace go"]
pub struct Held {
    pub(crate) _until_dropped: tokio_util::sync::DropGuard,
}

/// Drops the connections that are not in use, and nothing else. Not a step.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Rest;

/// Drops the connections; the next request makes new ones. What is under way goes on. Not a step.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct ResetClient;

impl Message for ResetClient {
    type Result = ();
}

/// Changes address, key and headers, for a sandbox that came back elsewhere. Not a step: it overtakes, and running
/// commands are followed under the new address from now on.
#[derive(Debug, Clone)]
pub struct UpdateConnection(pub Connection);

ask!(UpdateConnection => (), Operation::UpdateConnection);

/// Asks the actor how it does. Not a step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observe;

impl Message for Observe {
    type Result = Snapshot;
}

/// Ends the workspace: waiting steps are turned away, running commands are stopped, and the actor stops. Answered
/// when that is done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shutdown;

impl Message for Shutdown {
    type Result = ();
}

/// Ends the workspace as [`Shutdown`] does, with running commands stopped or left alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dismiss(pub(crate) OnRemove);

impl Message for Dismiss {
    type Result = ();
}
