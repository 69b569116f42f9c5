//! What all routes share.

mod auth;
mod problem;
mod sse;

pub(super) use auth::{Authorized, Writer};
pub(super) use problem::{Problem, ProblemKind};
pub(super) use sse::follow_log;
