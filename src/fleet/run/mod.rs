//! One operation over many workspaces.

mod driver;
mod emitter;
mod spec;
mod target;

pub(crate) use driver::{Run, drive};
pub(crate) use emitter::Waiting;
pub use spec::{DEFAULT_FANOUT, RunOperation, RunSpec};
pub(crate) use target::Target;
