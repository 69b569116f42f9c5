use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::AgentError;

/// How an agent server listens, whom it lets in, and what it keeps.
///
/// ```
/// use workspace_fleet::agent::AgentConfig;
///
/// let config = AgentConfig::default().with_port(0).with_session_key("s3cret").with_root("/tmp");
/// assert!(!format!("{config:?}").contains("s3cret"));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AgentConfig {
    /// The address or name to listen on. Default: `127.0.0.1`.
    pub host: String,
    /// The port to listen on; 0, the default, lets the system pick one.
    pub port: u16,
    /// Where commands without a `cwd` run, and what relative paths of git queries and of `cwd` refer to. Default: the
    /// working directory of this process. It must exist.
    pub root: Option<PathBuf>,
    /// Keys of which a request must carry one in `X-Session-API-Key`. None, the default, lets everyone in, which is
    /// accepted on loopback addresses only.
    pub session_keys: Vec<SecretString>,
    /// The key that wakes an agent that comes up dormant and waits for its configuration. Default: none, and it comes up
    /// ready.
    pub deferred_init: Option<SecretString>,
    /// What is kept of finished commands and their output.
    pub retention: Retention,
    /// What `/server_info` reports as `runtime_idle_timeout_seconds`. The agent itself never ends when idle. Default: none.
    pub runtime_idle_timeout: Option<Duration>,
    /// How many commands may run at once; one more is answered with 503 and `Retry-After`. Default: 1,000.
    pub max_running_commands: usize,
    /// How many event sockets may be open at once; one more is closed with 1013. Default: 50.
    pub max_subscribers: usize,
    /// How long an event socket may take to accept one frame before it is closed with 1013. Default: 30 s.
    pub subscriber_stall: Duration,
    /// How many connections are served at once. For one more, the one without a key on which nothing has moved for longest
    /// is closed; where all have keys, it is answered with 503 and closed. Default: 1,024.
    pub max_connections: usize,
    /// How long a client may pause while it sends a request's body or takes an answer before its connection is closed. One
    /// that has shown no key must send the whole body within this time. Default: 30 s.
    pub idle_timeout: Duration,
    /// The largest JSON request body in bytes; a larger one is answered with 413. Uploads have no limit. Default: 2 MiB.
    pub max_json_body: usize,
    /// The folder in which output is spilled to unnamed files. Default: the system's folder for temporary files.
    pub spill_dir: Option<PathBuf>,
}

/// What is kept of commands and their output, and for how long.
///
/// Output chunks are kept in memory up to [`memory_bytes`](Self::memory_bytes) and beyond that in unnamed files, which the
/// system frees when the agent ends, however it ends. When a bound is passed, the oldest go first: output chunks by
/// [`chunks`](Self::chunks) and [`output_bytes`](Self::output_bytes), finished commands with all their events by
/// [`commands`](Self::commands) and [`command_bytes`](Self::command_bytes). A running command is never forgotten, but its
/// oldest chunks may be. The last event of a command stays as long as the command does and its `order` counts every chunk
/// there ever was, so that a reader sees when some are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// How many finished commands are kept. Default: 20,000.
    pub commands: usize,
    /// Bytes of command texts and last events that are kept in memory for finished commands. Default: 64 MiB.
    pub command_bytes: usize,
    /// How many output chunks are kept, those of running commands included. Default: 100,000.
    pub chunks: usize,
    /// Bytes of output chunks that are kept, in memory and on disk together. Default: 1 GiB.
    pub output_bytes: u64,
    /// Bytes of output chunks that are kept in memory before further ones go to disk. While a command runs, the newest 8 MiB of
    /// those are in memory, too. Default: 16 MiB.
    pub memory_bytes: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            commands: 20_000,
            command_bytes: 64 << 20,
            chunks: 100_000,
            output_bytes: 1 << 30,
            memory_bytes: 16 << 20,
        }
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            root: None,
            session_keys: Vec::new(),
            deferred_init: None,
            retention: Retention::default(),
            runtime_idle_timeout: None,
            max_running_commands: 1_000,
            max_subscribers: 50,
            subscriber_stall: Duration::from_secs(30),
            max_connections: 1_024,
            idle_timeout: Duration::from_secs(30),
            max_json_body: 2 << 20,
            spill_dir: None,
        }
    }
}

