use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;

/// Of `agent`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AgentArgs {
    /// The address or name to listen on; any but a loopback address needs a session key
    #[arg(long, default_value = "127.0.0.1")]
    pub(in crate::cli) host: String,

    /// The port to listen on; 0 picks a free one
    #[arg(long, default_value_t = 0)]
    pub(in crate::cli) port: u16,

    /// The directory that commands run in unless they name one [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) root: Option<PathBuf>,

    /// The key that requests must carry
    ///
    /// Better set OH_SESSION_API_KEYS_0 (and _1 and so on) or SESSION_API_KEY: a key on the command line is seen by
    /// everybody who can list the processes of this machine.
    #[arg(long, value_name = "KEY", value_parser = secret)]
    pub(in crate::cli) session_api_key: Option<SecretString>,

    /// Come up dormant and wait for POST /api/init, with the key that this variable of the environment holds
    ///
    /// As OH_DEFERRED_INIT=true does, with the key in OH_SECRET_KEY.
    #[arg(long, value_name = "VARIABLE")]
    pub(in crate::cli) deferred_init_key_env: Option<String>,

    /// The idle time to announce as the one after which whoever runs this agent ends it [default: none]
    ///
    /// As OH_RUNTIME_IDLE_TIMEOUT_SECONDS does. The agent itself never ends when idle.
    #[arg(long, value_name = "DURATION", value_parser = super::duration::parse_duration)]
    pub(in crate::cli) runtime_idle_timeout: Option<std::time::Duration>,
}

fn secret(text: &str) -> Result<SecretString, String> {
    if text.is_empty() { Err("the key is empty".to_owned()) } else { Ok(SecretString::from(text)) }
}
