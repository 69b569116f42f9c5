//! A proxy between a workspace and its server that spoils chosen requests.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::watch,
    task::JoinHandle,
};

use super::http::{self, Head, Length};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is carried out; in place of its answer the connection is reset.
    DropAnswer,
    /// The connection is reset at once. The request is delivered when so many others have been answered since.
    DeliverAfter(u32),
    /// Nothing happens until the client gives up. Then the request is delivered.
    DeliverWhenGivenUp,
    /// It is carried out; its answer is replaced by this status with a page of HTML.
    AnswerInstead(u16),
    /// It is not delivered: this status, with this Retry-After.
    Refuse(u16, u32),
    /// It is carried out; so many bytes of the answer's body are passed on, then the connection is reset.
    CutAnswer(u64),
    /// So many bytes of its body are delivered, then both connections are reset.
    CutRequest(u64),
}

/// A fault and the request that it waits for.
struct Trap {
    path: &'static str,
    fault: Fault,
    /// Whether it goes on waiting for the next.
    stays: bool,
}

#[derive(Default)]
struct State {
    traps: Vec<Trap>,
    /// Requests on whose path a fault has been seen.
    sprung: u32,
}

struct Shared {
    upstream: String,
    state: Mutex<State>,
    /// How many requests were answered.
    answered: watch::Sender<u32>,
    /// How many requests are being held.
    held: watch::Sender<u32>,
}

