//! Many workspaces: their supervisor, and runs over them.

mod event;
mod guardian;
mod outcome;
mod placement;
mod roster;
mod run;
mod runtime;
mod selector;
mod status;
mod supervisor;

pub use event::{
    OutcomeCounts, RunEvent, RunEventKind, RunSummary, StepFinished, TargetFinished, TargetId, TargetValue,
};
pub use outcome::Outcome;
pub use run::{
    CancelReason, DEFAULT_FANOUT, DEFAULT_FINALLY_TIMEOUT, FailLimit, Job, JobPlace, JobStep, LabelCap, MaxFail,
    OnMaxFail, Pace, RunOperation, RunSpec, Work,
};
pub(crate) use run::{Run, Waiting};
pub(crate) use runtime::Runtime;
pub use selector::Selector;
pub use status::{Drain, DrainEnd, DrainReport, DrainedCommand, FleetStatus, Totals};
pub use supervisor::WorkspaceInfo;
pub(crate) use supervisor::{Add, Drained, End, Find, FleetSupervisor, List, Remove, Snapshots, Status};
