use tokio::sync::mpsc;

use super::{Collector, collector::Collected};
use crate::{OutputStream, messages::CommandEvent, protocol::BashOutput};

/// Where a command's output goes: it is collected up to a bound, and sent to whoever follows the command.
pub(super) struct Sink {
    stdout: Collector,
    stderr: Collector,
    follower: Option<mpsc::Sender<CommandEvent>>,
    /// Released, and not yet taken by the follower.
    pending: Vec<CommandEvent>,
}

impl Sink {
    pub(super) fn new(bound: usize, follower: Option<mpsc::Sender<CommandEvent>>) -> Self {
        Self { stdout: Collector::new(bound), stderr: Collector::new(bound), follower, pending: Vec::new() }
    }

    /// Takes an event's texts in.
    pub(super) fn take(&mut self, event: BashOutput) {
        for (stream, text) in [(OutputStream::Stdout, event.stdout), (OutputStream::Stderr, event.stderr)] {
            let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
            if self.follower.is_some() {
                self.pending.push(CommandEvent::Output { stream, text: text.clone() });
            }
            match stream {
                OutputStream::Stdout => self.stdout.push(text),
                OutputStream::Stderr => self.stderr.push(text),
            }
        }
    }

    /// Sends what can be sent at once. Returns what the follower has no room for, with the way to it.
    pub(super) fn flush(&mut self) -> Option<(mpsc::Sender<CommandEvent>, Vec<CommandEvent>)> {
        let follower = self.follower.as_ref()?;
        let mut pending = std::mem::take(&mut self.pending).into_iter();
        while let Some(event) = pending.next() {
            match follower.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    let rest = std::iter::once(event).chain(pending).collect();
                    return Some((follower.clone(), rest));
                }
                // A follower that has gone no longer cares; its going is noticed by other means.
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.follower = None;
                    return None;
                }
            }
        }
        None
    }

    pub(super) fn finish(&mut self) -> (Collected, Collected) {
        self.follower = None;
        let take = |collector: &mut Collector| std::mem::replace(collector, Collector::new(0)).finish();
        (take(&mut self.stdout), take(&mut self.stderr))
    }
}
