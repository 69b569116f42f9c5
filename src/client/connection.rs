use std::{borrow::Cow, fmt, path::PathBuf, sync::Arc};

use url::Url;

use super::{address, headers, key::SessionKey};
use crate::Failure;

/// The path before `/bash`, `/file` and `/git` unless a connection says otherwise.
const DEFAULT_API_PREFIX: &str = "/api";

/// Which certificate authorities vouch for a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum TlsRoots {
    /// Those that the system trusts.
    #[default]
    System,
    /// Those of a PEM file, and no others.
    File(PathBuf),
}

/// How an agent server is reached. Clones share it.
///
/// ```
/// use workspace_fleet::Connection;
///
/// let connection = Connection::new("https://gateway.example/s/abc/")?
///     .with_api_key("secret")
///     .with_header("X-Team", "blue")?
///     .with_api_prefix("/api/conversations/0f8fad5b-d9cb-469f-a165-70867728950e")?;
/// assert_eq!(connection.display_name(), "gateway.example:443/s/abc");
/// # Ok::<(), workspace_fleet::Failure>(())
/// ```
#[derive(Clone)]
pub struct Connection(Arc<Parts>);

/// What a connection is made of.
#[derive(Clone)]
pub(crate) struct Parts {
    /// The server's address: scheme, host, port, and a path prefix where it sits behind a gateway.
    pub(crate) host: Url,
    /// The session key, where the server wants one.
    pub(crate) api_key: Option<SessionKey>,
    /// Headers to send with each request, for a gateway. Their values are treated as secrets.
    pub(crate) headers: Vec<(String, SessionKey)>,
    /// The path before `/bash`, `/file` and `/git`: `/api`, or `/api/conversations/{uuid}`.
    pub(crate) api_prefix: Cow<'static, str>,
    /// Who vouches for the server.
    pub(crate) tls_roots: TlsRoots,
    /// An HTTP proxy to tunnel through with CONNECT.
    pub(crate) proxy: Option<Url>,
}

impl Connection {
    /// A connection to the server at `host`, a URL with `http` or `https` and, behind a gateway, a path.
    ///
    /// # Errors
    /// `host` is no such URL; the failure says what is wrong with it and how to write it.
    pub fn new(host: &str) -> Result<Self, Failure> {
        Ok(Self(Arc::new(Parts {
            host: address::server(host)?,
            api_key: None,
            headers: Vec::new(),
            api_prefix: DEFAULT_API_PREFIX.into(),
            tls_roots: TlsRoots::System,
            proxy: None,
        })))
    }

    /// With the session key that the server asks for. An empty one counts as none.
    #[must_use]
    pub fn with_api_key(mut self, key: impl Into<SessionKey>) -> Self {
        let key = key.into();
        self.parts_mut().api_key = (!key.expose().is_empty()).then_some(key);
        self
    }

    /// With another header in each request. Its value is treated as a secret.
    ///
    /// # Errors
    /// The name or the value is not one of HTTP, or the header is one that the client sets itself.
    pub fn with_header(mut self, name: &str, value: impl Into<SessionKey>) -> Result<Self, Failure> {
        let value = value.into();
        headers::check(name, &value)?;
        let headers = &mut self.parts_mut().headers;
        headers.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        headers.push((name.to_owned(), value));
        Ok(self)
    }

    /// With another path before `/bash`, `/file` and `/git` than `/api`.
    ///
    /// # Errors
    /// The prefix does not start with `/`, or is more than a plain path.
    pub fn with_api_prefix(mut self, prefix: &str) -> Result<Self, Failure> {
        self.parts_mut().api_prefix = address::api_prefix(prefix)?.into();
        Ok(self)
    }

    /// With the certificate authorities of a PEM file in place of those of the system.
    #[must_use]
    pub fn with_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.parts_mut().tls_roots = TlsRoots::File(file.into());
        self
    }

    /// Through an HTTP proxy, with CONNECT, whatever the server's scheme. Its address may hold `user:password@`.
    ///
    /// # Errors
    /// The address is not an `http` URL of a host.
    pub fn with_proxy(mut self, proxy: &str) -> Result<Self, Failure> {
        self.parts_mut().proxy = Some(address::proxy(proxy)?);
        Ok(self)
    }

    /// The server's address.
    #[must_use]
    pub fn host(&self) -> &Url {
        &self.0.host
    }

    /// Host, port and path: what a workspace is called that was given by its URL.
    #[must_use]
    pub fn display_name(&self) -> String {
        format!("{}{}", address::authority(self.host()), self.host().path().trim_end_matches('/'))
    }

    /// What it is made of.
    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    /// The same, for a change that clones made before do not see.
    fn parts_mut(&mut self) -> &mut Parts {
        Arc::make_mut(&mut self.0)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { host, api_key, headers, api_prefix, tls_roots, proxy } = self.parts();
        f.debug_struct("Connection")
            .field("host", &host.as_str())
            .field("api_key", api_key)
            .field("headers", headers)
            .field("api_prefix", api_prefix)
            .field("tls_roots", tls_roots)
            .field("proxy", &proxy.as_ref().map(address::authority))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_given_by_url_is_named_by_host_port_and_path() {
        let name = |host: &str| Connection::new(host).unwrap().display_name();
        assert_eq!(name("http://10.0.0.1:8000/"), "10.0.0.1:8000");
        assert_eq!(name("https://gw"), "gw:443");
        assert_eq!(name("https://gw/s/abc//"), "gw:443/s/abc");
        assert_eq!(name("http://[::1]:8000"), "[::1]:8000");
    }

    #[test]
    fn debug_shows_no_secret() {
        let connection = Connection::new("http://h:1")
            .unwrap()
            .with_api_key("hush-key")
            .with_header("X-Gate", "hush-header")
            .unwrap()
            .with_proxy("http://user:hush-proxy@proxy:3128")
            .unwrap();
        let shown = format!("{connection:?}");
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("X-Gate") && shown.contains("proxy:3128"), "{shown}");
    }

    #[test]
    fn a_header_given_again_replaces_the_first() {
        let connection = Connection::new("http://h:1").unwrap().with_header("X-A", "1").unwrap();
        let connection = connection.with_header("x-a", "2").unwrap();
        assert_eq!(connection.parts().headers.len(), 1);
        assert_eq!(connection.parts().headers[0].1.expose(), "2");
    }

    #[test]
    fn an_empty_key_is_none() {
        assert!(Connection::new("http://h:1").unwrap().with_api_key("").parts().api_key.is_none());
    }
}
