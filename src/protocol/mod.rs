//! The wire types of the agent-server API, as serde types without I/O.
//!
//! The shapes are those of OpenHands agent servers 1.43 to 1.58. Reading is tolerant: unknown fields are ignored and
//! fields that only some versions send are optional. Writing is exact: what is serialised here is what the server's own
//! Python client sends or the server itself answers.
//!
//! The client and the embedded agent server share this module and nothing else.

mod bash;
mod errors;
mod file;
mod git;
mod head;
mod id;
mod read;
mod server;
mod trace;

pub(crate) use bash::UnreadEventPage;
pub use bash::{
    BashCommand, BashErrorEvent, BashEvent, BashEventKind, BashEventPage, BashOutput, ClearedEvents, SortOrder,
    StartBashCommand,
};
pub use errors::{ErrorBody, ErrorDetail};
pub use file::{HomeReply, SubdirEntry, SubdirPage, Success, UploadReply};
pub use git::{GitChange, GitChangeStatus, GitCommit, GitCommitPage, GitDiff};
pub use head::{CommandHead, MARKER, SUPERSEDED_EXIT_CODE};
pub use id::{EventId, InvalidEventId};
#[cfg(feature = "agent")]
pub(crate) use server::{ATOMIC_UPLOAD_CAPABILITY, PUSH_CAPABILITY};
pub use server::{AliveReply, InitStatus, ReadyReply, ServerInfo};
pub use trace::{BAGGAGE_HEADER, InvalidTrace, TRACEPARENT_HEADER, Trace, TraceParent};

/// The header that carries the session key.
pub const SESSION_KEY_HEADER: &str = "X-Session-API-Key";

/// The header under which a start names the command, so that a server that knows it answers a repeated start with
/// the first one. Servers that do not know it ignore it.
pub const IDEMPOTENCY_KEY_HEADER: &str = "Idempotency-Key";

/// The longest command text a server can pass to its shell, in bytes, any head included. It is Linux's limit for one
/// argument, less the terminating zero.
pub const MAX_COMMAND_BYTES: usize = 131_071;
