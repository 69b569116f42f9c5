use std::{
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy as _;
use log::kv::{Key, Value, VisitSource};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use super::{
    args::{LogFormat, ServeArgs},
    error::CliError,
    exit,
    interrupt::Interrupt,
    local::{LocalAgents, local_names},
};
use crate::service::{ApiKey, Service, ServiceConfig, ServiceError, TlsFiles};

/// `wsfleet serve`: serves until SIGTERM or SIGINT.
pub(super) fn serve(args: ServeArgs) -> Result<u8, CliError> {
    let local = args.local;
    let mut config = config(args)?;
    let mut agents = LocalAgents::default();
    if let Some(count) = local {
        config.workspaces_end = true;
        config.workspaces = agents.start(local_names(count).collect(), &Interrupt::default())?;
    }
    let service = Service::start(config).map_err(|error| match error {
        ServiceError::Host { .. } | ServiceError::OpenToOthers { .. } | ServiceError::Tls { .. } => {
            CliError::usage(error.to_string())
        }
        error => CliError::internal(error.to_string()),
    })?;
    let failed = |error: io::Error| CliError::internal(format!("can not start the service: {error}"));
    // Written at once: whoever reads the first line only may have gone before the second.
    let told = format!("wsfleet serves on {0}\nthe dashboard is at {0}/\n", service.url());
    let handle = service.handle();
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        // Whoever reads it may tell the service to end at once.
        io::stdout().write_all(told.as_bytes()).map_err(failed)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = handle.ended() => {}
        }
        Ok::<_, CliError>(())
    })?;
    handle.stop();
    let again = std::thread::Builder::new().spawn(move || {
        runtime.block_on(async {
            let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
            let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // Whoever asks twice does not want to wait.
            std::process::exit(i32::from(exit::INTERRUPTED));
        });
    });
    drop(again);
    service.wait();
    agents.stop();
    Ok(exit::SUCCESS)
}

/// What the arguments and the environment say.
fn config(args: ServeArgs) -> Result<ServiceConfig, CliError> {
    let mut config = ServiceConfig::new(state_dir(args.state_dir)?).with_host(args.host).with_port(args.port);
    config.keys = keys(args.api_key_file.as_deref())?;
    if let (Some(certificate), Some(key)) = (args.tls_cert, args.tls_key) {
        config.tls = Some(TlsFiles::new(certificate, key));
    }
    config.rate_limit = args.rate_limit;
    config.allow_hosts = args.allow_host;
    config.allow_origins = args.allow_origin;
    config.server_names = args.server_name;
    config.max_connections = args.max_connections;
    config.limits.commands = args.max_commands;
    config.limits.runs = args.max_runs;
    config.limits.log = args.max_log as u64;
    config.retention.age = args.retention_age;
    config.retention.bytes = args.retention_bytes as u64;
    config.drain_delay = args.drain_delay.unwrap_or_default();
    config.drain_timeout = args.drain_timeout;
    Ok(config)
}

/// The keys of a file and those of the environment.
fn keys(file: Option<&Path>) -> Result<Vec<ApiKey>, CliError> {
    let mut text = std::env::var(KEYS).unwrap_or_default();
    let mut from = KEYS.to_owned();
    if let Some(file) = file {
        let failed = |error: io::Error| CliError::usage(format!("--api-key-file {}: {error}", file.display()));
        let metadata = std::fs::metadata(file).map_err(failed)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            log::warn!("{} can be read by others on this machine: chmod 600 {0}", file.display());
        }
        text = format!("{}\n{text}", std::fs::read_to_string(file).map_err(failed)?);
        from = format!("--api-key-file {}", file.display());
    }
    let keys = ApiKey::read(&text).map_err(|error| CliError::usage(format!("{from}: {error}")))?;
    if keys.is_empty() && file.is_some() {
        return Err(CliError::usage(format!("{from}: there is no key in it")));
    }
    Ok(keys)
}

/// The variable of the environment that may hold keys.
const KEYS: &str = "WSFLEET_SERVICE_KEYS";

/// What is logged unless `RUST_LOG` says otherwise: requests only when the service failed.
const LOGGED: &str = "info,wsfleet::http=warn,actix_server=warn";

/// Begins to log.
pub(super) fn log(format: LogFormat) {
    let mut logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(LOGGED));
    if format == LogFormat::Json {
        logger.format(|line, record| {
            let mut fields = Fields(serde_json::Map::new());
            // It takes whatever there is.
            let _ = record.key_values().visit(&mut fields);
            let mut fields = fields.0;
            fields.insert("time".to_owned(), jiff::Timestamp::now().to_string().into());
            fields.insert("level".to_owned(), record.level().as_str().to_ascii_lowercase().into());
            fields.insert("target".to_owned(), record.target().into());
            fields.insert("message".to_owned(), record.args().to_string().into());
            serde_json::to_writer(&mut *line, &fields)?;
            line.write_all(b"\n")
        });
    }
    logger.init();
}

/// The fields of a log message as JSON.
struct Fields(serde_json::Map<String, serde_json::Value>);

impl<'a> VisitSource<'a> for Fields {
    fn visit_pair(&mut self, key: Key<'a>, value: Value<'a>) -> Result<(), log::kv::Error> {
        let json = match (value.to_u64(), value.to_bool()) {
            (Some(number), _) => number.into(),
            (None, Some(flag)) => flag.into(),
            (None, None) => value.to_string().into(),
        };
        self.0.insert(key.as_str().to_owned(), json);
        Ok(())
    }
}

fn state_dir(given: Option<PathBuf>) -> Result<PathBuf, CliError> {
    let found =
        given.or_else(|| etcetera::choose_base_strategy().ok()?.state_dir().map(|folder| folder.join("wsfleet")));
    found.ok_or_else(|| CliError::usage("no home directory to keep the state in: say where with --state-dir DIR"))
}
