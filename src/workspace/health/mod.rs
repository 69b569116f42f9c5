//! How the server of a workspace does, as its own requests tell: nothing is asked on purpose but by the probe of a
//! server that is away.

mod machine;
mod monitor;
mod probe;

pub use machine::HealthState;
pub use monitor::Health;
pub(crate) use monitor::{HealthLight, LinkObserver, Monitor};
pub(crate) use probe::probe_while_idle;
