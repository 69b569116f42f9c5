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
