use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt as _, Stream, future::BoxFuture};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{CommandResult, WorkspaceError, messages::CommandEvent};

/// A running command: a stream of what happens to it, which ends when it has ended.
///
/// While nobody takes the events, nothing more is read from the server. Dropping it stops the command, or leaves it
/// alone, as its [`on_drop`](crate::messages::ExecuteCommand::on_drop) says: one that was
/// [attached to](crate::Workspace::attach) is left alone unless that was asked for.
#[must_use = "dropping it stops the command, or ends following it"]
pub struct CommandStream {
    answer: Option<BoxFuture<'static, Result<CommandResult, WorkspaceError>>>,
    result: Option<Result<CommandResult, WorkspaceError>>,
    events: mpsc::Receiver<CommandEvent>,
    abandon: Option<DropGuard>,
    called_off: CancellationToken,
}

impl CommandStream {
    pub(super) fn new(
        answer: BoxFuture<'static, Result<CommandResult, WorkspaceError>>,
        events: mpsc::Receiver<CommandEvent>,
        abandon: DropGuard,
        called_off: CancellationToken,
    ) -> Self {
        Self { answer: Some(answer), result: None, events, abandon: Some(abandon), called_off }
    }

    /// Sees to it that the command is not started, if it has not been: it ends as one that was stopped and had no effect. One
    /// whose start is under way, or that runs, is left alone, and tells so by its [`Started`](CommandEvent::Started) event:
    /// [`stop_command`](crate::Workspace::stop_command) stops that one.
    pub fn call_off(&self) {
        self.called_off.cancel();
    }

    /// Takes what is left of the events and returns how the command ended. Output that was streamed is in the result
    /// too, up to the command's [`max_output`](crate::messages::ExecuteCommand::max_output).
    ///
    /// # Errors
    /// As `execute_command`.
    pub async fn result(mut self) -> Result<CommandResult, WorkspaceError> {
        while futures::StreamExt::next(&mut self).await.is_some() {}
        match self.result.take() {
            Some(result) => result,
            None => unreachable!("the stream ends after the answer"),
        }
    }
}

impl Stream for CommandStream {
    type Item = CommandEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<CommandEvent>> {
        if let Some(answer) = &mut self.answer
            && let Poll::Ready(result) = answer.poll_unpin(cx)
        {
            self.answer = None;
            self.result = Some(result);
            // There is nothing left to abandon.
            self.abandon.take().map(DropGuard::disarm);
        }
        match self.events.poll_recv(cx) {
            // The answer comes at the same moment as the end of the events, and it belongs to the stream.
            Poll::Ready(None) if self.answer.is_some() => Poll::Pending,
            other => other,
        }
    }
}
