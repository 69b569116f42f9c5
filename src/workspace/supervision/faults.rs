//! Panics on purpose, to test what becomes of them.

use std::cell::Cell;

use actix::{Context, Message, ResponseFuture};

use crate::{Operation, RemoteWorkspace, WorkspaceError, messages::Ask, protocol::BashOutput, workspace::actor::named};

/// The panics that wait to happen on a workspace.
#[derive(Default)]
pub(crate) struct Faults {
    watch: Cell<u32>,
    feed: Cell<u32>,
    push: Cell<u32>,
}

impl Faults {
    /// The text in a command's output at which its watch panics.
    pub(crate) const MARK: &'static str = "faulty";

    pub(crate) fn strike_watch(&self, event: &BashOutput) {
        let left = self.watch.get();
        if left > 0 && event.stdout.as_ref().is_some_and(|text| text.contains(Self::MARK)) {
            self.watch.set(left - 1);
            panic!("injected into a watch");
        }
    }

    pub(crate) fn strike_feed(&self) {
        let left = self.feed.get();
        if left > 0 {
            self.feed.set(left - 1);
            panic!("injected into the feed");
        }
    }

    pub(crate) fn strike_push(&self) {
        let left = self.push.get();
        if left > 0 {
            self.push.set(left - 1);
            panic!("injected into the event socket");
        }
    }
}

/// Lets so many panics happen in the watches of commands, in the feed, and at what the event socket brings.
#[derive(Default)]
pub(crate) struct Inject {
    pub(crate) watch: u32,
    pub(crate) feed: u32,
    pub(crate) push: u32,
}

/// Panics in the actor's handler.
pub(crate) struct PanicInHandler;

/// Panics in a step, in its turn.
pub(crate) struct PanicInStep;

type Answer = Result<(), WorkspaceError>;

impl Message for Inject {
    type Result = Answer;
}

impl Ask for Inject {
    type Answer = ();
    const OPERATION: Operation = Operation::Alive;

    fn hand_over(self, workspace: &mut RemoteWorkspace, _: &mut Context<RemoteWorkspace>) -> ResponseFuture<Answer> {
        let faults = &workspace.core().record.faults;
        faults.watch.set(self.watch);
        faults.feed.set(self.feed);
        faults.push.set(self.push);
        Box::pin(async { Ok(()) })
    }
}

impl Message for PanicInHandler {
    type Result = Answer;
}

impl Ask for PanicInHandler {
    type Answer = ();
    const OPERATION: Operation = Operation::ExecuteCommand;

    fn hand_over(self, _: &mut RemoteWorkspace, _: &mut Context<RemoteWorkspace>) -> ResponseFuture<Answer> {
        panic!("injected into a handler");
    }
}

impl Message for PanicInStep {
    type Result = Answer;
}

impl Ask for PanicInStep {
    type Answer = ();
    const OPERATION: Operation = Operation::ExecuteCommand;

    fn hand_over(self, workspace: &mut RemoteWorkspace, _: &mut Context<RemoteWorkspace>) -> ResponseFuture<Answer> {
        let core = workspace.core().clone();
        let place = core.enter();
        named::<Self>(workspace, async move {
            let _permit = core.turn(place, None).await?;
            panic!("injected into a step");
        })
    }
}
