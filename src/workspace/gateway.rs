//! The messages of a service's gateway.

use actix::{Context, Handler, MessageResult, ResponseFuture};

use super::{RemoteWorkspace, actor::named, backoff::Retry, feed, messages::*, steps};
use crate::{
    WorkspaceError,
    messages::{ExecuteCommand, OnDrop},
    protocol::{BashCommand, StartBashCommand},
};

impl ExecuteCommand {
    /// A command whose server gets exactly this body, but for what is put before the text, and which nobody else ends.
    pub(crate) fn as_asked(start: StartBashCommand) -> Self {
        let mut command = Self::new(start.command).with_timeout(None).with_on_drop(OnDrop::Detach);
        command.cwd = start.cwd;
        command.server_timeout = Some(start.timeout);
        command
    }
}

impl Handler<FindWay> for RemoteWorkspace {
    type Result = MessageResult<FindWay>;

    fn handle(&mut self, _: FindWay, _: &mut Self::Context) -> Self::Result {
        let core = self.core();
        let way = || {
            let (id, connection) = core.way();
            Way { id, connection }
        };
        MessageResult((!core.closing.is_cancelled()).then(way))
    }
}

impl Handler<StartBash> for RemoteWorkspace {
    type Result = ResponseFuture<Result<BashCommand, WorkspaceError>>;

    fn handle(&mut self, StartBash(start): StartBash, _: &mut Context<Self>) -> Self::Result {
        let core = self.core().clone();
        let place = core.enter();
        named::<StartBash>(self, async move {
            let (command, timeout) = (start.command.clone(), start.timeout);
            let cwd = start.cwd.clone().or_else(|| core.config.default_cwd.clone());
            let begun = steps::command::start_detached(core, place, ExecuteCommand::as_asked(start)).await?;
            let (id, timestamp, instance_id) = (begun.id, begun.server_time, begun.instance);
            Ok(BashCommand { command, cwd, timeout, id, timestamp, instance_id })
        })
    }
}

impl Handler<GetLastOutput> for RemoteWorkspace {
    type Result = ResponseFuture<<GetLastOutput as actix::Message>::Result>;

    fn handle(&mut self, GetLastOutput(id): GetLastOutput, _: &mut Context<Self>) -> Self::Result {
        let core = self.core().clone();
        named::<GetLastOutput>(self, async move {
            Retry::new(&core).until_answered(|| async { feed::last_output(&core.client()?, id).await }).await
        })
    }
}
