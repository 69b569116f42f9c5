//! The embedded agent server, over real sockets.
#![cfg(feature = "agent")]

#[path = "agent_server/bash.rs"]
mod bash;
#[path = "agent_server/ending.rs"]
mod ending;
#[path = "agent_server/files.rs"]
mod files;
#[path = "agent_server/git.rs"]
mod git;
#[path = "agent_server/server.rs"]
mod server;
#[path = "agent_server/socket.rs"]
mod socket;
#[path = "agent_server/stalling.rs"]
mod stalling;
#[path = "agent_server/support.rs"]
mod support;
