//! A server that behaves as a test says, and honestly where the test says nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use workspace_fleet::{Connection, Fleet, Push, Workspace, WorkspaceConfig, protocol::EventId};

use crate::support::http::{Head, Length, copy_body};

/// A request.
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: HashMap<String, String>,
    /// The head as it came.
    pub(crate) head: String,
    pub(crate) body: Value,
    /// How many requests of this path came before.
    pub(crate) number: usize,
}

impl Ask {
    pub(crate) fn is_search(&self) -> bool {
        self.path.ends_with("/bash_events/search")
    }

    pub(crate) fn is_start(&self) -> bool {
        self.path.ends_with("/start_bash_command")
    }

    /// The command that output is asked of, if it is of one alone.
    pub(crate) fn command(&self) -> Option<&str> {
        self.query.get("command_id__eq").map(String::as_str)
    }
}

/// What a server says to a request.
pub(crate) enum Say {
    /// A JSON answer.
    Json(Value),
    /// These bytes as they are, and nothing more over this connection.
    Bytes(Vec<u8>),
    /// These bytes, and after a while those; the connection is kept.
    Late(Vec<u8>, Duration, Vec<u8>),
    /// These bytes once, and those again and again until the client has had enough.
    Endless(Vec<u8>, Vec<u8>),
    /// Opens an event socket, sends these bytes over it once the key has come, and holds it.
    Socket(Vec<u8>),
    /// What an honest server says.
    Honest,
}

/// An answer with this status and a page.
pub(crate) fn page(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// The commands that the honest part of a server has started, by their ids.
#[derive(Default)]
pub(crate) struct Commands(Mutex<Vec<(String, Instant)>>);

impl Commands {
    /// The id of the command that was started as this one, counted from 0.
    pub(crate) fn id(&self, number: usize) -> String {
        let commands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        commands.get(number).map(|(id, _)| id.clone()).unwrap_or_default()
    }

    /// How long ago the first was started.
    pub(crate) fn age(&self) -> Duration {
        let commands = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        commands.first().map(|(_, at)| at.elapsed()).unwrap_or_default()
    }

    fn start(&self) -> String {
        let id = EventId::random().to_string();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((id.clone(), Instant::now()));
        id
    }
}

type Script = dyn Fn(&Ask, &Commands) -> Say + Send + Sync;

/// The running server. It ends when it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    requests: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Server {
    /// A server that behaves as the script says.
    pub(crate) async fn start(script: impl Fn(&Ask, &Commands) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            script: Box::new(script),
            commands: Commands::default(),
            requests: Arc::default(),
            heads: Arc::default(),
            counts: Mutex::default(),
        });
        let (requests, heads) = (shared.requests.clone(), shared.heads.clone());
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                let shared = shared.clone();
                connections.spawn(async move { serve(connection, &shared).await });
            }
        });
        Self { url, requests, heads, serving }
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// The heads of all requests, as they came.
    pub(crate) fn heads(&self) -> String {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }

    /// A fleet with a workspace before this server, whose bounds a test can wait for.
    pub(crate) async fn workspace(&self, adapt: impl FnOnce(WorkspaceConfig) -> WorkspaceConfig) -> (Fleet, Workspace) {
        let connection = Connection::new(&self.url).unwrap().with_api_key("hush-session-key");
        workspace(connection, adapt).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A fleet with a workspace, whose bounds a test can wait for.
pub(crate) async fn workspace(
    connection: Connection,
    adapt: impl FnOnce(WorkspaceConfig) -> WorkspaceConfig,
) -> (Fleet, Workspace) {
    let fleet = Fleet::builder().worker_threads(1).start().unwrap();
    let config = WorkspaceConfig::new("w", connection).with_max_outage(Duration::from_secs(1));
    let mut config = config.with_retry_for(Duration::from_secs(1));
    config.limits.answer_timeout = Duration::from_secs(2);
    config.limits.idle_timeout = Duration::from_secs(2);
    let workspace = fleet.add(adapt(config.with_push(Push::Never))).await.unwrap();
    (fleet, workspace)
}

struct Shared {
    script: Box<Script>,
    commands: Commands,
    requests: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    counts: Mutex<HashMap<String, usize>>,
}

impl Shared {
    fn say(&self, head: &Head, body: &[u8]) -> Say {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let text = String::from_utf8_lossy(&head.bytes).into_owned();
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
        let target = head.path();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let number = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(path.to_owned()).or_default();
            *count += 1;
            *count - 1
        };
        let ask = Ask {
            method: text.split(' ').next().unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
            head: text,
            body: serde_json::from_slice(body).unwrap_or_default(),
            number,
        };
        match (self.script)(&ask, &self.commands) {
            Say::Honest => honest(&ask, &self.commands),
            said => said,
        }
    }
}

