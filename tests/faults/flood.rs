//! Servers whose commands write without end. They cost next to nothing themselves, so that what is measured beside them is who
//! reads, and they write what they are asked to: a sandbox has a machine of its own.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use workspace_fleet::protocol::EventId;

use crate::support::http::{Head, copy_body};

/// How often a command writes.
const BEAT: Duration = Duration::from_millis(50);

/// Stands where the text of an event comes, which is too long to be copied for each.
const PLACE: &str = "<text>";

/// The exit code of what was stopped.
const TERMINATED: i32 = -15;

/// The running servers. They end when this is dropped.
pub(crate) struct Floods {
    urls: Vec<String>,
    searched: Arc<AtomicU64>,
    sockets: Arc<AtomicU64>,
    end: CancellationToken,
    serving: Option<thread::JoinHandle<()>>,
}

impl Floods {
    /// Starts so many, each command of which writes so many bytes a second.
    pub(crate) fn start(count: u64, bytes: u64) -> Self {
        let bind = |_| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let listeners: Vec<_> = (0..count).map(bind).collect();
        let url = |listener: &std::net::TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let urls = listeners.iter().map(url).collect();
        let text = "x".repeat(usize::try_from(bytes).unwrap() * BEAT.as_millis() as usize / 1000).into();
        let (end, searched, sockets) = (CancellationToken::new(), Arc::default(), Arc::default());
        let (ended, counters) = (end.clone(), (Arc::clone(&searched), Arc::clone(&sockets)));
        let serving = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for (at, listener) in (0..).zip(listeners) {
                    let ahead = BEAT * at / count as u32;
                    let (text, (searched, sockets)) = (Arc::clone(&text), counters.clone());
                    let server = Arc::new(Server { text, ahead, searched, sockets, commands: Mutex::default() });
                    tokio::spawn(server.accept(TcpListener::from_std(listener).unwrap()));
                }
                ended.cancelled().await;
            });
        });
        Self { urls, searched, sockets, end, serving: Some(serving) }
    }

    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// How many sockets were opened over which output is pushed.
    pub(crate) fn sockets(&self) -> u64 {
        self.sockets.load(Ordering::Relaxed)
    }

    /// How much output was in answers to searches.
    pub(crate) fn searched(&self) -> u64 {
        self.searched.load(Ordering::Relaxed)
    }
}

impl Drop for Floods {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

struct Server {
    /// What a command writes at once.
    text: Arc<str>,
    /// How much earlier than their start commands begin: servers do not write at the same moment.
    ahead: Duration,
    /// How many bytes of output were in answers to searches.
    searched: Arc<AtomicU64>,
    /// How many sockets were opened.
    sockets: Arc<AtomicU64>,
    commands: Mutex<Vec<Command>>,
}

#[derive(Clone)]
struct Command {
    id: EventId,
    began: Instant,
    began_at: Timestamp,
    /// How many events it had when it was stopped.
    ended: Option<u64>,
}

impl Command {
    /// How many events it has written.
    fn written(&self) -> u64 {
        self.ended.unwrap_or_else(|| (self.began.elapsed().as_millis() / BEAT.as_millis()) as u64)
    }

    /// How many events there are, the last one included.
    fn events(&self) -> u64 {
        self.written() + u64::from(self.ended.is_some())
    }

    fn time(&self, order: u64) -> Timestamp {
        self.began_at + BEAT * order as u32
    }

    fn event(&self, order: u64, text: &str) -> Value {
        let is_last = self.ended == Some(order);
        json!({
            "id": format!("{}{order:016x}", &self.id.to_string()[..16]),
            "timestamp": self.time(order), "command_id": self.id, "order": order,
            "exit_code": is_last.then_some(TERMINATED), "stdout": (!is_last).then_some(text), "stderr": null,
            "kind": "BashOutput",
        })
    }
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Ok((connection, _)) = listener.accept().await {
            let server = Arc::clone(&self);
            // A client that hangs up ends its connection.
            tokio::spawn(async move { drop(server.serve(connection).await) });
        }
    }

    async fn serve(&self, connection: TcpStream) -> std::io::Result<()> {
        connection.set_nodelay(true)?;
        let mut connection = BufReader::new(connection);
        while let Some(head) = Head::read(&mut connection).await? {
            let mut body = Vec::new();
            copy_body(head.length(), &mut connection, &mut body).await?;
            if let Some(answer) = head.socket_answer() {
                connection.write_all(&answer).await?;
                return self.push(connection.into_inner()).await;
            }
            let path = head.path();
            let answer = self.answer(&path, serde_json::from_slice(&body).unwrap_or_default());
            let status = if answer.is_null() { "404 Not Found" } else { "200 OK" };
            let text = answer.to_string();
            let length = text.len();
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
            connection.write_all(head.as_bytes()).await?;
            connection.write_all(text.as_bytes()).await?;
        }
        Ok(())
    }

