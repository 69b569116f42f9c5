use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a server says among its capabilities that pushes output as it comes.
pub(crate) const PUSH_CAPABILITY: &str = "bash_event_push_v1";

/// What a server says among its capabilities that puts an upload in place in one step.
pub(crate) const ATOMIC_UPLOAD_CAPABILITY: &str = "atomic_upload_v1";

/// The answer of `/server_info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Seconds since the server started, by its wall clock.
    pub uptime: f64,
    /// Seconds since the last request that counts as use.
    pub idle_time: f64,
    /// What the server calls itself.
    #[serde(default)]
    pub title: String,
    /// The server's version. It decides which routes exist.
    #[serde(default)]
    pub version: String,
    /// Seconds of [`idle_time`](Self::idle_time) after which the sandbox is reaped, where the server says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_idle_timeout_seconds: Option<f64>,
    /// A value that is new at each start of the server. Only the embedded agent server sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Everything else that the server tells.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ServerInfo {
    /// Whether the server has `POST /api/bash/bash_commands/{id}/stop`, which came after 1.43.
    ///
    /// An unknown version is taken to be a new one: the route's answer then settles it.
    #[must_use]
    pub fn has_stop_route(&self) -> bool {
        self.version_pair().is_none_or(|version| version > (1, 43))
    }

    /// Whether the server announces that it pushes output over its event socket as it comes, and that a slow subscriber
    /// holds up nobody. The embedded agent server does.
    #[must_use]
    pub fn pushes_output(&self) -> bool {
        self.can(PUSH_CAPABILITY)
    }

    /// Whether the server announces that an upload appears at its destination in one step, whole. The embedded agent server does.
    #[must_use]
    pub fn places_uploads_whole(&self) -> bool {
        self.can(ATOMIC_UPLOAD_CAPABILITY)
    }

    fn can(&self, capability: &str) -> bool {
        let capabilities = self.other.get("capabilities").and_then(Value::as_array);
        capabilities.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(capability)))
    }

    /// Major and minor version.
    #[must_use]
    pub fn version_pair(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

/// The answer of `/alive` and `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliveReply {
    /// `ok`.
    pub status: String,
}

/// The answer of `/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyReply {
    /// `ready` with status 200, `initializing` with 503.
    pub status: String,
    /// What the server waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The answer of `/api/init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitStatus {
    /// `dormant`, `initializing` or `ready`.
    pub state: String,
    /// How the last attempt failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: &str) -> ServerInfo {
        serde_json::from_value(
            serde_json::json!({"uptime": 1, "idle_time": 0.5, "version": version, "sdk_version": "x"}),
        )
        .unwrap()
    }

    #[test]
    fn the_version_tells_whether_the_stop_route_exists() {
        assert!(!info("1.43.1").has_stop_route());
        assert!(!info("1.9.0").has_stop_route());
        assert!(info("1.58.0").has_stop_route());
        assert!(info("main").has_stop_route());
        assert_eq!(info("1.58.0").other["sdk_version"], "x");
    }
}
