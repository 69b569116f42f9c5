//! Watching one running command to its end.

mod assembly;
mod cadence;
mod collector;

pub(crate) use assembly::{Assembly, Progress};
