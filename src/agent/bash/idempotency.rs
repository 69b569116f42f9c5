use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use super::event::CommandRecord;
use crate::protocol::EventId;

/// The commands that were started under a name, so that a repeated start is answered with the first.
///
/// It outlives the event log's clearing: forgetting a name would let a late repetition start the command again.
#[derive(Debug)]
pub(super) struct StartedNames {
    commands: HashMap<EventId, Rc<CommandRecord>>,
    oldest_first: VecDeque<EventId>,
    text_bytes: usize,
    most: usize,
    most_text_bytes: usize,
}

impl StartedNames {
    /// Remembers at most this many, with at most this many bytes of command texts.
    pub(super) fn new(most: usize, most_text_bytes: usize) -> Self {
        Self { commands: HashMap::new(), oldest_first: VecDeque::new(), text_bytes: 0, most, most_text_bytes }
    }

    pub(super) fn get(&self, name: EventId) -> Option<&Rc<CommandRecord>> {
        self.commands.get(&name)
    }

    pub(super) fn insert(&mut self, name: EventId, command: Rc<CommandRecord>) {
        self.text_bytes += command.command.len();
        self.commands.insert(name, command);
        self.oldest_first.push_back(name);
        // The newest is always kept: its start may be repeated at any moment.
        while self.oldest_first.len() > 1
            && (self.oldest_first.len() > self.most || self.text_bytes > self.most_text_bytes)
        {
            if let Some(command) = self.oldest_first.pop_front().and_then(|oldest| self.commands.remove(&oldest)) {
                self.text_bytes -= command.command.len();
            }
        }
    }
}
