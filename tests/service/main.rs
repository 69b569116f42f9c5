//! The service, over real sockets, in a process of its own that can be killed.

mod browser;
mod client;
mod dashboard;
mod disk;
mod durable;
mod follower;
mod gateway;
mod http;
mod idempotency;
mod lookout;
mod operations;
mod readers;
mod records;
mod remote;
mod removal;
mod rest;
mod runs;
mod scene;
mod security;
mod slice;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

use support::agent;
