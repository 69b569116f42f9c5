//! The service, over real sockets, in a process of its own that can be killed.

#[path = "../support/agent.rs"]
mod agent;
mod browser;
mod dashboard;
mod follower;
mod readers;
mod scene;
mod slice;
