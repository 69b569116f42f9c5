//! How workspaces bear servers that go away, come back, are replaced, come up late, or would be reaped.

mod away;
#[path = "../support/eventually.rs"]
mod eventually;
mod keepalive;
mod push;
mod ready;
mod restart;
mod servers;
mod stopping;
