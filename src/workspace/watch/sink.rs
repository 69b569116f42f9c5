use std::{cell::Cell, rc::Rc};

use tokio::sync::mpsc;

use super::{Collector, collector::Collected};
use crate::{OutputStream, messages::CommandEvent, protocol::BashOutput};

/// The most bytes of one event for the follower. A server can put a hundred times as much into one of its own.
const MOST_OF_AN_EVENT: usize = 2 << 20;

/// Where a command's output goes: it is collected up to a bound, and sent to whoever follows the command.
pub(super) struct Sink {
    stdout: Collector,
    stderr: Collector,
    bound: usize,
    events: Option<mpsc::Sender<CommandEvent>>,
    follow_output: bool,
    /// Released, and not yet taken by the follower.
    pending: Vec<CommandEvent>,
    delivered: Rc<Delivered>,
    /// From which byte of each stream on the output is wanted.
    from: [u64; 2],
    /// How much of each stream is yet to be left out before that.
    before: [u64; 2],
    /// How much of each stream is not to be sent, since the follower got it before everything was read again.
    skip: [u64; 2],
}

/// How many bytes of each stream a follower has got.
#[derive(Default)]
pub(super) struct Delivered([Cell<u64>; 2]);

impl Delivered {
    /// Takes in that an event goes to the follower.
    pub(super) fn add(&self, event: &CommandEvent) {
        if let CommandEvent::Output { stream, text } = event {
            let bytes = &self.0[index(*stream)];
            bytes.set(bytes.get() + text.len() as u64);
        }
    }
}

/// A text without its first bytes, as many as there are yet to be left out. A character is kept whole.
fn leave_out<'a>(bytes: &mut u64, text: &'a str) -> &'a str {
    let out = usize::try_from(*bytes).unwrap_or(usize::MAX).min(text.len());
    *bytes -= out as u64;
    &text[text.floor_char_boundary(out)..]
}

const fn index(stream: OutputStream) -> usize {
    match stream {
        OutputStream::Stdout => 0,
        OutputStream::Stderr => 1,
    }
}

impl Sink {
    pub(super) fn new(bound: usize, events: Option<mpsc::Sender<CommandEvent>>, follow_output: bool) -> Self {
        Self {
            stdout: Collector::new(bound),
            stderr: Collector::new(bound),
            bound,
            follow_output: follow_output && events.is_some(),
            events,
            pending: Vec::new(),
            delivered: Rc::default(),
            from: [0; 2],
            before: [0; 2],
            skip: [0; 2],
        }
    }

    /// Leaves out what comes before these bytes of the streams.
    pub(super) fn from(mut self, from: [u64; 2]) -> Self {
        (self.from, self.before) = (from, from);
        self
    }

    /// Sends the follower nothing of what comes before these bytes of the streams.
    pub(super) fn told(mut self, told: [u64; 2]) -> Self {
        for (delivered, told) in self.delivered.0.iter().zip(told) {
            delivered.set(told);
        }
        self.skip = told;
        self
    }

    /// Forgets all output, which will come again from the beginning. What the follower has got is not sent again.
    pub(super) fn begin_again(&mut self) {
        (self.stdout, self.stderr) = (Collector::new(self.bound), Collector::new(self.bound));
        self.pending.clear();
        self.before = self.from;
        self.skip = [0, 1].map(|stream| self.delivered.0[stream].get());
    }

    /// Whether somebody was there who has gone.
    pub(super) fn nobody_is_there(&self) -> bool {
        self.events.as_ref().is_some_and(mpsc::Sender::is_closed)
    }

    pub(super) fn delivered(&self) -> Rc<Delivered> {
        self.delivered.clone()
    }

    /// Takes an event's texts in. Returns how many bytes they are.
    pub(super) fn take(&mut self, event: BashOutput) -> u64 {
        let mut bytes = 0;
        for (stream, text) in [(OutputStream::Stdout, event.stdout), (OutputStream::Stderr, event.stderr)] {
            let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
            bytes += text.len() as u64;
            let Some(text) = self.wanted(stream, text) else { continue };
            if self.follow_output {
                self.collector(stream).push_copy(&text);
                self.tell(stream, text);
            } else {
                self.collector(stream).push(text);
            }
        }
        bytes
    }

    const fn collector(&mut self, stream: OutputStream) -> &mut Collector {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    /// Lets the follower have what it has not got of a text.
    fn tell(&mut self, stream: OutputStream, text: String) {
        let mut fresh = self.fresh(stream, &text);
        if fresh.len() == text.len() && text.len() <= MOST_OF_AN_EVENT {
            self.pending.push(CommandEvent::Output { stream, text });
            return;
        }
        while !fresh.is_empty() {
            let (piece, rest) = fresh.split_at(fresh.floor_char_boundary(MOST_OF_AN_EVENT));
            self.pending.push(CommandEvent::Output { stream, text: piece.to_owned() });
            fresh = rest;
        }
    }

    /// The part of a text that is not before what is wanted.
    fn wanted(&mut self, stream: OutputStream, mut text: String) -> Option<String> {
        let before = &mut self.before[index(stream)];
        if *before > 0 {
            let kept = leave_out(before, &text).len();
            text.drain(..text.len() - kept);
        }
        (!text.is_empty()).then_some(text)
    }

    /// The part of a text that the follower has not got.
    fn fresh<'a>(&mut self, stream: OutputStream, text: &'a str) -> &'a str {
        leave_out(&mut self.skip[index(stream)], text)
    }

    /// Sends what can be sent at once. Returns what the follower has no room for, with the way to it.
    pub(super) fn flush(&mut self) -> Option<(mpsc::Sender<CommandEvent>, Vec<CommandEvent>)> {
        let follower = self.events.as_ref().filter(|_| self.follow_output)?;
        let mut pending = std::mem::take(&mut self.pending).into_iter();
        while let Some(event) = pending.next() {
            match follower.try_reserve() {
                Ok(room) => {
                    self.delivered.add(&event);
                    room.send(event);
                }
                Err(mpsc::error::TrySendError::Full(())) => {
                    let rest = std::iter::once(event).chain(pending).collect();
                    return Some((follower.clone(), rest));
                }
                // A follower that has gone no longer cares; its going is noticed by other means.
                Err(mpsc::error::TrySendError::Closed(())) => {
                    self.follow_output = false;
                    return None;
                }
            }
        }
        None
    }

    pub(super) fn finish(&mut self) -> (Collected, Collected) {
        self.events = None;
        self.follow_output = false;
        let take = |collector: &mut Collector| std::mem::replace(collector, Collector::new(0)).finish();
        let (mut stdout, mut stderr) = (take(&mut self.stdout), take(&mut self.stderr));
        // What was left out was written all the same.
        stdout.total += self.from[0] - self.before[0];
        stderr.total += self.from[1] - self.before[1];
        (stdout, stderr)
    }
}
