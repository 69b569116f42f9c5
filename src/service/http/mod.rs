//! What all routes share.

mod auth;
mod guard;
mod json;
mod params;
mod problem;
mod rate;
mod routes;
mod sse;
mod tls;

pub(super) use auth::{Authorized, Writer};
pub(super) use guard::{RequestId, guard, may_act};
pub(super) use json::{Json, announced, next_piece, read_strictly};
pub(super) use params::Params;
pub(super) use problem::{Problem, ProblemKind};
pub(super) use rate::RateLimiter;
pub(super) use routes::Routes;
pub(super) use sse::{Reader, follow_log};
pub(super) use tls::server_config;
