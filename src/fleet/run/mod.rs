//! What is done on many workspaces: the same on each of them, or jobs that are worked off over them.
//!
//! The [`dispatcher`] decides, the [`driver`] carries its decisions out, an [`attempt`] takes a job through its steps on
//! one workspace, and the [`emitter`] hands on what they say.

mod attempt;
mod cancel;
mod dispatcher;
mod driver;
mod emitter;
mod job;
mod known;
mod placeholder;
mod policy;
mod progress;
mod report;
mod restore;
mod roster;
mod spec;
mod step;

pub(crate) use cancel::CancelRun;
pub(crate) use driver::{Ends, Run, drive};
pub(crate) use emitter::Waiting;
pub use job::{DEFAULT_FINALLY_TIMEOUT, Job, JobPlace, JobStep};
pub use known::{AttachKnown, KnownCommands, StopKnown};
#[cfg(feature = "cli")]
pub(crate) use placeholder::{JOB, WORKSPACE, file_name};
pub use policy::{CancelReason, FailLimit, LabelCap, MaxFail, OnMaxFail, Pace};
pub use progress::RunProgress;
pub use report::RunReport;
pub(crate) use report::without_bulk;
pub(crate) use roster::Target;
pub use spec::{DEFAULT_FANOUT, RunOperation, RunSpec, Work};