    /// Tells of what commands write from now on.
    async fn push(&self, connection: TcpStream) -> std::io::Result<()> {
        self.sockets.fetch_add(1, Ordering::Relaxed);
        let (mut from, mut to) = connection.into_split();
        // Whatever the client says: that it has gone is heard.
        let gone = async { while from.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {} };
        let telling = async {
            let mut told: Vec<u64> = self.commands().iter().map(Command::events).collect();
            loop {
                let commands = self.commands();
                told.resize(commands.len(), 0);
                for (command, told) in commands.iter().zip(&mut told) {
                    for order in *told..command.events() {
                        let event = command.event(order, PLACE).to_string();
                        match event.split_once(PLACE) {
                            Some((before, after)) => {
                                let length = event.len() - PLACE.len() + self.text.len();
                                to.write_all(&[&frame_head(length), before.as_bytes()].concat()).await?;
                                to.write_all(self.text.as_bytes()).await?;
                                to.write_all(after.as_bytes()).await?;
                            }
                            None => to.write_all(&[&frame_head(event.len()), event.as_bytes()].concat()).await?,
                        }
                    }
                    *told = command.events();
                }
                tokio::time::sleep(BEAT / 10).await;
            }
        };
        tokio::select! {
            () = gone => Ok(()),
            result = telling => result,
        }
    }

    fn commands(&self) -> Vec<Command> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The answer to a request; null where there is nothing.
    fn answer(&self, target: &str, body: Value) -> Value {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match path {
            "/alive" => json!({ "status": "ok" }),
            "/ready" => json!({ "status": "ready" }),
            "/server_info" => json!({
                "uptime": 1e6, "idle_time": 0, "version": "1.58.0", "instance_id": "flood",
                "capabilities": ["bash_event_push_v1"],
            }),
            "/api/bash/start_bash_command" => self.start(body),
            "/api/bash/execute_bash_command" => json!({
                "id": EventId::random(), "timestamp": Timestamp::now(), "command_id": EventId::random(), "order": 0,
                "exit_code": 0, "stdout": null, "stderr": null, "kind": "BashOutput",
            }),
            "/api/bash/bash_events/search" => self.search(query),
            _ => match path.strip_prefix("/api/bash/bash_commands/").and_then(|rest| rest.strip_suffix("/stop")) {
                Some(id) => self.stop(id),
                None => Value::Null,
            },
        }
    }

    fn start(&self, mut body: Value) -> Value {
        let began = Instant::now() - self.ahead;
        let command = Command { id: EventId::random(), began, began_at: Timestamp::now(), ended: None };
        body["id"] = json!(command.id);
        body["timestamp"] = json!(command.began_at);
        body["kind"] = json!("BashCommand");
        body["instance_id"] = json!("flood");
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        body
    }

    fn stop(&self, id: &str) -> Value {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(command) = commands.iter_mut().find(|command| command.id.to_string() == id) else {
            return Value::Null;
        };
        command.ended = Some(command.written());
        json!({ "success": true })
    }

    fn search(&self, query: &str) -> Value {
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let value = |name: &str| pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let id = value("command_id__eq");
        let since: Option<Timestamp> = value("timestamp__gte").and_then(|time| time.parse().ok());
        let after: Option<u64> = value("order__gt").and_then(|order| order.parse().ok());
        let limit: usize = value("limit").and_then(|limit| limit.parse().ok()).unwrap_or(100);
        let skipped: usize = value("page_id").and_then(|page| page.parse().ok()).unwrap_or(0);
        let commands = self.commands();
        let asked = commands.iter().filter(|command| id.is_none_or(|id| command.id.to_string() == id));
        let mut found: Vec<(Timestamp, &Command, u64)> = asked
            .flat_map(|command| (0..command.events()).map(move |order| (command.time(order), command, order)))
            .filter(|(time, _, order)| {
                since.is_none_or(|since| *time >= since) && after.is_none_or(|after| *order > after)
            })
            .collect();
        found.sort_by_key(|(time, _, order)| (*time, *order));
        if value("sort_order") == Some("TIMESTAMP_DESC") {
            found.reverse();
        }
        let page = found.iter().skip(skipped).take(limit);
        let items: Vec<Value> = page.map(|(_, command, order)| command.event(*order, &self.text)).collect();
        self.searched.fetch_add((items.len() * self.text.len()) as u64, Ordering::Relaxed);
        let next = skipped + items.len();
        json!({ "items": items, "next_page_id": (next < found.len()).then(|| next.to_string()) })
    }
}

/// The head of a message of text over a socket, as a server sends it.
fn frame_head(length: usize) -> Vec<u8> {
    [&[0x81, 127], (length as u64).to_be_bytes().as_slice()].concat()
}

/// Reads the flood of one server from a bare socket, and throws it away: what noise costs a machine whoever reads it.
pub(crate) async fn read_bare(url: String, read: Arc<AtomicU64>) -> std::io::Result<()> {
    let address = url.trim_start_matches("http://").to_owned();
    let start = json!({ "command": "yes" }).to_string();
    let length = start.len();
    let mut starting = TcpStream::connect(&address).await?;
    let request = format!("POST /api/bash/start_bash_command HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{start}");
    starting.write_all(request.as_bytes()).await?;
    let mut socket = TcpStream::connect(&address).await?;
    socket.write_all(b"GET /sockets/bash-events HTTP/1.1\r\nSec-WebSocket-Key: bare\r\n\r\n").await?;
    let mut space = vec![0; 128 << 10];
    loop {
        match socket.read(&mut space).await? {
            0 => return Ok(()),
            length => read.fetch_add(length as u64, Ordering::Relaxed),
        };
    }
}