impl AgentConfig {
    /// The defaults, with what the real server's environment variables say: session keys from `OH_SESSION_API_KEYS_0`,
    /// `_1` and so on up to the first that is missing, or else from `SESSION_API_KEY`,
    /// [`runtime_idle_timeout`](Self::runtime_idle_timeout) from `OH_RUNTIME_IDLE_TIMEOUT_SECONDS`, and where
    /// `OH_DEFERRED_INIT` is `true` or `1` the key of [`deferred_init`](Self::deferred_init) from `OH_SECRET_KEY`.
    ///
    /// # Errors
    /// A key that is not valid Unicode; an empty one counts as missing. Also an agent that would come up dormant and has no
    /// key to wake it.
    pub fn from_env() -> Result<Self, AgentError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(get: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Self, AgentError> {
        let key = |name: &str| match get(name).map(std::ffi::OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) if value.is_empty() => Ok(None),
            Some(Ok(value)) => Ok(Some(SecretString::from(value))),
            Some(Err(_)) => Err(AgentError::Environment { name: name.to_owned(), problem: "it is not valid Unicode" }),
        };
        let mut config = Self::default();
        while let Some(found) = key(&format!("OH_SESSION_API_KEYS_{}", config.session_keys.len()))? {
            config.session_keys.push(found);
        }
        if config.session_keys.is_empty() {
            config.session_keys.extend(key("SESSION_API_KEY")?);
        }
        let deferred = get("OH_DEFERRED_INIT").is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
        if deferred {
            let name = "OH_SECRET_KEY".to_owned();
            let problem = "OH_DEFERRED_INIT asks for a key in it, and there is none";
            config.deferred_init = Some(key(&name)?.ok_or(AgentError::Environment { name, problem })?);
        }
        config.runtime_idle_timeout = get("OH_RUNTIME_IDLE_TIMEOUT_SECONDS")
            .and_then(|value| value.to_str()?.trim().parse::<f64>().ok())
            .filter(|seconds| *seconds > 0.0)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(config)
    }

    /// Listens on this address or name.
    #[must_use]
    pub fn with_host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Listens on this port; 0 lets the system pick one.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Runs commands here unless they say otherwise.
    #[must_use]
    pub fn with_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Accepts this key, beside those already set.
    #[must_use]
    pub fn with_session_key(mut self, key: impl Into<SecretString>) -> Self {
        self.session_keys.push(key.into());
        self
    }

    /// Comes up dormant, and is woken with this key.
    #[must_use]
    pub fn with_deferred_init(mut self, key: impl Into<SecretString>) -> Self {
        self.deferred_init = Some(key.into());
        self
    }

    /// Reports this as the idle time after which it is reaped.
    #[must_use]
    pub fn with_runtime_idle_timeout(mut self, timeout: Duration) -> Self {
        self.runtime_idle_timeout = Some(timeout);
        self
    }

    /// Keeps this much of finished commands and their output.
    #[must_use]
    pub fn with_retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Runs at most this many commands at once.
    #[must_use]
    pub fn with_max_running_commands(mut self, commands: usize) -> Self {
        self.max_running_commands = commands;
        self
    }

    /// Serves at most this many event sockets at once.
    #[must_use]
    pub fn with_max_subscribers(mut self, subscribers: usize) -> Self {
        self.max_subscribers = subscribers;
        self
    }

    /// Serves at most this many connections at once.
    #[must_use]
    pub fn with_max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Closes a connection whose client pauses for this long within a request or an answer.
    #[must_use]
    pub fn with_idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// Drops an event socket that does not accept a frame for this long.
    #[must_use]
    pub fn with_subscriber_stall(mut self, stall: Duration) -> Self {
        self.subscriber_stall = stall;
        self
    }
}

impl Retention {
    /// Keeps this many finished commands.
    #[must_use]
    pub fn with_commands(mut self, commands: usize) -> Self {
        self.commands = commands;
        self
    }

    /// Keeps this many bytes of command texts and last events.
    #[must_use]
    pub fn with_command_bytes(mut self, bytes: usize) -> Self {
        self.command_bytes = bytes;
        self
    }

    /// Keeps this many output chunks.
    #[must_use]
    pub fn with_chunks(mut self, chunks: usize) -> Self {
        self.chunks = chunks;
        self
    }

    /// Keeps this many bytes of output chunks.
    #[must_use]
    pub fn with_output_bytes(mut self, bytes: u64) -> Self {
        self.output_bytes = bytes;
        self
    }

    /// Keeps this many bytes of output chunks in memory.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn keys(variables: &[(&str, &str)]) -> Vec<String> {
        let config = AgentConfig::from_variables(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
        });
        config.unwrap().session_keys.iter().map(|key| key.expose_secret().to_owned()).collect()
    }

    #[test]
    fn the_numbered_keys_win_over_the_single_one_and_end_at_the_first_gap() {
        assert_eq!(keys(&[("SESSION_API_KEY", "s")]), ["s"]);
        let numbered = [("OH_SESSION_API_KEYS_0", "a"), ("OH_SESSION_API_KEYS_1", "b"), ("OH_SESSION_API_KEYS_3", "d")];
        assert_eq!(keys(&[&numbered[..], &[("SESSION_API_KEY", "s")]].concat()), ["a", "b"]);
        assert!(keys(&[("OH_SESSION_API_KEYS_0", "")]).is_empty());
    }
}
