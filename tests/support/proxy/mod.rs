//! A proxy between a workspace and its server that spoils what a test tells it to: any request, at any stage of it.
//!
//! There are two kinds. [`Proxy::start`] reads HTTP, so that a fault can be put on a route and a stage. [`Proxy::cable`]
//! passes bytes on as they are, counts them, and can be cut after any of them.

mod cable;
mod exchange;
mod fault;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cable::Meters;
pub(crate) use cable::{Cut, Direction};
use fault::Script;
pub(crate) use fault::{Act, Fault, Part, Request, Stage};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How long a port may be another's that was given up for a while.
const REBINDING: Duration = Duration::from_secs(30);

/// A proxy that runs until it is dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    address: SocketAddrV4,
    /// Whether bytes are passed on as they are.
    raw: bool,
    script: Mutex<Script>,
    meters: Mutex<Meters>,
    /// How many requests were answered.
    answered: watch::Sender<u32>,
    /// How many requests are being held.
    held: watch::Sender<u32>,
    /// How many connections of clients are open.
    open: watch::Sender<usize>,
    /// Whether it listens.
    listens: watch::Sender<bool>,
    /// Counts how often all connections were cut.
    cuts: watch::Sender<u32>,
}

impl Proxy {
    /// Starts a proxy before the server at `host:port` or at this URL.
    pub(crate) async fn start(upstream: &str) -> io::Result<Self> {
        Self::run(upstream, Ipv4Addr::LOCALHOST, false).await
    }

    /// The same on all addresses of this machine, so that each of the loopback network can be a workspace of its own.
    pub(crate) async fn everywhere(upstream: &str) -> io::Result<Self> {
        Self::run(upstream, Ipv4Addr::UNSPECIFIED, false).await
    }

    /// Starts a proxy that passes on bytes and knows nothing of requests.
    pub(crate) async fn cable(upstream: &str) -> io::Result<Self> {
        Self::run(upstream, Ipv4Addr::LOCALHOST, true).await
    }

    async fn run(upstream: &str, host: Ipv4Addr, raw: bool) -> io::Result<Self> {
        let listener = listen(SocketAddrV4::new(host, 0))?;
        let SocketAddr::V4(address) = listener.local_addr()? else {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        };
        let shared = Arc::new(Shared {
            upstream: upstream.trim_start_matches("http://").to_owned(),
            address,
            raw,
            script: Mutex::default(),
            meters: Mutex::default(),
            answered: watch::Sender::new(0),
            held: watch::Sender::new(0),
            open: watch::Sender::new(0),
            listens: watch::Sender::new(true),
            cuts: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { shared, accepting })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.shared.address.port())
    }

    /// The same under an address of its own for each number; of a proxy that is [everywhere](Self::everywhere).
    pub(crate) fn url_at(&self, number: u16) -> String {
        let [high, low] = number.to_be_bytes();
        format!("http://127.77.{high}.{low}:{}", self.shared.address.port())
    }

    /// Spoils the next request whose path has this text in it. Faults on one path are taken in the order given.
    pub(crate) fn spoil_next(&self, path: &'static str, fault: Fault) {
        self.shared.script().spoil(path, 0, false, fault);
    }

    /// Spoils one such request after so many have passed.
    pub(crate) fn spoil_after(&self, path: &'static str, others: u32, fault: Fault) {
        self.shared.script().spoil(path, others, false, fault);
    }

    /// Spoils every request from now on whose path has this text in it.
    pub(crate) fn spoil_all(&self, path: &'static str, fault: Fault) {
        self.shared.script().spoil(path, 0, true, fault);
    }

    /// Spoils the next connection before it brings a request.
    pub(crate) fn spoil_connection(&self, act: Act) {
        self.shared.script().spoil_connection(act, false);
    }

    /// Spoils every connection from now on before it brings a request.
    pub(crate) fn spoil_connections(&self, act: Act) {
        self.shared.script().spoil_connection(act, true);
    }

