//! Makes connections: resolves the name, connects, goes through the proxy, shakes hands.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection as Connected, Host, rustls_0_23::TlsConnector};
use awc::http::Uri;
use futures::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use rustls::ClientConfig;
use tokio::{net::TcpStream, time::timeout};

use super::{
    proxy::Proxy,
    stream::{ClientStream, Wire},
    tls,
    transport::Transport,
    watch::Watch,
};
use crate::{ErrorKind, Failure};

/// How long an address may take before the next one is tried beside it (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Where a client's connections go.
pub(super) struct Route {
    pub(super) host: Rc<str>,
    pub(super) port: u16,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) proxy: Option<Proxy>,
    pub(super) transport: Transport,
}

/// The service that awc asks for a connection. It goes where its route says, whatever the request's URI, so that one
/// place decides about names, the proxy and TLS.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) route: Rc<Route>,
    pub(super) watch: Rc<Watch>,
    /// Whether both sides of a connection may speak at once, as on the event socket.
    pub(super) duplex: bool,
    /// How long a connection may take.
    pub(super) patience: Duration,
}

impl Service<ConnectInfo<Uri>> for Dialer {
    type Response = Connected<Uri, ClientStream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, request: ConnectInfo<Uri>) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let dialing = dialer.watch.dial();
            let wire = match timeout(dialer.patience, dialer.route.connect()).await {
                Ok(result) => result,
                Err(_) => Err(dialer.late()),
            };
            let wire = wire.map_err(|failure| ConnectError::Io(DialError::wrap(failure)))?;
            drop(dialing);
            let stream = ClientStream::new(wire, Rc::clone(&dialer.watch), dialer.duplex);
            Ok(Connected::new(request.request().clone(), stream))
        })
    }
}

impl Dialer {
    fn late(&self) -> Failure {
        let Route { host, port, proxy, .. } = &*self.route;
        let through = if proxy.is_some() { " through the proxy" } else { "" };
        unreachable(format!("cannot connect to {host}:{port}{through} within {:?}", self.patience))
    }
}

impl Route {
    async fn connect(&self) -> Result<Wire, Failure> {
        let tcp = match &self.proxy {
            Some(proxy) => {
                let tcp = self.tcp(proxy.host(), proxy.port()).await.map_err(|failure| proxy.blame(failure))?;
                proxy.tunnel(tcp, &self.host, self.port).await?
            }
            None => self.tcp(&self.host, self.port).await?,
        };
        match &self.tls {
            Some(config) => self.shake_hands(tcp, Arc::clone(config)).await,
            None => Ok(Wire::Plain(tcp)),
        }
    }

    async fn tcp(&self, host: &Rc<str>, port: u16) -> Result<TcpStream, Failure> {
        let resolver = &self.transport.resolver;
        let stream = match bare(host).parse::<IpAddr>() {
            Ok(ip) => TcpStream::connect(SocketAddr::new(ip, port)).await,
            Err(_) => {
                let addresses = resolver.look_up(host, port).await.map_err(|why| no_name(host, &why))?;
                connect_any(&addresses).await.inspect_err(|_| resolver.forget(host, port))
            }
        };
        let stream = stream.map_err(|error| unreachable(format!("cannot connect to {host}:{port}: {error}")))?;
        stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        Ok(stream)
    }

    async fn shake_hands(&self, tcp: TcpStream, config: Arc<ClientConfig>) -> Result<Wire, Failure> {
        let name = ServerName(bare(&self.host).to_owned());
        match TlsConnector::service(config).call(Connected::new(name, tcp)).await {
            Ok(connected) => Ok(Wire::Tls(Box::new(connected.into_parts().0))),
            Err(error) => Err(tls::handshake_failure(&error, &self.host)),
        }
    }
}

/// Connects to the first address that answers.
async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::Error::other("the name has no address");
    loop {
        if let Some(&address) = rest.next() {
            attempts.push(TcpStream::connect(address));
        } else if attempts.is_empty() {
            return Err(last);
        }
        let stagger = if rest.len() > 0 { STAGGER } else { Duration::MAX };
        match timeout(stagger, attempts.next()).await {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(error))) => last = error,
            Ok(None) | Err(_) => {}
        }
    }
}

/// An IPv6 address without the brackets it has in a URL.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn unreachable(reason: String) -> Failure {
    Failure::not_sent(ErrorKind::Unreachable { reason })
}

fn no_name(host: &str, why: &str) -> Failure {
    unreachable(format!("cannot resolve {host}: {why}"))
}

/// The name that the server's certificate must be for.
struct ServerName(String);

impl Host for ServerName {
    fn hostname(&self) -> &str {
        &self.0
    }
}

/// A failure on its way through awc, which knows only I/O errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DialError(Failure);

impl DialError {
    fn wrap(failure: Failure) -> io::Error {
        io::Error::other(Self(failure))
    }

    /// The failure that was wrapped, if this is one.
    pub(super) fn unwrap(error: &io::Error) -> Option<Failure> {
        error.get_ref()?.downcast_ref::<Self>().map(|error| error.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn the_first_address_that_answers_is_taken() {
        let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let open = open.local_addr().unwrap();
        assert_eq!(connect_any(&[closed, open]).await.unwrap().peer_addr().unwrap(), open);
        assert_eq!(connect_any(&[closed, closed]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect_any(&[]).await.is_err());
    }
}