/// A proxy that runs until it is dropped.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy before the server at `host:port`.
    pub(crate) async fn start(upstream: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            state: Mutex::default(),
            answered: watch::Sender::new(0),
            held: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { shared, port, accepting })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Spoils the next request whose path has this text in it. Faults on one path are taken in the order given.
    pub(crate) fn spoil_next(&self, path: &'static str, fault: Fault) {
        self.shared.state().traps.push(Trap { path, fault, stays: false });
    }

    /// Spoils every request from now on whose path has this text in it.
    pub(crate) fn spoil_all(&self, path: &'static str, fault: Fault) {
        self.shared.state().traps.push(Trap { path, fault, stays: true });
    }

    /// How many requests have been spoilt.
    pub(crate) fn spoilt(&self) -> u32 {
        self.shared.state().sprung
    }

    /// Waits until every held request was delivered and answered.
    pub(crate) async fn all_delivered(&self) {
        let mut held = self.shared.held.subscribe();
        // The sender lives as long as the proxy.
        let _ = held.wait_for(|held| *held == 0).await;
    }

    /// Delivers what is held, whatever it waits for.
    pub(crate) async fn release(&self) {
        self.shared.answered.send_modify(|answered| *answered = answered.saturating_add(1_000_000));
        self.all_delivered().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault_for(&self, path: &str) -> Option<Fault> {
        let mut state = self.state();
        let at = state.traps.iter().position(|trap| path.contains(trap.path))?;
        state.sprung += 1;
        let fault = state.traps[at].fault;
        if !state.traps[at].stays {
            state.traps.remove(at);
        }
        Some(fault)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // A connection that breaks is what this proxy is for.
        connections.spawn(serve(client, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// Why a connection ends.
enum End {
    Closed,
    Reset,
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let Ok(upstream) = TcpStream::connect(&shared.upstream).await else { return };
    let mut connection = Connection::new(client, upstream, shared);
    let end = loop {
        match connection.exchange().await {
            Ok(None) => {}
            Ok(Some(end)) => break end,
            Err(_) => break End::Closed,
        }
    };
    if matches!(end, End::Reset) {
        connection.reset();
    }
}

/// Both sides of a connection through the proxy.
struct Connection {
    client: Side,
    upstream: Side,
    shared: Arc<Shared>,
}

struct Side {
    read: BufReader<OwnedReadHalf>,
    write: tokio::net::tcp::OwnedWriteHalf,
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        // Without it small messages wait; that it cannot be set only costs time.
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        Self { read: BufReader::new(read), write }
    }
}

impl Connection {
    fn new(client: TcpStream, upstream: TcpStream, shared: Arc<Shared>) -> Self {
        Self { client: Side::new(client), upstream: Side::new(upstream), shared }
    }

    /// Carries one request through, or spoils it. Returns why the connection ends, if it does.
    async fn exchange(&mut self) -> io::Result<Option<End>> {
        let Some(request) = Head::read(&mut self.client.read).await? else { return Ok(Some(End::Closed)) };
        match self.shared.fault_for(&request.path()) {
            None => {
                self.forward(&request, u64::MAX).await?;
                self.answer(u64::MAX).await
            }
            Some(Fault::CutAnswer(bytes)) => {
                self.forward(&request, u64::MAX).await?;
                self.answer(bytes).await
            }
            Some(Fault::CutRequest(bytes)) => {
                self.forward(&request, bytes).await?;
                Ok(Some(End::Reset))
            }
            Some(Fault::DropAnswer) => {
                self.forward(&request, u64::MAX).await?;
                self.swallow_answer().await?;
                Ok(Some(End::Reset))
            }
            Some(Fault::AnswerInstead(status)) => {
                self.forward(&request, u64::MAX).await?;
                self.swallow_answer().await?;
                self.say(status, "").await
            }
            Some(Fault::Refuse(status, retry_after)) => {
                self.take_body(&request).await?;
                self.say(status, &format!("Retry-After: {retry_after}\r\n")).await
            }
            Some(Fault::DeliverAfter(others)) => {
                let body = self.take_body(&request).await?;
                self.deliver_later(request, body, Some(others));
                Ok(Some(End::Reset))
            }
            Some(Fault::DeliverWhenGivenUp) => {
                let body = self.take_body(&request).await?;
                // Anything but more data: the client has closed its side.
                let gone = Head::read(&mut self.client.read).await;
                debug_assert!(!matches!(gone, Ok(Some(_))), "a client that waits sends nothing");
                self.deliver_later(request, body, None);
                Ok(Some(End::Closed))
            }
        }
    }

    async fn forward(&mut self, request: &Head, limit: u64) -> io::Result<()> {
        self.upstream.write.write_all(&request.bytes).await?;
        http::copy_body(request.length(), &mut self.client.read, &mut self.upstream.write, limit).await?;
        Ok(())
    }

    async fn take_body(&mut self, request: &Head) -> io::Result<Vec<u8>> {
        debug_assert!(!request.expects_continue(), "a client that waits for leave never sends its body");
        let mut body = Vec::new();
        http::copy_body(request.length(), &mut self.client.read, &mut body, u64::MAX).await?;
        Ok(body)
    }

    async fn answer(&mut self, limit: u64) -> io::Result<Option<End>> {
        let Some(answer) = Head::read(&mut self.upstream.read).await? else { return Ok(Some(End::Closed)) };
        self.client.write.write_all(&answer.bytes).await?;
        let whole = http::copy_body(answer.length(), &mut self.upstream.read, &mut self.client.write, limit).await?;
        self.shared.answered.send_modify(|answered| *answered += 1);
        Ok((!whole).then_some(End::Reset))
    }

    async fn swallow_answer(&mut self) -> io::Result<()> {
        let Some(answer) = Head::read(&mut self.upstream.read).await? else { return Ok(()) };
        http::copy_body(answer.length(), &mut self.upstream.read, &mut tokio::io::sink(), u64::MAX).await?;
        Ok(())
    }

    async fn say(&mut self, status: u16, headers: &str) -> io::Result<Option<End>> {
        let page = "<html><body>a gateway's own words</body></html>";
        let answer = format!(
            "HTTP/1.1 {status} Whatever\r\nContent-Type: text/html\r\n{headers}Content-Length: {}\r\n\r\n{page}",
            page.len()
        );
        self.client.write.write_all(answer.as_bytes()).await?;
        Ok(None)
    }

    /// Delivers a request over a connection of its own: when so many others have been answered, or at once.
    fn deliver_later(&self, request: Head, body: Vec<u8>, after: Option<u32>) {
        let shared = self.shared.clone();
        shared.held.send_modify(|held| *held += 1);
        tokio::spawn(async move {
            let mut answered = shared.answered.subscribe();
            let target = after.map_or(0, |others| answered.borrow().saturating_add(others));
            // The sender lives in `shared`.
            let _ = answered.wait_for(|answered| *answered >= target).await;
            // Whether a late request is carried out is the server's affair; that it had its chance is ours.
            let _ = tokio::time::timeout(Duration::from_secs(30), deliver(&shared.upstream, &request, &body)).await;
            shared.held.send_modify(|held| *held -= 1);
        });
    }

    /// Ends the client's connection the hard way.
    fn reset(self) {
        let Self { client, upstream, .. } = self;
        drop(upstream);
        if let Ok(stream) = client.read.into_inner().reunite(client.write) {
            // Unset, the connection ends politely, and the test says that nothing was spoilt.
            let _ = stream.set_zero_linger();
        }
    }
}

async fn deliver(upstream: &str, request: &Head, body: &[u8]) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(upstream).await?);
    stream.write_all(&request.bytes).await?;
    stream.write_all(body).await?;
    let Some(answer) = Head::read(&mut stream).await? else { return Ok(()) };
    if answer.length() != Length::Bytes(0) {
        http::copy_body(answer.length(), &mut stream, &mut tokio::io::sink(), u64::MAX).await?;
    }
    Ok(())
}