    /// Lets this decide about each request.
    pub(crate) fn judge(&self, judge: impl Fn(&Request<'_>) -> Option<Fault> + Send + 'static) {
        self.shared.script().judge(Box::new(judge));
    }

    /// How many requests and connections have been spoilt.
    pub(crate) fn spoilt(&self) -> u32 {
        self.shared.script().sprung
    }

    /// Waits until every held request was delivered and answered.
    pub(crate) async fn all_delivered(&self) {
        let mut held = self.shared.held.subscribe();
        // The sender lives as long as the proxy.
        let _ = held.wait_for(|held| *held == 0).await;
    }

    /// Delivers what is held, whatever it waits for. What is held for a time is held as long as it was to be.
    pub(crate) async fn release(&self) {
        self.shared.answered.send_modify(|answered| *answered = answered.saturating_add(1_000_000));
        self.all_delivered().await;
    }

    /// How many connections clients have open.
    pub(crate) fn open(&self) -> usize {
        *self.shared.open.borrow()
    }

    /// Refuses connections from now on. Those that there are stay.
    pub(crate) async fn refuse(&self) {
        self.shared.listens.send_replace(false);
        // Until the kernel does.
        while TcpStream::connect(("127.0.0.1", self.shared.address.port())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Takes connections again.
    pub(crate) fn accept(&self) {
        self.shared.listens.send_replace(true);
    }

    /// Ends all connections. The next ones get through.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts the connection that brings this byte, right after it; of a [cable](Self::cable).
    pub(crate) fn cut_after(&self, direction: Direction, bytes: u64, cut: Cut) {
        self.shared.meters().cut_after(direction, bytes, cut);
    }

    /// How many bytes have gone in a direction; through a [cable](Self::cable).
    pub(crate) fn bytes(&self, direction: Direction) -> u64 {
        self.shared.meters().bytes(direction)
    }

    /// Whether the cut was made.
    pub(crate) fn was_cut(&self) -> bool {
        self.shared.meters().was_cut()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meters(&self) -> MutexGuard<'_, Meters> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.into())?;
    socket.listen(4096)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let (mut connections, mut listens) = (JoinSet::new(), shared.listens.subscribe());
    let mut listener = Some(listener);
    loop {
        let Some(listening) = &listener else {
            // The sender lives in `shared`.
            let _ = listens.wait_for(|listens| *listens).await;
            listener = Some(listen_again(shared.address).await);
            continue;
        };
        tokio::select! {
            biased;
            _ = listens.wait_for(|listens| !listens) => listener = None,
            accepted = listening.accept() => {
                let Ok((client, _)) = accepted else { return };
                shared.open.send_modify(|open| *open += 1);
                connections.spawn(serve(client, Open(shared.clone())));
                // A connection that breaks is what this proxy is for.
                while connections.try_join_next().is_some() {}
            }
        }
    }
}

async fn listen_again(address: SocketAddrV4) -> TcpListener {
    let give_up = tokio::time::Instant::now() + REBINDING;
    loop {
        match listen(address) {
            Ok(listener) => return listener,
            Err(error) => assert!(tokio::time::Instant::now() < give_up, "{address} is another's now: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A request that the server has not answered yet.
struct Holding(Arc<Shared>);

impl Holding {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.held.send_modify(|held| *held += 1);
        Self(shared.clone())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.held.send_modify(|held| *held -= 1);
    }
}

/// An open connection of a client.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

async fn serve(client: TcpStream, open: Open) {
    let shared = open.0.clone();
    let mut cuts = shared.cuts.subscribe();
    let serving = async {
        if shared.raw {
            cable::serve(client, &shared).await;
            drop(open);
        } else {
            exchange::serve(client, open).await;
        }
    };
    tokio::select! {
        () = serving => {}
        // The sender lives in `shared`.
        _ = cuts.changed() => {}
    }
}
