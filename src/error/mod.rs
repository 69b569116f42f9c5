//! What can go wrong, as values.
//!
//! The client layer answers with a [`Failure`]: a [kind](ErrorKind) and what is known of the [effect](Effect). The
//! workspace layer adds what was attempted and where, which makes a [`WorkspaceError`].

mod failure;
mod kind;
mod operation;
mod workspace;

pub use failure::{Effect, Failure};
pub use kind::ErrorKind;
pub use operation::Operation;
pub use workspace::WorkspaceError;
