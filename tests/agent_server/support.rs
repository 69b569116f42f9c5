use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use awc::{Client, ClientRequest};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use workspace_fleet::agent::{AgentConfig, AgentHandle, AgentServer};

pub(crate) const KEY: &str = "k1";
/// Longer than anything should take, for waits that end as soon as something happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An agent with a root of its own, and a client of it.
pub(crate) struct Agent {
    pub(crate) handle: AgentHandle,
    pub(crate) root: TempDir,
    pub(crate) client: Client,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) bytes: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Agent {
    pub(crate) fn start() -> Self {
        Self::with(|config| config)
    }

    pub(crate) fn with(adapt: impl FnOnce(AgentConfig) -> AgentConfig) -> Self {
        let root = tempfile::tempdir().unwrap();
        let config = AgentConfig::default().with_session_key(KEY).with_root(root.path());
        let handle = AgentServer::spawn(adapt(config)).unwrap();
        let client = Client::builder().timeout(PATIENCE).disable_redirects().finish();
        Self { handle, root, client }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.handle.url())
    }

    pub(crate) fn get(&self, path: &str) -> ClientRequest {
        self.client.get(self.url(path)).insert_header(("X-Session-API-Key", KEY))
    }

    pub(crate) fn post(&self, path: &str) -> ClientRequest {
        self.client.post(self.url(path)).insert_header(("X-Session-API-Key", KEY))
    }

    pub(crate) async fn get_json(&self, path: &str) -> Value {
        let reply = send(self.get(path)).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    /// Runs a command to its end.
    pub(crate) async fn execute(&self, command: &str) -> Value {
        self.execute_with(json!({ "command": command })).await
    }

    pub(crate) async fn execute_with(&self, body: Value) -> Value {
        let reply = send_json(self.post("/api/bash/execute_bash_command"), &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// Starts a command and gives its id.
    pub(crate) async fn start_command(&self, command: &str, timeout: i64) -> String {
        let body = json!({ "command": command, "timeout": timeout });
        let reply = send_json(self.post("/api/bash/start_bash_command"), &body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn stop_command(&self, id: &str) -> u16 {
        send(self.post(&format!("/api/bash/bash_commands/{id}/stop"))).await.status
    }

    /// Every output event of a command, page by page.
    pub(crate) async fn outputs(&self, id: &str) -> Vec<Value> {
        self.search_all(&format!("command_id__eq={id}"), 8).await
    }

    pub(crate) async fn search_all(&self, query: &str, limit: usize) -> Vec<Value> {
        let (mut events, mut page_id) = (Vec::new(), None::<String>);
        loop {
            let page = page_id.as_ref().map(|id| format!("&page_id={id}")).unwrap_or_default();
            let page = self.get_json(&format!("/api/bash/bash_events/search?{query}&limit={limit}{page}")).await;
            events.extend(page["items"].as_array().unwrap().iter().cloned());
            page_id = page["next_page_id"].as_str().map(str::to_owned);
            if page_id.is_none() {
                return events;
            }
        }
    }

    /// Waits for a command's last event and gives all of them.
    pub(crate) async fn finished(&self, id: &str) -> Vec<Value> {
        until(async || {
            let query = format!("command_id__eq={id}&sort_order=TIMESTAMP_DESC&limit=1");
            let last = self.get_json(&format!("/api/bash/bash_events/search?{query}")).await;
            last["items"][0]["exit_code"].is_i64().then_some(())
        })
        .await;
        self.outputs(id).await
    }
}

/// The text of one stream in all events.
pub(crate) fn joined(events: &[Value], stream: &str) -> String {
    events.iter().filter_map(|event| event[stream].as_str()).collect()
}

pub(crate) async fn send(request: ClientRequest) -> Reply {
    reply(request.send().await.unwrap()).await
}

pub(crate) async fn send_json(request: ClientRequest, body: &Value) -> Reply {
    reply(request.send_json(body).await.unwrap()).await
}

pub(crate) async fn send_bytes(request: ClientRequest, body: impl Into<Bytes>) -> Reply {
    reply(request.send_body(body.into()).await.unwrap()).await
}

async fn reply<S>(mut response: awc::ClientResponse<S>) -> Reply
where
    S: futures::Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin,
{
    let headers = response.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let bytes = response.body().limit(1 << 30).await.unwrap();
    Reply { status: response.status().as_u16(), headers, bytes }
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "it never happened");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process lives.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Waits until a file has a line, and gives it.
pub(crate) async fn first_line(path: &Path) -> String {
    until(async || {
        let text = std::fs::read_to_string(path).ok()?;
        text.split_once('\n').map(|(line, _)| line.to_owned())
    })
    .await
}

/// A form with one file.
pub(crate) fn form(content: &[u8]) -> (&'static str, Vec<u8>) {
    let head = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n";
    ("multipart/form-data; boundary=B", [head.as_bytes(), content, b"\r\n--B--\r\n"].concat())
}

/// A value as it stands in a query.
pub(crate) fn encoded(path: impl AsRef<Path>) -> String {
    url::form_urlencoded::byte_serialize(path.as_ref().to_str().unwrap().as_bytes()).collect()
}
