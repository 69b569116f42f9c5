//! An agent server of our own, small and fast, that speaks the API of the OpenHands agent server.
//!
//! It runs commands on the machine it runs on, and serves files and git queries from there. Everything that drives a
//! remote sandbox can be pointed at it, the official Python client included. One agent is one task set on one thread: a
//! process may hold many, each with its own port, keys and root.
//!
//! # Where output lives
//! Events are indexed in memory. The text of output is in memory up to [`Retention::memory_bytes`] and beyond that in
//! unnamed files in [`AgentConfig::spill_dir`], which the system frees when the agent ends, however it ends. When a bound of
//! [`Retention`] is passed the oldest output goes first. A reader of evicted output gets the events that are left; the
//! command's last event stays readable as long as the command is known, and its `order` is the number of chunks there ever
//! were, so a count shows that some are missing. `execute_bash_command` answers 500 rather than with half of the output. A
//! command that is itself forgotten is a 404. An event socket that has not been sent an evicted event is closed with 1013.
//!
//! # What it does otherwise than the real server
//! - `order` never repeats; text is never cut inside a character; output appears at the latest 100 ms after it was written,
//!   and within 20 to 50 ms where it is pushed to somebody and the command has run for a second.
//! - Stop and timeout end every process of a command, also those that left its session.
//! - A start with the header `Idempotency-Key: <32 hex digits>` seen before answers with the first command.
//! - A search takes `process_id__eq`, once or more, and lists the commands with one of these ids in a head of the runtime's.
//! - `/server_info` and the answer to the start of a command have an `instance_id`, which is new at each start.
//! - Uploads appear whole or not at all; git tells names as they are.
//! - An event socket that does not read is closed and holds up nobody.
//! - Commands read from `/dev/null` and do not inherit `WSFLEET_*`.
//!
//! # Deferred init
//! With [`AgentConfig::deferred_init`] the agent comes up dormant: `/ready` is 200, all below `/api` is 503, and
//! `POST /api/init` with the key in `X-Init-API-Key` wakes it, once. Of its configuration `session_api_keys` and `env` are
//! heeded.
//!
//! # Limits
//! A process that empties its environment, leaves its session and outlives its parents before a stop looks for it is not
//! found. Conversations are not kept: the routes of any conversation reach the one workspace there is.
//!
//! ```no_run
//! use workspace_fleet::agent::{AgentConfig, AgentServer};
//!
//! let agent = AgentServer::spawn(AgentConfig::default().with_root("/tmp"))?;
//! println!("listening on {}", agent.url());
//! agent.stop_blocking();
//! # Ok::<(), workspace_fleet::agent::AgentError>(())
//! ```

mod accept;
mod bash;
mod config;
mod connection;
mod error;
mod file;
mod git;
mod http;
mod info;
mod init;
mod keys;
mod routes;
mod server;
mod state;

pub use config::{AgentConfig, Retention};
pub use error::AgentError;
#[cfg(feature = "cli")]
pub(crate) use server::LAST_FILES;
pub use server::{AgentHandle, AgentServer, serve_until_signal};
