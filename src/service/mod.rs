//! The runtime as a service: a fleet that programs in any language talk to over HTTP, and that goes on where it was after
//! the process was killed.
//!
//! | folder | what it is |
//! | --- | --- |
//! | `store` | what outlives the process: records, and logs of output and events |
//! | `engine` | what is done, without HTTP: workspaces, commands, runs, leases, retention, and going on after a restart |
//! | `http` | what all routes share: problems, keys, limits, idempotency, server-sent events |
//! | `api` | the routes below `/v1`, and their description |
//! | `gateway` | the agent-server API of each workspace, below `/workspaces/{name}` |
//! | `dashboard` | the page at `/` |
//!
//! Each knows only those above it, but for the last three, which do not know each other.

mod api;
mod config;
mod dashboard;
mod engine;
mod error;
mod gateway;
mod hosts;
mod http;
mod metrics;
mod schemas;
mod server;
mod store;
mod strict;

pub use config::{Access, ApiKey, InvalidKeys, Limits, Retention, ServiceConfig, TlsFiles};
pub use error::ServiceError;
pub use hosts::{HostPattern, InvalidHostPattern};
pub use server::{Service, ServiceHandle};
pub use store::StoreError;
