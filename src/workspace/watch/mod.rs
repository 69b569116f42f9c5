//! Watching one running command to its end: a child actor a command.

mod actor;
mod assembly;
mod cadence;
mod collector;
mod ending;
mod guard;
mod outage;
mod sink;

pub(crate) use actor::{Appetite, CommandWatch, End, Lost, News, NewsFailed, Settled, Started, Watching};
pub(crate) use assembly::{Assembly, Progress};
pub(crate) use collector::Collector;
pub(crate) use ending::whole_seconds_up;
