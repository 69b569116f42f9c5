//! From the target flags to the workspaces that are meant.

use std::{
    collections::BTreeSet,
    io::Read as _,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy as _;

use super::{args::TargetArgs, error::CliError, interrupt::Interrupt, local::LocalAgents};
use crate::{
    TlsRoots, WorkspaceConfig,
    inventory::{
        Inventory, InventoryError, Lookup, Target, TargetQuery, UrlDefaults, find_inventory, parse_hostfile,
        parse_target_list, resolve,
    },
};

/// The most bytes of a hostfile: 100,000 long lines fit, and a disk image given by mistake does not.
const MAX_HOSTFILE: u64 = 64 << 20;

/// The workspaces that are meant, each once. Those of `--local` are started in `agents`.
pub(super) fn configs(
    args: &TargetArgs,
    agents: &mut LocalAgents,
    interrupt: &Interrupt,
) -> Result<Vec<WorkspaceConfig>, CliError> {
    if !args.any() {
        return Err(CliError::usage(
            "no targets: say which workspaces are meant with -w NAME|URL,..., --hostfile FILE, -a (all of the inventory) or \
             -l LABEL=VALUE, or try --local 2",
        ));
    }
    let mut configs = match args.local {
        Some(count) => agents.start(count, interrupt)?,
        None => from_flags(args)?,
    };
    check_roots(&configs)?;
    if let Some(timeout) = args.connect_timeout {
        for config in &mut configs {
            config.limits.connect_timeout = timeout;
        }
    }
    Ok(configs)
}

/// Opens the certificate files once, so that a wrong path is told before anything is sent.
fn check_roots(configs: &[WorkspaceConfig]) -> Result<(), CliError> {
    let files: BTreeSet<&PathBuf> = configs
        .iter()
        .filter_map(|config| match &config.connection.tls_roots {
            TlsRoots::File(file) => Some(file),
            TlsRoots::System => None,
        })
        .collect();
    for file in files {
        std::fs::File::open(file).map_err(|error| {
            CliError::usage(format!("can not read the certificate authorities of {}: {error}", file.display()))
        })?;
    }
    Ok(())
}

fn from_flags(args: &TargetArgs) -> Result<Vec<WorkspaceConfig>, CliError> {
    let inventory = |why: &str| match &args.inventory {
        Some(file) => Inventory::load(file),
        None => Inventory::load(&find(why)?),
    };
    let lookup = Lookup { inventory: &inventory, variable: &|name| std::env::var(name).ok() };
    let query = query(args)?;
    check_url_options(args, &query)?;
    Ok(resolve(&query, &url_defaults(args), &lookup)?)
}

/// Refuses options that would have no effect. The same from the environment are meant for whenever they fit.
fn check_url_options(args: &TargetArgs, query: &TargetQuery) -> Result<(), CliError> {
    if query.targets.iter().any(|(_, target)| matches!(target, Target::Url(_))) {
        return Ok(());
    }
    let from_environment = |variable: &str| std::env::var_os(variable);
    let key = args.api_key_env.as_ref().map(Into::into);
    let ca_file = args.ca_file.as_ref().map(|file| file.clone().into_os_string());
    let option = if !args.headers.is_empty() {
        "--header"
    } else if key.is_some() && key != from_environment("WSFLEET_API_KEY_ENV") {
        "--api-key-env"
    } else if ca_file.is_some() && ca_file != from_environment("WSFLEET_CA_FILE") {
        "--ca-file"
    } else {
        return Ok(());
    };
    Err(CliError::usage(format!(
        "{option} applies to targets that are given by URL, and there is none: write it into the inventory, at the workspaces"
    )))
}

fn find(why: &str) -> Result<PathBuf, InventoryError> {
    let config_folder = etcetera::choose_base_strategy().ok().map(|strategy| strategy.config_dir());
    // Relative to the working directory, so that messages are short.
    find_inventory(Path::new(""), config_folder.as_deref(), why)
}

fn query(args: &TargetArgs) -> Result<TargetQuery, InventoryError> {
    let mut targets = Vec::new();
    for list in &args.workspaces {
        let read = parse_target_list(list).map_err(|(target, reason)| InventoryError::BadTarget { target, reason })?;
        targets.extend(read.into_iter().map(|target| (None, target)));
    }
    for file in &args.hostfile {
        targets.extend(hostfile(file)?.into_iter().map(|(origin, target)| (Some(origin), target)));
    }
    Ok(TargetQuery { targets, all: args.all, labels: args.labels.clone() })
}

/// The targets of a hostfile, each with its file and line.
fn hostfile(file: &Path) -> Result<Vec<(String, Target)>, InventoryError> {
    let from_stdin = file.as_os_str() == "-";
    let name = if from_stdin { "stdin".to_owned() } else { file.display().to_string() };
    let unreadable = |reason: String| InventoryError::Unreadable { file: name.clone().into(), reason };
    let mut bytes = Vec::new();
    let read = if from_stdin {
        std::io::stdin().lock().take(MAX_HOSTFILE + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_HOSTFILE + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_HOSTFILE {
        return Err(unreadable(format!("it is longer than {} MiB; is it a hostfile?", MAX_HOSTFILE >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        unreadable(format!("byte {} is not UTF-8; is it a hostfile?", error.utf8_error().valid_up_to()))
    })?;
    let targets = parse_hostfile(&name, &text)?;
    Ok(targets.into_iter().map(|(line, target)| (format!("{name}:{line}"), target)).collect())
}

fn url_defaults(args: &TargetArgs) -> UrlDefaults {
    UrlDefaults {
        api_key_env: args.api_key_env.clone(),
        headers: args.headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect(),
        ca_file: args.ca_file.clone(),
    }
}
