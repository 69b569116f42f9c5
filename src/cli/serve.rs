use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use etcetera::BaseStrategy as _;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use super::{
    args::ServeArgs,
    error::CliError,
    exit,
    interrupt::Interrupt,
    local::{LocalAgents, local_names},
};
use crate::service::{Service, ServiceConfig, ServiceError};

/// `wsfleet serve`: serves until SIGTERM or SIGINT.
pub(super) fn serve(args: ServeArgs) -> Result<u8, CliError> {
    let mut config = ServiceConfig::new(state_dir(args.state_dir)?).with_host(args.host).with_port(args.port);
    let mut agents = LocalAgents::default();
    config.limits.commands = args.max_commands;
    config.limits.runs = args.max_runs;
    config.retention.age = args.retention_age;
    config.retention.bytes = args.retention_bytes as u64;
    if let Some(count) = args.local {
        config.workspaces_end = true;
        config.workspaces = agents.start(local_names(count).collect(), &Interrupt::default())?;
    }
    let service = Service::start(config).map_err(|error| match error {
        ServiceError::Host { .. } | ServiceError::OpenToOthers { .. } => CliError::usage(error.to_string()),
        error => CliError::internal(error.to_string()),
    })?;
    let failed = |error: io::Error| CliError::internal(format!("can not start the service: {error}"));
    // Written at once: whoever reads the first line only may have gone before the second.
    let told = format!("wsfleet serves on {0}\nthe dashboard is at {0}/\n", service.url());
    io::stdout().write_all(told.as_bytes()).map_err(failed)?;
    let handle = service.handle();
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = handle.ended() => {}
        }
        Ok::<_, CliError>(())
    })?;
    handle.stop();
    service.wait();
    agents.stop();
    Ok(exit::SUCCESS)
}

fn state_dir(given: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let found =
        given.or_else(|| etcetera::choose_base_strategy().ok()?.state_dir().map(|folder| folder.join("wsfleet")));
    found.ok_or_else(|| CliError::usage("no home directory to keep the state in: say where with --state-dir DIR"))
}