async fn serve(connection: TcpStream, shared: &Shared) {
    connection.set_nodelay(true).unwrap();
    let mut connection = BufReader::new(connection);
    while let Ok(Some(head)) = Head::read(&mut connection).await {
        let mut body = Vec::new();
        if let Length::Bytes(_) = head.length()
            && !copy_body(head.length(), &mut connection, &mut body).await.is_ok_and(|is_whole| is_whole)
        {
            return;
        }
        let written = match shared.say(&head, &body) {
            Say::Json(value) => connection.write_all(&page("200 OK", "application/json", &value.to_string())).await,
            Say::Late(first, wait, then) => {
                let written = connection.write_all(&first).await;
                tokio::time::sleep(wait).await;
                written.and(connection.write_all(&then).await)
            }
            Say::Bytes(bytes) => {
                // The client may have had enough before all is written.
                let _ = connection.write_all(&bytes).await;
                return;
            }
            Say::Endless(first, piece) => {
                let mut written = connection.write_all(&first).await;
                while written.is_ok() {
                    written = connection.write_all(&piece).await;
                }
                return;
            }
            Say::Socket(bytes) => return hold_socket(connection, &head, &bytes).await,
            Say::Honest => unreachable!("it was put into words"),
        };
        if written.is_err() {
            return;
        }
    }
}

async fn hold_socket(mut connection: BufReader<TcpStream>, head: &Head, bytes: &[u8]) {
    let answer = head.socket_answer().expect("it asks for a socket");
    if connection.write_all(&answer).await.is_err() {
        return;
    }
    // The key comes first, and what comes later is of no interest.
    let mut space = [0; 4096];
    if connection.read(&mut space).await.is_ok_and(|length| length > 0) && connection.write_all(bytes).await.is_ok() {
        while connection.read(&mut space).await.is_ok_and(|length| length > 0) {}
    }
}

/// An output event.
pub(crate) fn output(command: &str, order: impl Into<Value>, exit_code: Option<i32>, stdout: &str) -> Value {
    json!({
        "id": EventId::random(), "timestamp": Timestamp::now(), "command_id": command, "order": order.into(),
        "exit_code": exit_code, "stdout": stdout, "stderr": null, "kind": "BashOutput",
    })
}

/// A page of events.
pub(crate) fn events(items: Vec<Value>, next: Option<&str>) -> Say {
    Say::Json(json!({ "items": items, "next_page_id": next }))
}

/// Commands end at once with the output `hi`.
fn honest(ask: &Ask, commands: &Commands) -> Say {
    let success = || Say::Json(json!({ "success": true }));
    match (ask.method.as_str(), ask.path.as_str()) {
        (_, "/alive") => Say::Json(json!({ "status": "ok" })),
        (_, "/ready") => Say::Json(json!({ "status": "ready" })),
        (_, "/server_info") => Say::Json(json!({ "uptime": 1e6, "idle_time": 0, "version": "1.58.0" })),
        ("POST", _) if ask.is_start() => {
            let mut command = ask.body.clone();
            command["id"] = json!(commands.start());
            command["timestamp"] = json!(Timestamp::now());
            command["kind"] = json!("BashCommand");
            Say::Json(command)
        }
        ("POST", "/api/bash/execute_bash_command") => Say::Json(output(&EventId::random().to_string(), 0, Some(0), "")),
        _ if ask.is_search() => {
            events(ask.command().map(|id| output(id, 0, Some(0), "hi\n")).into_iter().collect(), None)
        }
        ("POST", path) if path.ends_with("/stop") || path.ends_with("/upload") => success(),
        _ => Say::Bytes(page("404 Not Found", "application/json", r#"{"detail":"Not Found"}"#)),
    }
}
