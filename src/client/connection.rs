use std::{fmt, path::PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// The key of a session, which is never printed.
#[derive(Clone)]
pub struct SessionKey(SecretString);

impl SessionKey {
    /// The key's text, for the one header or frame that carries it.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for SessionKey {
    fn from(key: String) -> Self {
        Self(SecretString::from(key))
    }
}

impl From<&str> for SessionKey {
    fn from(key: &str) -> Self {
        Self(SecretString::from(key))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// Which certificate authorities vouch for a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum TlsRoots {
    /// Those that the system trusts.
    #[default]
    System,
    /// Those of a PEM file, and no others.
    File(PathBuf),
}

/// How an agent server is reached.
#[derive(Clone)]
pub struct Connection {
    /// The server's address: scheme, host, port, and a path prefix where it sits behind a gateway.
    pub host: Url,
    /// The session key, where the server wants one.
    pub api_key: Option<SessionKey>,
    /// Headers to send with each request, for a gateway. Their values are treated as secrets.
    pub headers: Vec<(String, SessionKey)>,
    /// The path before `/bash`, `/file` and `/git`: `/api`, or `/api/conversations/{uuid}`.
    pub api_prefix: String,
    /// Who vouches for the server.
    pub tls_roots: TlsRoots,
    /// An HTTP proxy to tunnel through with CONNECT.
    pub proxy: Option<Url>,
}
