//! The service, over real sockets, in a process of its own that can be killed.

#[path = "../support/agent.rs"]
mod agent;
mod http;
mod operations;
mod rest;
mod scene;
mod security;
mod slice;
