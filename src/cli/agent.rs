use tokio::{runtime::Builder, task::LocalSet};

use super::{args::AgentArgs, error::CliError, exit};
use crate::agent::{AgentConfig, AgentError, LAST_FILES, serve_until_signal};

/// `wsfleet agent`: serves until SIGTERM or SIGINT.
pub(super) fn serve(args: AgentArgs) -> Result<u8, CliError> {
    let mut config = AgentConfig::from_env().map_err(|error| CliError::usage(error.to_string()))?;
    config = config.with_host(args.host).with_port(args.port);
    if let Some(root) = args.root {
        config = config.with_root(root);
    }
    if let Some(key) = args.session_api_key {
        config.session_keys = vec![key];
    }
    if let Some(name) = args.deferred_init_key_env {
        let key = std::env::var(&name).ok().filter(|key| !key.is_empty());
        let missing = || CliError::usage(format!("the variable {name} of --deferred-init-key-env is not set"));
        config = config.with_deferred_init(key.ok_or_else(missing)?);
    }
    config.runtime_idle_timeout = args.runtime_idle_timeout.or(config.runtime_idle_timeout);
    let failed = |error: std::io::Error| CliError::internal(format!("can not start the agent server: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let served = LocalSet::new().block_on(&runtime, serve_until_signal(config));
    runtime.shutdown_timeout(LAST_FILES);
    served.map(|()| exit::SUCCESS).map_err(|error| match error {
        // Nothing on the command line is wrong: the port is taken, or the system gives no more.
        AgentError::Bind { .. } | AgentError::Start(_) => CliError::internal(error.to_string()),
        error => CliError::usage(error.to_string()),
    })
}
