use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
};

use super::{
    body::Body,
    event::{CommandRecord, Event, OutputRecord},
    timestamp::Micros,
};
use crate::{agent::Retention, protocol::EventId};

/// Every event that is kept, found by id, by time, and by command and order, without a scan.
///
/// The timestamp of an event is its key: the log makes them strictly increasing.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    retention: Retention,
    pub(super) commands_by_time: BTreeMap<Micros, Rc<CommandRecord>>,
    pub(super) outputs_by_time: BTreeMap<Micros, Rc<OutputRecord>>,
    pub(super) entries: HashMap<EventId, Entry>,
    output_ids: HashMap<EventId, Micros>,
    last: Micros,
    /// Keys of chunks, oldest first. Some may be gone already.
    chunks: VecDeque<Micros>,
    /// Finished commands, first finished first. Some may be gone already.
    finished: VecDeque<EventId>,
    usage: Usage,
    /// The newest event that the retention took away.
    newest_evicted: Micros,
}

/// What the log holds, as the retention counts it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Finished commands.
    commands: usize,
    /// Bytes of their texts and last events.
    command_bytes: usize,
    /// Output events without an exit code.
    chunks: usize,
    /// Bytes of their bodies.
    output_bytes: u64,
    /// Bytes of those bodies that are in memory.
    memory_bytes: usize,
}

/// A command and where its output is.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Absent once the log was cleared.
    command: Option<Rc<CommandRecord>>,
    /// The kept output events: order and key, ascending in both.
    pub(super) outputs: VecDeque<(u32, Micros)>,
    next_order: u32,
    /// Bytes counted in [`Usage::command_bytes`].
    kept_bytes: usize,
}

/// The output of a finished command, for whoever waited for it.
pub(super) struct Finished {
    /// Every kept event in order, the last one with the exit code.
    pub(super) outputs: Vec<Rc<OutputRecord>>,
    /// Whether events before the last are missing.
    pub(super) incomplete: bool,
}

impl EventLog {
    pub(super) fn new(retention: Retention) -> Self {
        Self { retention, ..Self::default() }
    }

    /// A timestamp for the next event: now, or just after the last one.
    fn stamp(&mut self, now: Micros) -> Micros {
        self.last = now.max(self.last + 1);
        self.last
    }

    /// The key of the newest event there ever was.
    pub(super) fn last(&self) -> Micros {
        self.last
    }

    /// The newest event that was taken away by the retention. A reader that had not come past it has missed it.
    pub(super) fn newest_evicted(&self) -> Micros {
        self.newest_evicted
    }

    pub(super) fn add_command(&mut self, now: Micros, make: impl FnOnce(Micros) -> CommandRecord) -> Rc<CommandRecord> {
        let at = self.stamp(now);
        let command = Rc::new(make(at));
        self.commands_by_time.insert(at, Rc::clone(&command));
        self.entries.insert(command.id, Entry { command: Some(Rc::clone(&command)), ..Entry::default() });
        command
    }

    /// Whether a chunk of this length goes to disk.
    pub(super) fn spills(&self, len: usize) -> bool {
        self.usage.memory_bytes + len > self.retention.memory_bytes
    }

    /// Adds a chunk of a running command's output.
    pub(super) fn add_chunk(&mut self, now: Micros, command: EventId, stdout: Option<Body>, stderr: Option<Body>) {
        let Some(at) = self.add_output(now, command, None, stdout, stderr) else { return };
        self.chunks.push_back(at);
        if let Some(chunk) = self.outputs_by_time.get(&at) {
            self.usage.chunks += 1;
            self.usage.output_bytes += chunk.bodies().map(|body| body.len() as u64).sum::<u64>();
            self.usage.memory_bytes += chunk.bodies().map(Body::memory).sum::<usize>();
        }
        self.evict();
    }

    /// Counts a chunk that could not be kept, so that readers see that it is missing.
    pub(super) fn lose_chunk(&mut self, command: EventId) {
        if let Some(entry) = self.entries.get_mut(&command) {
            entry.next_order += 1;
        }
    }

