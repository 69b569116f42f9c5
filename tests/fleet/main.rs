//! Runs, jobs and leases over real sockets, against the embedded agent server.
#![cfg(feature = "agent")]

mod gone_on;
mod jobs;
mod killed;
mod leases;
mod lost;
mod resume;
mod runs;
mod sandboxes;
#[path = "../health/servers.rs"]
#[allow(dead_code)]
mod servers;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
