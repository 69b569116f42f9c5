//! Opens the sockets of a server for others.

use actix_codec::Framed;
use awc::{
    BoxedSocket,
    http::header::{HeaderMap, SEC_WEBSOCKET_PROTOCOL},
    ws::Message,
};
use futures::SinkExt as _;
use tokio::time::timeout;

use super::{
    agent_client::AgentClient,
    exchange::uri,
    frame_bound::BoundedCodec,
    headers::secret,
    pass::Below,
    socket::{auth, not_connected, silent},
};
use crate::{Failure, protocol::SESSION_KEY_HEADER};

/// How a socket's server is told the session key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyIn {
    /// In a first message, as the event sockets of agent servers want it.
    FirstMessage,
    /// In the header of the request.
    Header,
}

/// A socket that was opened.
pub(crate) struct PassedSocket {
    pub(crate) framed: Framed<BoxedSocket, BoundedCodec>,
    /// The protocol that the server has chosen of those that were offered.
    pub(crate) protocol: Option<String>,
}

impl AgentClient {
    /// Opens a socket of the server, with its key.
    pub(crate) async fn pass_socket(
        &self,
        below: Below,
        path: &str,
        headers: &HeaderMap,
        protocols: &[String],
        key_in: KeyIn,
    ) -> Result<PassedSocket, Failure> {
        let limits = *self.limits();
        let uri = uri(&self.below(below, path)).map_err(|broken| broken.failure)?;
        let lent = self.duplex();
        let mut request = lent.client.ws(uri).max_frame_size(limits.max_socket_frame).protocols(protocols);
        for (name, value) in headers {
            request = request.header(name.clone(), value.clone());
        }
        if let (Some(key), KeyIn::Header) = (self.key(), key_in) {
            request = request.header("x-session-api-key", secret(SESSION_KEY_HEADER, key)?);
        }
        let patience = limits.connect_timeout + limits.answer_timeout;
        let (answer, framed) = match timeout(patience, request.connect()).await {
            Ok(result) => result.map_err(|error| not_connected(error, &lent))?,
            Err(_) => return Err(silent("the socket to open", patience)),
        };
        let mut framed = framed.into_map_codec(|codec| BoundedCodec::new(codec, limits.max_socket_frame));
        let protocol = answer.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
        let protocol = protocol.map(str::to_owned);
        if let (Some(key), KeyIn::FirstMessage) = (self.key(), key_in) {
            let sent = timeout(limits.idle_timeout, framed.send(Message::Text(auth(key)?.into()))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return Err(silent("the socket to take the session key", limits.idle_timeout));
            }
        }
        Ok(PassedSocket { framed, protocol })
    }
}
