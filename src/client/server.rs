//! The endpoints of the server itself, which ask for no session key.

use awc::http::{StatusCode, header::HeaderName};

use super::{
    agent_client::AgentClient,
    bash::body,
    body::{self, Bounds},
    exchange::{Call, SMALL},
    headers,
    key::SessionKey,
};
use crate::{
    Failure,
    protocol::{AliveReply, InitStatus, ReadyReply, ServerInfo},
};

impl AgentClient {
    /// Whether the server answers.
    ///
    /// # Errors
    /// As any request.
    pub async fn alive(&self) -> Result<AliveReply, Failure> {
        self.ask(Call::get(self, self.root("/alive")).small()).await
    }

    /// The same as [`alive`](Self::alive), under its other name.
    ///
    /// # Errors
    /// As any request.
    pub async fn health(&self) -> Result<AliveReply, Failure> {
        self.ask(Call::get(self, self.root("/health")).small()).await
    }

    /// Whether the server is ready. One that says that it is still starting is no failure.
    ///
    /// # Errors
    /// As any request.
    pub async fn ready(&self) -> Result<ReadyReply, Failure> {
        let call = Call::get(self, self.root("/ready"));
        let name = call.name();
        let (mut answer, _) = self.exchange(&call).await?;
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            let text = body::read_error(&mut answer, Bounds::error(self.limits())).await;
            return serde_json::from_slice(&text).map_err(|_| self.refusal_with(&answer, &text));
        }
        if !answer.status().is_success() {
            return Err(self.refusal(&mut answer).await);
        }
        self.read_json(&mut answer, Bounds::json(self.limits()).at_most(SMALL), &name).await
    }

    /// What the server is.
    ///
    /// # Errors
    /// As any request.
    pub async fn server_info(&self) -> Result<ServerInfo, Failure> {
        self.ask(Call::get(self, self.root("/server_info")).small()).await
    }

    /// Whether the server waits for its configuration. `NotFound` is one that does not.
    ///
    /// # Errors
    /// As any request.
    pub async fn init_status(&self) -> Result<InitStatus, Failure> {
        self.ask(Call::get(self, self.root("/api/init")).small()).await
    }

    /// Wakes a server that waits for its configuration, with the key that it was started with.
    ///
    /// # Errors
    /// As any request.
    pub async fn init(&self, init_key: &SessionKey, config: &serde_json::Value) -> Result<serde_json::Value, Failure> {
        let key = headers::secret("X-Init-API-Key", init_key)?;
        self.secrets().add(init_key);
        let call = Call::post(self, self.root("/api/init")).json(body(config)?).small();
        self.ask(call.header(HeaderName::from_static("x-init-api-key"), key)).await
    }
}
