//! What the tests over real sockets share: servers to talk to, a proxy that spoils things, and eyes in the sandbox.

pub(crate) mod agent;
pub(crate) mod boot;
mod eventually;
pub(crate) mod held;
pub(crate) mod http;
pub(crate) mod memory;
pub(crate) mod pattern;
pub(crate) mod processes;
pub(crate) mod proxy;
pub(crate) mod server;
pub(crate) mod tls;

pub(crate) use eventually::eventually;
