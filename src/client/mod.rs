//! The typed client of one agent server: a method per endpoint, no policy.

mod connection;

pub use connection::{Connection, SessionKey, TlsRoots};
