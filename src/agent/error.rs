use std::{io, net::SocketAddr, path::PathBuf};

/// Why an agent server could not be started or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The host to listen on is neither an address nor a name that resolves.
    #[error("cannot listen on host `{host}`: {source}")]
    Host {
        /// The host as it was given.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The address is reachable from outside this machine and no session key is set.
    #[error(
        "refusing to listen on {address} without a session key, since anyone who reaches it could run commands: set one \
         (--session-api-key, or OH_SESSION_API_KEYS_0 in the environment), or listen on 127.0.0.1"
    )]
    OpenToOthers {
        /// The refused address.
        address: SocketAddr,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address that was tried.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The directory that commands run in by default cannot be used.
    #[error("cannot use `{}` as the default directory for commands: {source}", path.display())]
    Root {
        /// The directory as it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The thread, its runtime or a signal handler could not be set up.
    #[error("cannot start the agent server: {0}")]
    Start(#[source] io::Error),
    /// A session key in the environment is not usable.
    #[error("the environment variable `{name}` holds no valid session key: {problem}")]
    Environment {
        /// The variable.
        name: String,
        /// What is wrong with its value; never the value itself.
        problem: &'static str,
    },
}
