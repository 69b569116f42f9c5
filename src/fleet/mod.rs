//! Many workspaces: their supervisor, and runs over them.

mod event;
mod outcome;

pub use event::{OutcomeCounts, RunEvent, RunEventKind, RunSummary, TargetFinished, TargetValue};
pub use outcome::Outcome;
