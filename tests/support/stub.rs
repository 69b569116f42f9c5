//! A server that answers starts and searches at once, for tests of many workspaces: every address of the loopback network
//! is a workspace of its own, and the second number of its address says how it behaves.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use workspace_fleet::protocol::EventId;

/// How a workspace behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Every command succeeds at once.
    Instant,
    /// It accepts connections and never answers.
    Silent,
    /// It answers 500 to everything.
    Failing,
    /// It accepts no key.
    Locked,
    /// Commands run until they are stopped.
    Hanging,
}

const MANNERS: [Manner; 5] = [Manner::Instant, Manner::Silent, Manner::Failing, Manner::Locked, Manner::Hanging];

impl Manner {
    /// The address of the workspace of this number.
    pub(crate) fn address(self, number: usize) -> Ipv4Addr {
        let manner = MANNERS.iter().position(|manner| *manner == self).expect("it is among them") as u8 + 1;
        let [.., high, low] = (number as u32).to_be_bytes();
        Ipv4Addr::new(127, manner, high, low)
    }

    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => {
                MANNERS.get(usize::from(address.octets()[1]).wrapping_sub(1)).copied().unwrap_or(Self::Instant)
            }
            IpAddr::V6(_) => Self::Instant,
        }
    }
}

/// The running stub. It ends with the runtime that it was started on.
pub(crate) struct Stub {
    port: u16,
    stopped: Arc<Mutex<HashSet<String>>>,
}

impl Stub {
    pub(crate) async fn start() -> io::Result<Self> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        let listener = socket.listen(4096)?;
        let stub = Self { port: listener.local_addr()?.port(), stopped: Arc::default() };
        tokio::spawn(accept(listener, Arc::clone(&stub.stopped)));
        Ok(stub)
    }

    pub(crate) fn url(&self, manner: Manner, number: usize) -> String {
        format!("http://{}:{}", manner.address(number), self.port)
    }

    /// How many commands were stopped.
    pub(crate) fn stopped(&self) -> usize {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

async fn accept(listener: TcpListener, stopped: Arc<Mutex<HashSet<String>>>) {
    while let Ok((connection, _)) = listener.accept().await {
        let stopped = Arc::clone(&stopped);
        tokio::spawn(async move {
            let manner = connection.local_addr().map(|address| Manner::of(address.ip()));
            // A client that hangs up ends its connection.
            let _ = serve(connection, manner.unwrap_or(Manner::Instant), &stopped).await;
        });
    }
}

async fn serve(mut connection: TcpStream, manner: Manner, stopped: &Mutex<HashSet<String>>) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut bytes = Vec::new();
    loop {
        let Some((request, length)) = parse(&bytes) else {
            if connection.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let answer = match manner {
            Manner::Silent => std::future::pending().await,
            Manner::Failing => reply(500, &json!({"detail": "Internal Server Error", "exception": "500: broken"})),
            Manner::Locked => reply(401, &json!({"detail": "Unauthorized"})),
            Manner::Instant | Manner::Hanging => answer(&request, manner, stopped),
        };
        bytes.drain(..length);
        connection.write_all(&answer).await?;
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    body: Value,
}

/// The first request, when all of it is there, and its length.
fn parse(bytes: &[u8]) -> Option<(Request, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = end + length.unwrap_or_default();
    let body = serde_json::from_slice(bytes.get(end..whole)?).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some((Request { method, path: path.to_owned(), query: query.to_owned(), body }, whole))
}

fn answer(request: &Request, manner: Manner, stopped: &Mutex<HashSet<String>>) -> Vec<u8> {
    let stopped = || stopped.lock().unwrap_or_else(PoisonError::into_inner);
    let now = jiff::Timestamp::now();
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/alive" | "/health") => reply(200, &json!({"status": "ok"})),
        ("GET", "/ready") => reply(200, &json!({"status": "ready"})),
        ("GET", "/server_info") => reply(200, &json!({"uptime": 1000.0, "idle_time": 0.0, "version": "1.58.0"})),
        ("POST", "/api/bash/start_bash_command") => {
            let mut command = request.body.clone();
            command["id"] = json!(EventId::random());
            command["timestamp"] = json!(now);
            command["kind"] = json!("BashCommand");
            reply(200, &command)
        }
        ("POST", "/api/bash/execute_bash_command") => reply(200, &output(&EventId::random().to_string(), now, 0)),
        ("GET", "/api/bash/bash_events/search") => {
            let id = request.query.split('&').find_map(|pair| pair.strip_prefix("command_id__eq="));
            let exit_code = match manner {
                Manner::Instant => Some(0),
                _ => id.filter(|id| stopped().contains(*id)).map(|_| -15),
            };
            let items: Vec<Value> = id.zip(exit_code).map(|(id, code)| output(id, now, code)).into_iter().collect();
            reply(200, &json!({"items": items, "next_page_id": null}))
        }
        ("POST", path) if path.ends_with("/stop") => {
            let id = path.trim_end_matches("/stop").rsplit('/').next().unwrap_or_default();
            stopped().insert(id.to_owned());
            reply(200, &json!({"success": true}))
        }
        _ => reply(404, &json!({"detail": "Not Found"})),
    }
}

fn output(command: &str, now: jiff::Timestamp, exit_code: i32) -> Value {
    json!({
        "id": EventId::random(), "timestamp": now, "command_id": command, "order": 0, "exit_code": exit_code,
        "stdout": null, "stderr": null, "kind": "BashOutput",
    })
}

fn reply(status: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}
