use std::cell::{Cell, RefCell};

use crate::{CommandResult, ErrorKind, Failure, protocol::EventId};

/// Why a workspace that nobody says more of takes nothing any more.
const SHUT_DOWN: &str = "the workspace was shut down";

/// What is known of how a workspace's actors went, kept beside them so that it survives them.
#[derive(Default)]
pub(crate) struct Record {
    /// How often the workspace's actor was started again.
    pub(crate) restarts: Cell<u64>,
    /// How often the watch of a command was started again.
    pub(crate) command_restarts: Cell<u64>,
    last_failure: RefCell<Option<String>>,
    /// Why nothing is taken any more.
    closed: RefCell<Option<String>>,
    /// Whether the actor failed so often that it is not trusted with another message.
    given_up: Cell<bool>,
    /// Whether running commands are left alone when the workspace ends.
    pub(crate) detaching: Cell<bool>,
    /// The commands that ended, while somebody wants to know.
    ends: RefCell<Option<Vec<(EventId, CommandEnd)>>>,
    #[cfg(test)]
    pub(crate) faults: super::Faults,
}

/// How the end of a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandEnd {
    /// It ended by itself, or its time was up.
    Finished,
    /// It was stopped.
    Stopped,
    /// Nobody can tell, or it runs on.
    Unknown,
}

impl From<&Result<CommandResult, Failure>> for CommandEnd {
    fn from(result: &Result<CommandResult, Failure>) -> Self {
        match result {
            Ok(result) if result.stopped => Self::Stopped,
            Ok(_) => Self::Finished,
            Err(_) => Self::Unknown,
        }
    }
}

impl Record {
    /// Takes in that an actor failed.
    pub(crate) fn failed(&self, what: String) {
        *self.last_failure.borrow_mut() = Some(what);
    }

    /// What was said of the last failure.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_failure.borrow().clone()
    }

    /// Says why nothing is taken any more. The first reason stays.
    pub(crate) fn close(&self, reason: &str) {
        self.closed.borrow_mut().get_or_insert_with(|| reason.to_owned());
    }

    /// Says that the actor is not trusted with another message, and why.
    pub(crate) fn give_up(&self, reason: String) {
        self.given_up.set(true);
        *self.closed.borrow_mut() = Some(reason);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    /// Why nothing is taken any more, if that is so.
    pub(crate) fn closed(&self) -> Option<String> {
        self.closed.borrow().clone()
    }

    /// What those are told who ask for something that is not taken any more.
    pub(crate) fn refusal(&self) -> Failure {
        let reason = self.closed().unwrap_or_else(|| SHUT_DOWN.to_owned());
        Failure::not_sent(ErrorKind::Stopped { reason })
    }

    /// Takes in how a command ended.
    pub(crate) fn ended(&self, id: EventId, end: CommandEnd) {
        if let Some(ends) = &mut *self.ends.borrow_mut() {
            ends.push((id, end));
        }
    }

    /// Notes ends from now on, for the rest of the workspace's life. Returns how many were noted already.
    pub(crate) fn note_ends(&self) -> usize {
        self.ends.borrow_mut().get_or_insert_default().len()
    }

    /// The ends noted after so many.
    pub(crate) fn ends_since(&self, noted: usize) -> Vec<(EventId, CommandEnd)> {
        self.ends.borrow().as_ref().and_then(|ends| ends.get(noted..)).unwrap_or_default().to_vec()
    }
}