    /// Adds a command's last event.
    pub(super) fn finish(
        &mut self,
        now: Micros,
        command: EventId,
        exit_code: i32,
        stdout: Option<Body>,
        stderr: Option<Body>,
    ) {
        let Some(at) = self.add_output(now, command, Some(exit_code), stdout, stderr) else { return };
        let last = self.outputs_by_time.get(&at).map_or(0, |last| last.bodies().map(Body::len).sum());
        if let Some(entry) = self.entries.get_mut(&command) {
            let text = entry.command.as_ref().map_or(0, |command| command.command.len());
            entry.kept_bytes = text + last;
            self.usage.commands += 1;
            self.usage.command_bytes += entry.kept_bytes;
            self.finished.push_back(command);
        }
        self.evict();
    }

    fn add_output(
        &mut self,
        now: Micros,
        command_id: EventId,
        exit_code: Option<i32>,
        stdout: Option<Body>,
        stderr: Option<Body>,
    ) -> Option<Micros> {
        let at = self.stamp(now);
        let entry = self.entries.get_mut(&command_id)?;
        let order = entry.next_order;
        entry.next_order += 1;
        entry.outputs.push_back((order, at));
        let id = EventId::random();
        let output = OutputRecord { id, at, command_id, order, exit_code, stdout, stderr };
        self.outputs_by_time.insert(at, Rc::new(output));
        self.output_ids.insert(id, at);
        Some(at)
    }

    /// The event with this id.
    pub(super) fn event(&self, id: EventId) -> Option<Event> {
        if let Some(at) = self.output_ids.get(&id) {
            return self.outputs_by_time.get(at).cloned().map(Event::Output);
        }
        self.entries.get(&id)?.command.clone().map(Event::Command)
    }

    /// The output of a command that has ended; `None` when it was forgotten meanwhile.
    pub(super) fn finished(&self, command: EventId) -> Option<Finished> {
        let entry = self.entries.get(&command)?;
        let outputs: Vec<_> =
            entry.outputs.iter().filter_map(|(_, at)| self.outputs_by_time.get(at).cloned()).collect();
        let last = outputs.last().filter(|last| last.exit_code.is_some())?;
        Some(Finished { incomplete: outputs.len() != last.order as usize + 1, outputs })
    }

    /// Forgets everything but which commands are running. Tells how many events there were.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.commands_by_time.len() + self.outputs_by_time.len();
        for id in std::mem::take(&mut self.finished) {
            self.entries.remove(&id);
        }
        for entry in self.entries.values_mut() {
            entry.command = None;
            entry.outputs.clear();
        }
        self.commands_by_time.clear();
        self.outputs_by_time.clear();
        self.output_ids.clear();
        self.chunks.clear();
        self.usage = Usage::default();
        count
    }

    /// Takes away what is beyond the retention, oldest first.
    fn evict(&mut self) {
        let kept = self.retention.clone();
        while self.usage.chunks > kept.chunks || self.usage.output_bytes > kept.output_bytes {
            let Some(at) = self.chunks.pop_front() else { break };
            if let Some(command) = self.forget_output(at)
                && let Some(entry) = self.entries.get_mut(&command)
            {
                // The oldest chunk of all is the oldest of its command.
                if entry.outputs.front().is_some_and(|(_, key)| *key == at) {
                    entry.outputs.pop_front();
                }
            }
        }
        while self.usage.commands > kept.commands
            || (self.usage.command_bytes > kept.command_bytes && self.usage.commands > 1)
        {
            let Some(id) = self.finished.pop_front() else { break };
            self.forget_command(id);
        }
    }

    /// Removes an output event and tells whose it was.
    fn forget_output(&mut self, at: Micros) -> Option<EventId> {
        let output = self.outputs_by_time.remove(&at)?;
        self.output_ids.remove(&output.id);
        self.newest_evicted = self.newest_evicted.max(at);
        if output.exit_code.is_none() {
            self.usage.chunks -= 1;
            self.usage.output_bytes -= output.bodies().map(|body| body.len() as u64).sum::<u64>();
            self.usage.memory_bytes -= output.bodies().map(Body::memory).sum::<usize>();
        }
        Some(output.command_id)
    }

    fn forget_command(&mut self, id: EventId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(command) = entry.command {
            self.commands_by_time.remove(&command.at);
            self.newest_evicted = self.newest_evicted.max(command.at);
        }
        for (_, at) in entry.outputs {
            self.forget_output(at);
        }
        self.usage.commands -= 1;
        self.usage.command_bytes -= entry.kept_bytes;
    }
}
