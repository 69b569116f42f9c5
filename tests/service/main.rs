//! The service, over real sockets, in a process of its own that can be killed.

#[path = "../support/agent.rs"]
mod agent;
mod browser;
mod client;
mod dashboard;
mod durable;
mod follower;
mod http;
mod idempotency;
mod operations;
mod readers;
mod rest;
mod runs;
mod scene;
mod security;
mod slice;
