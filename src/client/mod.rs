//! The typed client of one agent server: a method per endpoint, no policy.
//!
//! A request goes through these files: an endpoint (`bash`, `files`, `git`, `server`) names a `target` and makes a
//! `Call`; `exchange` sends it over a `pool`'s connection, which the `dialer` makes, and waits for the head of the
//! answer; `body` reads the rest, whole or not at all, and `page` what is in a page of events. `status` and `broken` say what a refusal and a lost connection
//! mean for the request's effect; `secrets` keeps keys out of their words. `upload`, `download` and `socket` are the requests that
//! are more than that. `pass` and `pass_socket` pass requests of others on, for the service's gateway.

mod address;
mod agent_client;
mod bash;
mod body;
mod broken;
mod connection;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod dialer;
mod download;
mod excerpt;
mod exchange;
mod files;
mod frame_bound;
mod git;
mod headers;
mod key;
mod limits;
mod observer;
mod page;
#[cfg(any(feature = "service", feature = "cli"))]
mod pass;
#[cfg(feature = "service")]
mod pass_socket;
mod pool;
mod proxy;
mod resolver;
mod secrets;
mod server;
mod socket;
mod source;
mod status;
mod stream;
mod target;
mod tls;
mod trace;
mod transport;
mod turns;
mod upload;
mod watch;

pub use agent_client::AgentClient;
pub use bash::EventQuery;
pub use connection::{Connection, TlsRoots};
pub use download::Download;
pub use files::{ArchiveFormat, ArchiveQuery};
#[cfg(feature = "service")]
pub(crate) use frame_bound::{BoundedCodec, announced, extended};
pub use git::DiffBase;
pub use key::SessionKey;
pub use limits::ClientLimits;
pub(crate) use observer::Observer;
pub(crate) use page::{FetchedPage, Foretold};
#[cfg(any(feature = "service", feature = "cli"))]
pub(crate) use pass::{AnswerBody, Below, Passed, PassedAnswer, PassedBody};
#[cfg(feature = "service")]
pub(crate) use pass_socket::{KeyIn, PassedSocket};
pub use socket::EventSocket;
pub use source::UploadBody;
pub use tls::SharedTls;
pub(crate) use trace::{carried, traced};
pub use transport::Transport;
