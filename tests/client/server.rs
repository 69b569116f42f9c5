//! A server whose every byte a test decides.

use std::{cell::RefCell, future::Future, net::SocketAddr, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use workspace_fleet::{
    Connection, Failure,
    client::{AgentClient, ClientLimits, SharedTls, Transport},
    protocol::StartBashCommand,
};

/// One connection to the server.
pub struct Peer {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    seen: Seen,
}

/// What the server was asked, in order: the number of the connection and the request.
pub type Seen = Rc<RefCell<Vec<Request>>>;

#[derive(Debug, Clone)]
pub struct Request {
    /// Head, as it came.
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Peer {
    pub fn new(stream: TcpStream, seen: Seen) -> Self {
        Self { stream, buffer: Vec::new(), seen }
    }

    /// The next request's head; `None` when the client has closed the connection.
    pub async fn head(&mut self) -> Option<Request> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).ok()?;
        Some(Request { head, body: Vec::new() })
    }

    /// The next whole request.
    pub async fn request(&mut self) -> Option<Request> {
        let mut request = self.head().await?;
        let length = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
        request.body = self.buffer.drain(..length).collect();
        self.seen.borrow_mut().push(request.clone());
        Some(request)
    }

    /// How much has come after the last head or request.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    pub async fn write(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.ok();
    }

    /// Waits until the client has closed the connection.
    pub async fn hang(&mut self) {
        let mut space = [0; 4096];
        while self.stream.read(&mut space).await.is_ok_and(|length| length > 0) {}
    }
}

/// Starts a server: `script` is called with each connection and its number.
pub fn serve<F, Fut>(script: F) -> (SocketAddr, Seen)
where
    F: Fn(usize, Peer) -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    let listener = TcpListener::from_std(listener).expect("a listener");
    let seen = Seen::default();
    let noted = Rc::clone(&seen);
    actix_rt::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            actix_rt::spawn(script(number, Peer::new(stream, Rc::clone(&noted))));
        }
    });
    (address, seen)
}

/// A server that answers every request with the same bytes and then closes the connection.
pub fn serve_bytes(answer: impl Into<Vec<u8>>) -> (SocketAddr, Seen) {
    let answer: Rc<[u8]> = answer.into().into();
    serve(move |_, mut peer| {
        let answer = Rc::clone(&answer);
        async move {
            if peer.request().await.is_some() {
                peer.write(answer).await;
            }
        }
    })
}

/// A whole answer with a length.
pub fn answer(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}")
}

pub fn json(body: &str) -> String {
    answer("200 OK", "application/json", body)
}

pub const ALIVE: &str = r#"{"status":"ok"}"#;

pub const STARTED: &str = r#"{"command":"true","cwd":null,"timeout":5,"id":"4ffb3904050f42f7a518d94698e9e3b1","timestamp":"2026-11-22T18:53:12.027140Z","kind":"BashCommand"}"#;

pub fn start() -> StartBashCommand {
    StartBashCommand { command: "true".to_owned(), cwd: None, timeout: 5 }
}

/// Bounds that a test can wait for.
pub fn short() -> ClientLimits {
    let moment = Duration::from_millis(150);
    ClientLimits { answer_timeout: moment, idle_timeout: moment, ..ClientLimits::default() }
}

pub fn client(address: SocketAddr) -> AgentClient {
    client_with(&connection(address), ClientLimits::default())
}

pub fn client_with(connection: &Connection, limits: ClientLimits) -> AgentClient {
    AgentClient::new(connection, &Transport::new(&SharedTls::new()), limits).expect("a client")
}

pub fn connection(address: SocketAddr) -> Connection {
    Connection::new(&format!("http://{address}")).expect("a connection").with_api_key("hush")
}

/// Kind, effect and text of a failure.
pub fn told(failure: &Failure) -> (&'static str, workspace_fleet::Effect, String) {
    (failure.kind.name(), failure.effect, failure.to_string())
}
