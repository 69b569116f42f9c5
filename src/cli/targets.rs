//! From the target flags to the workspaces that are meant.

use std::{
    collections::BTreeSet,
    io::Read as _,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy as _;

use super::{
    args::TargetArgs,
    error::CliError,
    interrupt::Interrupt,
    local::{LocalAgents, local_names},
    service,
};
use crate::{
    Connection, TlsRoots, WorkspaceConfig,
    inventory::{
        Inventory, InventoryError, InventoryProgram, Lookup, Target, TargetQuery, UrlDefaults, find_inventory,
        is_program, parse_hostfile, parse_target_list, resolve,
    },
};

/// The most bytes of a hostfile: 100,000 long lines fit, and a disk image given by mistake does not.
const MAX_HOSTFILE: u64 = 64 << 20;

/// The most bytes of an inventory from stdin.
const MAX_INVENTORY: u64 = 512 << 20;

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
        Some(count) => local(args, count, agents, interrupt)?,
        None => from_flags(args, interrupt)?,
    };
    check_roots(&configs)?;
    for config in &mut configs {
        config.limits.connect_timeout = args.connect_timeout.unwrap_or(config.limits.connect_timeout);
        config.retry_for = args.retry_for.unwrap_or(config.retry_for);
    }
    Ok(configs)
}

/// The workspaces of `--local`, without agent servers behind them when nothing is to be sent.
fn local(
    args: &TargetArgs,
    count: u32,
    agents: &mut LocalAgents,
    interrupt: &Interrupt,
) -> Result<Vec<WorkspaceConfig>, CliError> {
    let exclude = exclude(args)?;
    let is_excluded = |name: &str| {
        exclude.iter().any(|target| match target {
            Target::Name(excluded) => excluded == name,
            Target::Pattern(pattern) => pattern.matches(name),
            Target::Url(_) => false,
        })
    };
    let names: Vec<String> = local_names(count).filter(|name| !is_excluded(name)).collect();
    if names.is_empty() {
        return Err(InventoryError::Empty { reason: format!("all {count} of them are excluded by -x") }.into());
    }
    if args.list_targets || args.dry_run {
        let connection = Connection::new("http://127.0.0.1").map_err(|error| CliError::internal(error.to_string()))?;
        return Ok(names.into_iter().map(|name| WorkspaceConfig::new(name, connection.clone())).collect());
    }
    agents.start(names, interrupt)
}

