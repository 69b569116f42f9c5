//! How workspaces bear servers that go away, come back, are replaced, come up late, or would be reaped.

mod attach;
mod away;
mod keepalive;
mod push;
mod ready;
mod reaper;
mod restart;
mod retries;
mod servers;
mod stopping;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
