//! What a workspace can be asked: one message a type, named as the methods of the Python class are.
//!
//! The messages are serde types. A secret or bytes in memory do not leave the process: a message that holds one
//! refuses to be serialised and says what to use instead.

mod command;
mod control;
mod directory;
mod file;
#[cfg(feature = "service")]
mod gateway;
mod git;
mod progress;
mod stream;
mod traced;

pub(crate) use command::{Attach, Execute, Known, Spec, waits_for_a_command};
pub use command::{
    AttachCommand, CommandEvent, CommandOutput, ExecuteCommand, GetCommandOutput, HoldUntil, OnDrop, StartCommand,
    Stdin, StopCommand,
};
pub use control::{Alive, GetServerInfo, Held, Hold, Observe, ResetClient, Shutdown, UpdateConnection, WaitReady};
pub(crate) use control::{Dismiss, Rest};
pub use directory::{DirectoryDownload, DirectoryUpload};
pub use file::{FileDownload, FileRead, FileUpload, Placement, UploadSource};
#[cfg(feature = "service")]
pub(crate) use gateway::{FindWay, GetLastOutput, StartBash, Way};
pub use git::{DiffBase, GitChanges, GitCommits, GitDiff};
pub use progress::{OnProgress, TransferProgress};
pub(crate) use stream::STREAM_NAME;
pub use stream::{FileStream, UploadEnded, UploadSender, UploadStream};
pub use traced::Traced;

use std::sync::Arc;

use actix::{Context, ResponseFuture};
use tokio::sync::oneshot;

use super::{RemoteWorkspace, behalf::Behalf};
use crate::{Operation, WorkspaceError, protocol::Trace};

/// A message that a workspace answers with a result.
pub trait Ask: actix::Message<Result = Result<Self::Answer, WorkspaceError>> + Send + 'static {
    /// What it is answered with.
    type Answer: Send + 'static;

    /// What it asks for, as errors name it.
    const OPERATION: Operation;

    /// Says in an answer what it belongs to, where it has a place for that.
    #[doc(hidden)]
    fn label(_answer: &mut Self::Answer, _trace: &Arc<Trace>) {}

    /// Hands the message to the actor.
    #[doc(hidden)]
    fn hand_over(
        self,
        workspace: &mut RemoteWorkspace,
        ctx: &mut Context<RemoteWorkspace>,
    ) -> ResponseFuture<Self::Result>;
}

/// A message with a way to answer it that does not depend on somebody waiting: one that was sent is carried out.
///
/// The runtime's own handles send every message so. A mailbox skips a plain message whose sender has stopped waiting
/// before it was taken out.
pub struct Call<M: Ask> {
    pub(crate) message: M,
    pub(crate) answer: oneshot::Sender<M::Result>,
    pub(crate) behalf: Behalf,
}

impl<M: Ask> actix::Message for Call<M> {
    type Result = ();
}

/// Makes a type a message of the actor, and says what it asks for and what it is answered with.
///
/// With `, traced` at the end the answer says what it belongs to.
macro_rules! ask {
    ($message:ty => $answer:ty, $operation:expr $(, $traced:ident)?) => {
        impl actix::Message for $message {
            type Result = Result<$answer, crate::WorkspaceError>;
        }

        impl super::Ask for $message {
            type Answer = $answer;
            const OPERATION: crate::Operation = $operation;

            $(
                fn label(answer: &mut $answer, trace: &std::sync::Arc<crate::protocol::Trace>) {
                    answer.trace = super::$traced(trace);
                }
            )?

            fn hand_over(
                self,
                workspace: &mut crate::RemoteWorkspace,
                ctx: &mut actix::Context<crate::RemoteWorkspace>,
            ) -> actix::ResponseFuture<Self::Result> {
                actix::Handler::handle(workspace, self, ctx)
            }
        }
    };
}
use ask;

fn traced(trace: &Arc<Trace>) -> Option<Arc<Trace>> {
    Some(trace.clone())
}
