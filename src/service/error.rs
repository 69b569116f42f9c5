use std::{io, net::SocketAddr, path::PathBuf};

use super::StoreError;
use crate::WorkspaceError;

/// Why a service cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The host has no address.
    #[error("can not listen on {host}: {source}")]
    Host {
        /// What was asked for.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The address is taken, or not this machine's.
    #[error("can not listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Others could reach it, and would be asked for no key.
    #[error(
        "{address} can be reached by others, who could run commands on every workspace: give the service an API key, or let \
         it listen on 127.0.0.1"
    )]
    OpenToOthers {
        /// The address.
        address: SocketAddr,
    },
    /// A certificate or its key cannot be used.
    #[error("TLS: {}: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A workspace cannot be added.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// What is in the store cannot be taken up again.
    #[error("can not go on with what is in the store: {0}")]
    Restore(String),
    /// The system gives no thread or no socket.
    #[error("can not start the service: {0}")]
    Start(#[source] io::Error),
}
