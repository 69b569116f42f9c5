use std::sync::Arc;

use actix::{Context, Handler, ResponseFuture};

use super::Ask;
use crate::{Operation, RemoteWorkspace, WorkspaceError, client, protocol::Trace};

/// A message that belongs to a trace: its requests say so in their headers, and so do its result and its error.
///
/// Requests that several messages share, such as the searches for the output of commands, belong to none.
#[derive(Debug, Clone)]
pub struct Traced<M> {
    /// What is asked for.
    pub message: M,
    /// What it belongs to.
    pub trace: Arc<Trace>,
}

impl<M: Ask> actix::Message for Traced<M> {
    type Result = M::Result;
}

impl<M: Ask> Ask for Traced<M> {
    type Answer = M::Answer;
    const OPERATION: Operation = M::OPERATION;

    fn label(answer: &mut Self::Answer, trace: &Arc<Trace>) {
        M::label(answer, trace);
    }

    fn hand_over(
        self,
        workspace: &mut RemoteWorkspace,
        ctx: &mut Context<RemoteWorkspace>,
    ) -> ResponseFuture<Self::Result> {
        let Self { message, trace } = self;
        let work = message.hand_over(workspace, ctx);
        Box::pin(async move {
            let mut result: Result<M::Answer, WorkspaceError> = client::traced(trace.clone(), work).await;
            match &mut result {
                Ok(answer) => M::label(answer, &trace),
                Err(error) => error.trace = Some(trace),
            }
            result
        })
    }
}

impl<M: Ask> Handler<Traced<M>> for RemoteWorkspace {
    type Result = ResponseFuture<M::Result>;

    fn handle(&mut self, message: Traced<M>, ctx: &mut Self::Context) -> Self::Result {
        message.hand_over(self, ctx)
    }
}
