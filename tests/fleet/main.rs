//! Runs, jobs and leases over real sockets, against the embedded agent server.
#![cfg(feature = "agent")]

mod jobs;
mod leases;
mod runs;
mod sandboxes;
