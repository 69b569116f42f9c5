//! An agent server that answers at once: a command has ended when its start is answered. It costs little more than the
//! sockets, so that what is measured is who asks. Where its answers are delayed, a command writes when it ended, in nanoseconds.
//!
//! Each workspace has a path prefix of its own, below which it finds the commands that were started there.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    io::Write as _,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BytesMut};
use jiff::Timestamp;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// How many commands of a workspace are known by their ids.
const KNOWN: usize = 4096;

/// How many of the last ones are found by their time.
const RECENT: usize = 256;

/// The most bytes of a request.
const LONGEST: usize = 1 << 20;

/// Serves on a free port, which it prints, until its standard input ends. For each byte that comes there it prints how many
/// requests it has answered.
pub(crate) fn serve(tls: Option<ServerConfig>, delay: Duration) -> std::io::Result<()> {
    workspace_fleet::fleet::raise_open_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        let listener = socket.listen(8192)?;
        println!("{}", listener.local_addr()?.port());
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let state = Rc::new(State::new(!delay.is_zero()));
        tokio::select! {
            () = accept(listener, acceptor, delay, Rc::clone(&state)) => {}
            () = tell(&state) => {}
        }
        Ok(())
    })
}

/// Answers what is asked on standard input, to its end.
async fn tell(state: &State) {
    let mut asked = tokio::io::stdin();
    while asked.read_u8().await.is_ok() {
        println!("{}", state.requests.get());
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, delay: Duration, state: Rc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (state, acceptor) = (Rc::clone(&state), acceptor.clone());
        tokio::task::spawn_local(async move {
            match acceptor {
                None => answer(stream, &state, delay).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => answer(stream, &state, delay).await,
                    Err(_) => None,
                },
            }
        });
    }
}

/// When each of the last commands of a workspace was started, and its id.
type Started = VecDeque<(Timestamp, String)>;

/// The commands of each workspace, by its prefix.
struct State {
    began: Instant,
    workspaces: RefCell<HashMap<Box<str>, Started>>,
    /// How many requests were answered.
    requests: Cell<u64>,
    /// Whether commands write when they ended.
    tells_time: bool,
}

/// Answers what comes over a connection, to its end.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &State, delay: Duration) -> Option<()> {
    let (mut bytes, mut answers) = (BytesMut::with_capacity(4096), Vec::with_capacity(4096));
    loop {
        while let Some((head, length)) = whole(&bytes) {
            let body = head..length;
            state.respond(std::str::from_utf8(&bytes[..head]).ok()?, &bytes[body], &mut answers);
            bytes.advance(length);
        }
        if !answers.is_empty() {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            stream.write_all(&answers).await.ok()?;
            stream.flush().await.ok()?;
            answers.clear();
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 || bytes.len() > LONGEST {
            return None;
        }
    }
}

/// The lengths of the head and of the whole of the first request, where it is all there.
fn whole(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let all = head + length.unwrap_or(0);
    (bytes.len() >= all).then_some((head, all))
}

impl State {
    fn new(tells_time: bool) -> Self {
        Self { began: Instant::now(), workspaces: RefCell::default(), requests: Cell::new(0), tells_time }
    }

    fn respond(&self, head: &str, _body: &[u8], answers: &mut Vec<u8>) {
        self.requests.set(self.requests.get() + 1);
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let json = if let Some(prefix) = path.strip_suffix("/api/bash/start_bash_command") {
            self.start(prefix)
        } else if let Some(prefix) = path.strip_suffix("/api/bash/bash_events/search") {
            self.search(prefix, query)
        } else if path.ends_with("/server_info") {
            // One that stood still would be that of a server which has just taken the place of another.
            let uptime = 1000.0 + self.began.elapsed().as_secs_f64();
            format!(r#"{{"uptime":{uptime},"idle_time":0.0,"title":"stub","version":"1.58.0"}}"#)
        } else {
            r#"{"status":"ok"}"#.to_owned()
        };
        let _ = write!(
            answers,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
            json.len()
        );
    }

    fn start(&self, prefix: &str) -> String {
        let (id, time) = (uuid::Uuid::new_v4().simple().to_string(), Timestamp::now());
        let mut workspaces = self.workspaces.borrow_mut();
        let commands = workspaces.entry(prefix.into()).or_default();
        if commands.len() == KNOWN {
            commands.pop_front();
        }
        commands.push_back((time, id.clone()));
        format!(
            r#"{{"command":"true","cwd":null,"timeout":31,"id":"{id}","timestamp":"{time:.6}","kind":"BashCommand"}}"#
        )
    }

    /// The last event of the command that is asked for, or of all since a time.
    fn search(&self, prefix: &str, query: &str) -> String {
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let wanted = value("command_id__eq").map(|id| id.replace('-', ""));
        let since: Option<Timestamp> = value("timestamp__gte")
            .and_then(|text| percent_encoding::percent_decode_str(text).decode_utf8().ok()?.parse().ok());
        let most: usize = value("limit").and_then(|limit| limit.parse().ok()).unwrap_or(100);
        let page = value("page_id");
        let workspaces = self.workspaces.borrow();
        let Some(commands) = workspaces.get(prefix) else { return r#"{"items":[],"next_page_id":null}"#.to_owned() };
        if let Some(wanted) = wanted {
            let found = commands.iter().rev().find(|(_, id)| *id == wanted);
            let event = found.map(|(time, id)| last_event(*time, id, self.tells_time)).unwrap_or_default();
            return format!(r#"{{"items":[{event}],"next_page_id":null}}"#);
        }
        let mut found = commands
            .iter()
            .skip(commands.len().saturating_sub(RECENT))
            .filter(|(time, _)| since.is_none_or(|since| *time >= since))
            .skip_while(|(_, id)| page.is_some_and(|page| page != id));
        let items: Vec<String> =
            found.by_ref().take(most).map(|(time, id)| last_event(*time, id, self.tells_time)).collect();
        let next = found.next().map_or_else(|| "null".to_owned(), |(_, id)| format!("\"{id}\""));
        format!(r#"{{"items":[{}],"next_page_id":{next}}}"#, items.join(","))
    }
}

/// The event that says that a command has ended. It has the command's id, so that it names the page that begins with it.
fn last_event(time: Timestamp, id: &str, tells_time: bool) -> String {
    let stdout = if tells_time { time.as_nanosecond().to_string() } else { String::new() };
    format!(
        r#"{{"id":"{id}","timestamp":"{time:.6}","command_id":"{id}","order":0,"exit_code":0,"stdout":"{stdout}","stderr":"","kind":"BashOutput"}}"#
    )
}
