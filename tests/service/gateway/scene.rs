use std::time::Duration;

use awc::http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use workspace_fleet::{
    Connection, WorkspaceConfig,
    service::{Access, ApiKey, Service, ServiceConfig},
};

use crate::agent::Agent;

/// The key of the agent, which no client has.
pub(crate) const AGENT_KEY: &str = "key-of-the-agent";
pub(crate) const FULL_KEY: &str = "key-of-a-client";
pub(crate) const LOOKING_KEY: &str = "key-of-a-looker";

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The way to the agent itself.
pub(crate) fn to_agent(agent: &Agent) -> Connection {
    Connection::new(&format!("http://127.0.0.1:{}", agent.port)).unwrap()
}

/// A service with one workspace `w 1`, whose agent wants a key that only the service has.
pub(crate) struct Scene {
    pub(crate) agent: Agent,
    service: Service,
    pub(crate) root: TempDir,
    _state: TempDir,
    pub(crate) client: awc::Client,
}

impl Scene {
    /// The agent as its own workspace.
    pub(crate) async fn start() -> Self {
        Self::with(to_agent).await
    }

    /// The workspace is reached by way of this address.
    pub(crate) async fn by_way_of(url: &str) -> Self {
        let connection = Connection::new(url).unwrap();
        Self::with(move |_| connection).await
    }

    pub(crate) async fn with(connection: impl FnOnce(&Agent) -> Connection) -> Self {
        Self::configured(connection, |_| {}).await
    }

    /// A service with other settings.
    pub(crate) async fn configured(
        connection: impl FnOnce(&Agent) -> Connection,
        configure: impl FnOnce(&mut ServiceConfig),
    ) -> Self {
        let (root, state) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let agent = Agent::start(root.path(), &[AGENT_KEY]);
        let workspace = WorkspaceConfig::new("w 1", connection(&agent).with_api_key(AGENT_KEY));
        let mut config = ServiceConfig::new(state.path())
            .with_key(ApiKey::new("client", FULL_KEY, Access::Full))
            .with_key(ApiKey::new("looker", LOOKING_KEY, Access::ReadOnly))
            .with_workspace(workspace);
        configure(&mut config);
        let service = tokio::task::spawn_blocking(|| Service::start(config)).await.unwrap().unwrap();
        let client = awc::Client::builder().timeout(PATIENCE).disable_redirects().finish();
        Self { agent, service, root, _state: state, client }
    }

    /// Where the workspace is for clients.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/workspaces/w%201{path}", self.service.url())
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.service.addr()
    }

    /// Where the agent itself is.
    pub(crate) fn direct(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.agent.port)
    }

    /// Asks with this key, and returns the status and the JSON of the answer.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: String,
        key: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let mut request = self.client.request(method, url);
        if !key.is_empty() {
            request = request.insert_header(("x-session-api-key", key));
        }
        let mut answer = match body {
            Some(body) => request.send_json(body).await.unwrap(),
            None => request.send().await.unwrap(),
        };
        let bytes = answer.body().limit(64 << 20).await.unwrap();
        (answer.status(), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, self.url(path), FULL_KEY, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(Method::POST, self.url(path), FULL_KEY, Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    /// Starts a command and returns what was answered.
    pub(crate) async fn start_command(&self, command: &str) -> Value {
        self.post("/api/bash/start_bash_command", &json!({ "command": command, "timeout": 60 })).await
    }

    /// The last event of a command.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        let path = format!("/api/bash/bash_events/search?command_id__eq={id}&sort_order=TIMESTAMP_DESC&limit=1");
        let began = std::time::Instant::now();
        loop {
            let page = self.get(&path).await;
            if page["items"][0]["exit_code"].is_i64() {
                return page["items"][0].clone();
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {page}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
