//! Watching one running command to its end: a child actor a command.

mod actor;
mod assembly;
mod cadence;
mod collector;
mod ending;
mod guard;
mod looking;
mod messages;
mod outage;
mod settling;
mod sink;

pub(crate) use actor::CommandWatch;
pub(crate) use assembly::{Assembly, Progress};
pub(crate) use collector::Collector;
pub(crate) use ending::whole_seconds_up;
pub(crate) use messages::{Appetite, End, Lost, News, NewsFailed, Settled, Started, Watching};

/// From the events of a command to its output, as the watch does it. Returns how many bytes of output there are, and one more
/// when the command has ended and nothing is missing.
#[cfg(all(feature = "cli", any(test, feature = "hot-paths")))]
pub(crate) fn settle(events: Vec<crate::protocol::BashOutput>) -> usize {
    let (mut assembly, mut sink) = (Assembly::default(), sink::Sink::new(usize::MAX, None, false));
    for event in events {
        assembly.add(event);
        while let Some(event) = assembly.release() {
            sink.take(event);
        }
    }
    let (stdout, stderr) = sink.finish();
    let complete = matches!(assembly.progress(), Progress::Complete { .. });
    stdout.text.len() + stderr.text.len() + usize::from(complete)
}
