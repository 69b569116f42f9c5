//! The service, over real sockets, in a process of its own that can be killed.

#[path = "../support/agent.rs"]
mod agent;
mod gateway;
#[path = "../support/proxy/mod.rs"]
#[allow(dead_code)]
mod proxy;
mod remote;
mod scene;
mod slice;
