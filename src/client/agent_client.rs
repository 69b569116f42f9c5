use std::{fmt, rc::Rc};

use awc::http::{StatusCode, header::HeaderMap};

use super::{
    address,
    connection::Connection,
    dialer::Route,
    headers,
    key::SessionKey,
    limits::ClientLimits,
    observer::Observer,
    pool::{Lent, Pool},
    proxy::Proxy,
    secrets::Secrets,
    target::Target,
    transport::Transport,
};
use crate::Failure;

/// The client of one agent server: a method for each endpoint, no policy.
///
/// It stays on its thread and is cheap to clone; clones share their connections. A GET that meets a connection which the
/// server has just closed is sent once more; nothing else is ever repeated. Redirects are not followed.
#[derive(Clone)]
pub struct AgentClient(Rc<Core>);

struct Core {
    limits: ClientLimits,
    route: Rc<Route>,
    headers: HeaderMap,
    /// The headers of the event socket, which sends the key in its first message.
    socket_headers: HeaderMap,
    key: Option<SessionKey>,
    /// What no failure shows.
    secrets: Rc<Secrets>,
    /// The URI before the server's own paths.
    root: String,
    /// The URI before `/bash`, `/file` and `/git`.
    api: String,
    short: Pool,
    long: Pool,
    observer: Option<Rc<dyn Observer>>,
}

impl AgentClient {
    /// A client for a connection. Nothing is sent yet.
    ///
    /// # Errors
    /// The connection's certificate authorities cannot be read, or one of its texts cannot stand in a request.
    pub fn new(connection: &Connection, transport: &Transport, limits: ClientLimits) -> Result<Self, Failure> {
        Self::build(connection, transport, limits, None)
    }

    /// The same, with somebody who hears how each request went.
    pub(crate) fn observed(
        connection: &Connection,
        transport: &Transport,
        limits: ClientLimits,
        observer: Rc<dyn Observer>,
    ) -> Result<Self, Failure> {
        Self::build(connection, transport, limits, Some(observer))
    }

    fn build(
        connection: &Connection,
        transport: &Transport,
        limits: ClientLimits,
        observer: Option<Rc<dyn Observer>>,
    ) -> Result<Self, Failure> {
        let parts = connection.parts();
        let host = parts.host.host_str().unwrap_or_default();
        let named = match parts.host.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let tls = match parts.host.scheme() {
            "https" => Some(transport.tls.config(&parts.tls_roots)?),
            _ => None,
        };
        let route = Route {
            host: Rc::from(host),
            port: parts.host.port_or_known_default().unwrap_or(80),
            tls,
            proxy: parts.proxy.as_ref().map(Proxy::new),
            transport: transport.clone(),
        };
        // The dialer decides about TLS, so that for awc all is http.
        let path = parts.host.path().trim_end_matches('/');
        let root = format!("http://{}{path}", address::authority(&parts.host));
        Ok(Self(Rc::new(Core {
            limits: limits.bounded(),
            route: Rc::new(route),
            headers: headers::defaults(parts, &named, true)?,
            socket_headers: headers::defaults(parts, &named, false)?,
            key: parts.api_key.clone(),
            secrets: Rc::new(Secrets::new(parts.api_key.iter().chain(parts.headers.iter().map(|(_, value)| value)))),
            api: format!("{root}{}", parts.api_prefix),
            root,
            short: Pool::default(),
            long: Pool::default(),
            observer,
        })))
    }

    /// The bounds of this client's requests.
    #[must_use]
    pub fn limits(&self) -> &ClientLimits {
        &self.0.limits
    }

    /// Closes the connections that wait for another request. Requests under way go on.
    ///
    /// Nothing else closes them before the next request, not even when the server has closed its side: a client that is
    /// kept but not used should rest.
    pub fn rest(&self) {
        self.0.short.close();
        self.0.long.close();
    }

    /// Whether somebody else holds it, as every request does that is under way.
    pub(crate) fn is_in_use(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    /// Tells whoever listens how a request went.
    pub(super) fn tell(&self, what: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.0.observer {
            what(&**observer);
        }
    }

    /// Tells whoever listens that an answer came, unless its body has to be read to know what it means.
    pub(super) fn tell_answered(&self, status: StatusCode) {
        if !matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            self.tell(|observer| observer.answered(status.as_u16()));
        }
    }

    /// The session key, the secret headers and what else a server may repeat, but no failure shows.
    pub(super) fn secrets(&self) -> &Rc<Secrets> {
        &self.0.secrets
    }

    pub(super) fn key(&self) -> Option<&SessionKey> {
        self.0.key.as_ref()
    }

    /// A route of the server itself.
    pub(super) fn root(&self, route: &str) -> Target {
        Target::new(&self.0.root, self.0.root.len(), route)
    }

    /// A route below the API prefix.
    pub(super) fn api(&self, route: &str) -> Target {
        Target::new(&self.0.api, self.0.root.len(), route)
    }

    /// The pool for a request.
    pub(super) fn lend(&self, long: bool) -> Lent {
        let pool = if long { &self.0.long } else { &self.0.short };
        pool.lend(|| self.fresh())
    }

    /// A client whose next request opens a connection.
    pub(super) fn fresh(&self) -> Lent {
        Lent::fresh(&self.0.route, &self.0.headers, &self.0.limits, false)
    }

    /// A client for an event socket.
    pub(super) fn duplex(&self) -> Lent {
        Lent::fresh(&self.0.route, &self.0.socket_headers, &self.0.limits, true)
    }
}

impl fmt::Debug for AgentClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentClient").field("api", &self.0.api).finish_non_exhaustive()
    }
}
