//! Many workspaces: their supervisor, and runs over them.

mod event;
mod guardian;
mod label;
mod lease;
mod lease_table;
mod open_files;
mod outcome;
mod pattern;
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
pub use label::{InvalidLabel, LabelCondition, LabelFilter};
pub(crate) use lease::{Acquire, LeaseGuard, Restore};
#[cfg(all(feature = "cli", any(test, feature = "hot-paths")))]
pub(crate) use lease_table::LeaseLookups;
pub use open_files::{FILES_PER_TARGET, fanout_for_open_files, raise_open_file_limit};
pub use outcome::Outcome;
pub use pattern::{InvalidPattern, MOST_NAMES, NamePattern, split_list};
pub use run::{
    AttachKnown, CancelReason, DEFAULT_FANOUT, DEFAULT_FINALLY_TIMEOUT, FailLimit, Job, JobPlace, JobStep,
    KnownCommands, LabelCap, MaxFail, OnMaxFail, Pace, RunOperation, RunProgress, RunReport, RunSpec, StopKnown, Work,
};
pub(crate) use run::{CancelRun, Run, Waiting, without_bulk};
#[cfg(feature = "cli")]
pub(crate) use run::{JOB, WORKSPACE, file_name};
pub(crate) use runtime::Runtime;
pub use selector::Selector;
pub use status::{Drain, DrainEnd, DrainReport, DrainedCommand, FleetStatus, Totals};
pub use supervisor::WorkspaceInfo;
pub(crate) use supervisor::{Add, Drained, End, Find, FleetSupervisor, List, Remove, Snapshots, Status, Suspend};
