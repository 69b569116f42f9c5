//! The client against servers that misbehave, over real sockets.
#![expect(unreachable_pub, reason = "nothing of a test can be reached from outside")]

mod answers;
#[path = "../support/tls.rs"]
mod authority;
mod connections;
mod downloads;
mod proxy;
mod server;
mod socket;
mod tls;
mod trace;
mod uploads;
