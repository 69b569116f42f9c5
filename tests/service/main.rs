//! The service, over real sockets, in a process of its own that can be killed.

#[path = "../support/agent.rs"]
mod agent;
mod gateway;
mod remote;
mod scene;
mod slice;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