/// Opens the certificate files once, so that a wrong path is told before anything is sent.
fn check_roots(configs: &[WorkspaceConfig]) -> Result<(), CliError> {
    let files: BTreeSet<&PathBuf> = configs
        .iter()
        .filter_map(|config| match &config.connection.parts().tls_roots {
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

fn from_flags(args: &TargetArgs, interrupt: &Interrupt) -> Result<Vec<WorkspaceConfig>, CliError> {
    if let [one, other, ..] = args.reading_stdin().as_slice() {
        return Err(CliError::usage(format!("{one} and {other} both read stdin: put one of them into a file")));
    }
    let inventory = |why: &str| {
        if let Some(url) = chosen_service(args)? {
            return service::inventory(url, args);
        }
        let run = |program: InventoryProgram| program.run(&|running| interrupt.end_when_leaving(running));
        match (&args.inventory_program, &args.inventory) {
            (Some(line), _) => run(InventoryProgram::shell(line, args.inventory_timeout)),
            (None, Some(file)) if file.as_os_str() == "-" => {
                Inventory::from_bytes(Path::new("stdin"), read_all(file, "stdin", MAX_INVENTORY, "an inventory")?)
            }
            (None, Some(file)) if is_program(file) => run(InventoryProgram::file(file, args.inventory_timeout)),
            (None, Some(file)) => Inventory::load(file),
            (None, None) => Inventory::load(&find(why)?),
        }
    };
    let lookup = Lookup { inventory: &inventory, variable: &|name| std::env::var(name).ok() };
    let query = query(args)?;
    check_url_options(args, &query)?;
    Ok(resolve(&query, &url_defaults(args), &lookup)?)
}

/// Refuses options that would have no effect. The same from elsewhere are meant for whenever they fit.
fn check_url_options(args: &TargetArgs, query: &TargetQuery) -> Result<(), CliError> {
    if query.targets.iter().any(|(_, target)| matches!(target, Target::Url(_))) {
        return Ok(());
    }
    let options = [("headers", "--header"), ("api_key_env", "--api-key-env"), ("ca_file", "--ca-file")];
    let is_for_the_service = |id: &str| id == "ca_file" && args.service.is_some();
    match options.into_iter().find(|(id, _)| args.given.contains(*id) && !is_for_the_service(id)) {
        None => Ok(()),
        Some((_, option)) => Err(CliError::usage(format!(
            "{option} applies to targets that are given by URL, and there is none: write it into the inventory, at the \
             workspaces"
        ))),
    }
}

/// The service whose workspaces are meant, unless an inventory is named more closely.
fn chosen_service(args: &TargetArgs) -> Result<Option<&str>, InventoryError> {
    let Some(url) = args.service.as_deref() else { return Ok(None) };
    let names_inventory = args.given.contains("inventory") || args.given.contains("inventory_program");
    match (names_inventory, args.given.contains("service")) {
        (true, true) => Err(InventoryError::Service {
            url: url.to_owned(),
            reason: "and an inventory are both given: choose one".to_owned(),
        }),
        (true, false) => Ok(None),
        (false, _) => Ok(Some(url)),
    }
}

fn find(why: &str) -> Result<PathBuf, InventoryError> {
    let config_folder = etcetera::choose_base_strategy().ok().map(|strategy| strategy.config_dir());
    // Relative to the working directory, so that messages are short.
    find_inventory(Path::new(""), config_folder.as_deref(), why)
}

fn query(args: &TargetArgs) -> Result<TargetQuery, InventoryError> {
    let mut targets = Vec::new();
    for list in &args.workspaces {
        if list.trim() == "-" {
            targets.extend(hostfile(Path::new("-"))?.into_iter().map(|(origin, target)| (Some(origin), target)));
            continue;
        }
        targets.extend(read_list(list)?.into_iter().map(|target| (None, target)));
    }
    for file in &args.hostfile {
        targets.extend(hostfile(file)?.into_iter().map(|(origin, target)| (Some(origin), target)));
    }
    Ok(TargetQuery {
        targets,
        all: args.all,
        labels: args.labels.clone(),
        exclude: exclude(args)?,
        pick: args.pick.map(|pick| pick as usize),
    })
}

fn exclude(args: &TargetArgs) -> Result<Vec<Target>, InventoryError> {
    let lists = args.exclude.iter().map(|list| read_list(list));
    Ok(lists.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn read_list(list: &str) -> Result<Vec<Target>, InventoryError> {
    parse_target_list(list).map_err(|(target, reason)| InventoryError::BadTarget { target, reason })
}

/// The targets of a hostfile, each with its file and line.
fn hostfile(file: &Path) -> Result<Vec<(String, Target)>, InventoryError> {
    let name = if file.as_os_str() == "-" { "stdin".to_owned() } else { file.display().to_string() };
    let text = String::from_utf8(read_all(file, &name, MAX_HOSTFILE, "a hostfile")?).map_err(|error| {
        let reason = format!("byte {} is not UTF-8; is it a hostfile?", error.utf8_error().valid_up_to());
        InventoryError::Unreadable { file: name.clone().into(), reason }
    })?;
    let targets = parse_hostfile(&name, &text)?;
    Ok(targets.into_iter().map(|(line, target)| (format!("{name}:{line}"), target)).collect())
}

/// A file, or stdin for `-`, up to so many bytes.
fn read_all(file: &Path, name: &str, most: u64, what: &str) -> Result<Vec<u8>, InventoryError> {
    let unreadable = |reason: String| InventoryError::Unreadable { file: name.into(), reason };
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(unreadable(format!("it is longer than {} MiB; is it {what}?", most >> 20)));
    }
    Ok(bytes)
}

fn url_defaults(args: &TargetArgs) -> UrlDefaults {
    UrlDefaults {
        api_key_env: args.api_key_env.clone(),
        headers: args.headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect(),
        ca_file: args.ca_file.clone(),
    }
}
