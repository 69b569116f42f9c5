//! The client against servers that misbehave, over real sockets.
#![expect(missing_docs, reason = "a test")]

mod answers;
mod connections;
mod downloads;
mod proxy;
mod server;
mod socket;
mod tls;
mod uploads;
