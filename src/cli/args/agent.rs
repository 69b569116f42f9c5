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
}

fn secret(text: &str) -> Result<SecretString, String> {
    if text.is_empty() { Err("the key is empty".to_owned()) } else { Ok(SecretString::from(text)) }
}
