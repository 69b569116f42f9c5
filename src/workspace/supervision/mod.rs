//! What keeps the actors of a workspace going: how a panic is caught, when an actor is started again, and what is known of
//! how it went. The fleet's guardian and the watches of commands share it.

#[cfg(test)]
mod faults;
mod guarded;
mod record;
mod restarts;

#[cfg(test)]
pub(crate) use faults::{Faults, Inject, PanicInHandler, PanicInStep};
pub(crate) use guarded::{Exit, Guarded, panic_text};
pub(crate) use record::{CommandEnd, Record};
pub(crate) use restarts::{Limits, Restarts};
