//! One operation over many workspaces.

mod driver;
mod emitter;
mod job;
mod policy;
mod spec;
mod target;

pub(crate) use driver::{Run, drive};
pub(crate) use emitter::Waiting;
pub use job::{DEFAULT_FINALLY_TIMEOUT, Job, JobPlace, JobStep};
pub use policy::{CancelReason, FailLimit, LabelCap, MaxFail, OnMaxFail, Pace};
pub use spec::{DEFAULT_FANOUT, RunOperation, RunSpec, Work};
pub(crate) use target::Target;
