//! The configuration file: defaults for the options of the command line, under their long names.
//!
//! It is handed to clap as defaults of the options, so that an option on the command line wins over the environment, that
//! over the file, and that over what is built in, for every option there is and without a word about any of them here.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{
    ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _,
    builder::OsStr,
    error::{ContextKind, ContextValue},
    parser::ValueSource,
};
use etcetera::BaseStrategy as _;
use toml::{Table, Value, de::DeTable};

use super::{
    args::{Cli, TargetArgs},
    error::CliError,
};
use crate::inventory::suggest;

/// Options that say what to do or where: a default for them would act on what nobody named.
const NOT_FOR_FILES: [&str; 26] = [
    "workspaces",
    "hostfile",
    "all",
    "label",
    "pick",
    "local",
    "list-targets",
    "dry-run",
    "jobs",
    "move-lost-jobs",
    "retry-failed",
    "resume",
    "resume-failed",
    "stdin",
    "recursive",
    "detach",
    "from",
    "stdout-from",
    "stderr-from",
    "stop",
    "traceparent",
    "trace-tag",
    "config",
    "no-config",
    "help",
    "version",
];

/// Why the command line is not carried out.
pub(super) enum Stop {
    /// It is wrong, or help was asked for.
    CommandLine(clap::Error),
    /// The configuration is wrong.
    Configuration(CliError),
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        Self::CommandLine(error)
    }
}

/// Reads the command line, with the configuration file's defaults.
pub(super) fn parse(args: &[OsString]) -> Result<Cli, Stop> {
    // What is wrong without the file is wrong with it.
    let mut matches = Cli::command().try_get_matches_from(args)?;
    let cli = Cli::from_arg_matches(&matches)?;
    if let Some(file) = find(&cli) {
        let config = Config::load(&file).map_err(Stop::Configuration)?;
        let command = config.apply(Cli::command(), &matches).map_err(Stop::Configuration)?;
        matches = command.try_get_matches_from(args).map_err(|error| Stop::Configuration(config.blame(&error)))?;
    }
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let (Some((_, matches)), Some(targets)) = (matches.subcommand(), cli.command.targets_mut()) {
        settle(targets, matches).map_err(Stop::Configuration)?;
    }
    Ok(cli)
}

/// Which file it is, if there is one. None is looked for in the working directory: a file there could name a program to run.
fn find(cli: &Cli) -> Option<PathBuf> {
    if cli.no_config {
        return None;
    }
    cli.config.clone().or_else(|| {
        let folder = etcetera::choose_base_strategy().ok()?.config_dir();
        Some(folder.join("wsfleet").join("config.toml")).filter(|file| file.symlink_metadata().is_ok())
    })
}

/// Notes what the command line itself gives, and lets the nearer one of two inventories win.
fn settle(targets: &mut TargetArgs, matches: &ArgMatches) -> Result<(), CliError> {
    let of = |source: &ValueSource| matches!(source, ValueSource::CommandLine);
    let ids = matches.ids().map(|id| id.as_str());
    targets.given = ids.filter(|id| matches.value_source(id).as_ref().is_some_and(of)).map(str::to_owned).collect();
    if targets.inventory.is_some() && targets.inventory_program.is_some() {
        let (file, program) = (matches.value_source("inventory"), matches.value_source("inventory_program"));
        if file == program {
            return Err(CliError::usage("--inventory and --inventory-program are both given: choose one"));
        }
        if file > program {
            targets.inventory_program = None;
        } else {
            targets.inventory = None;
        }
    }
    Ok(())
}

struct Config {
    file: PathBuf,
    text: String,
    settings: Vec<Setting>,
}

/// One key of the file.
struct Setting {
    /// The subcommand whose table it is in, if it is in one.
    of: Option<String>,
    key: String,
    value: Value,
    /// Where it is in the file.
    offset: usize,
}

impl Config {
    fn load(file: &Path) -> Result<Self, CliError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            CliError::usage(format!("can not read the configuration {}: {error}", file.display()))
        };
        let text = std::fs::read_to_string(file).map_err(|error| unreadable(&error))?;
        let mut config = Self { file: file.to_owned(), text, settings: Vec::new() };
        let table = DeTable::parse(&config.text).map_err(|error| {
            config.wrong(error.span().map_or(0, |span| span.start), error.message().trim().replace('\n', "; "))
        })?;
        let values: Table = toml::from_str(&config.text).map_err(|error| unreadable(&error.message()))?;
        let mut settings = Vec::new();
        for (key, spanned) in table.get_ref().iter() {
            let (offset, name) = (key.span().start, key.get_ref().to_string());
            match (values.get(&name), spanned.get_ref().as_table()) {
                (Some(Value::Table(inner)), Some(places)) => {
                    settings.extend(places.keys().filter_map(|place| {
                        let (key, offset) = (place.get_ref().to_string(), place.span().start);
                        Some(Setting { of: Some(name.clone()), value: inner.get(&key)?.clone(), key, offset })
                    }));
                    // An empty table of an unknown name is told as well.
                    settings.push(Setting { of: None, key: name, value: Value::Table(Table::new()), offset });
                }
                (Some(value), _) => settings.push(Setting { of: None, key: name, value: value.clone(), offset }),
                (None, _) => {}
            }
        }
        // Those of a subcommand's own table come after those of all, and win.
        settings.sort_by_key(|setting| (setting.of.is_some(), setting.offset));
        config.settings = settings;
        Ok(config)
    }

    /// Gives the command the file's defaults, but those that contradict what is given without the file.
    fn apply(&self, mut command: Command, given: &ArgMatches) -> Result<Command, CliError> {
        for setting in &self.settings {
            let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
            if matches!(setting.value, Value::Table(_)) {
                if names.contains(&setting.key) && setting.of.is_none() {
                    continue;
                }
                return Err(self.unknown(&command, setting));
            }
            let meant: Vec<String> = command
                .get_subcommands()
                .filter(|sub| setting.of.as_ref().is_none_or(|of| of == sub.get_name()))
                .filter(|sub| option(sub, &setting.key).is_some())
                .map(|sub| sub.get_name().to_owned())
                .collect();
            if NOT_FOR_FILES.contains(&setting.key.as_str()) {
                let reason = "it says what to do, and belongs on the command line";
                return Err(self.wrong(setting.offset, format!("`{}` can not be set here: {reason}", setting.key)));
            }
            if meant.is_empty() {
                return Err(self.unknown(&command, setting));
            }
            for name in meant {
                let mut result = Ok(());
                command = command.mut_subcommand(name, |sub| {
                    let Some(id) = option(&sub, &setting.key) else { return sub };
                    if given.subcommand().is_some_and(|(_, given)| contradicts(&sub, &id, given)) {
                        return sub;
                    }
                    sub.mut_arg(id, |arg| match self.defaults(setting, &arg) {
                        Ok(Some(values)) => arg.default_values(values),
                        Ok(None) => arg,
                        Err(error) => {
                            result = Err(error);
                            arg
                        }
                    })
                });
                result?;
            }
        }
        Ok(command)
    }

    /// A setting's value as words of the command line; `None` leaves the option as it is.
    fn defaults(&self, setting: &Setting, arg: &clap::Arg) -> Result<Option<Vec<OsStr>>, CliError> {
        let wrong = |expected: &str| Err(self.wrong(setting.offset, format!("`{}`: {expected}", setting.key)));
        let is_path = arg.get_value_parser().type_id() == clap::value_parser!(PathBuf).type_id();
        let word = |value: &Value| match value {
            Value::String(text) if is_path && text != "-" => Some(self.beside(text).into_os_string().into()),
            Value::String(text) => Some(text.clone().into()),
            Value::Integer(number) => Some(number.to_string().into()),
            Value::Float(number) => Some(number.to_string().into()),
            Value::Boolean(truth) => Some(truth.to_string().into()),
            Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
        };
        match (arg.get_action(), &setting.value) {
            (ArgAction::SetTrue, Value::Boolean(true)) => Ok(Some(vec!["true".into()])),
            (ArgAction::SetTrue, Value::Boolean(false)) => Ok(None),
            (ArgAction::SetTrue, _) => wrong("write true or false"),
            (ArgAction::Append, Value::Array(values)) => match values.iter().map(word).collect() {
                Some(words) => Ok(Some(words)),
                None => wrong("write a list of strings"),
            },
            (ArgAction::Set | ArgAction::Append, value) => match word(value) {
                Some(word) => Ok(Some(vec![word])),
                None => wrong("write one value, as a string or a number"),
            },
            _ => wrong("this option can not be set here"),
        }
    }

    /// A path of the file, seen from where the file is.
    fn beside(&self, path: &str) -> PathBuf {
        self.file.parent().map_or_else(|| path.into(), |folder| folder.join(path))
    }

    fn unknown(&self, command: &Command, setting: &Setting) -> CliError {
        let subs = || command.get_subcommands().filter(|sub| setting.of.as_ref().is_none_or(|of| of == sub.get_name()));
        let options = subs().flat_map(|sub| sub.get_arguments().filter_map(clap::Arg::get_long));
        let tables = command.get_subcommands().map(Command::get_name).filter(|_| setting.of.is_none());
        let known: std::collections::BTreeSet<&str> =
            options.chain(tables).filter(|name| !NOT_FOR_FILES.contains(name)).collect();
        let near = suggest::nearest(&setting.key, known);
        let hint = match near.as_slice() {
            [] => "the keys are the long options of the command line, as `fanout` for --fanout".to_owned(),
            near => format!("did you mean {}?", suggest::list(near)),
        };
        self.wrong(setting.offset, format!("unknown key `{}`; {hint}", setting.key))
    }

    fn wrong(&self, offset: usize, reason: String) -> CliError {
        let line =
            1 + self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count();
        CliError::usage(format!("{}:{line}: {reason}", self.file.display()))
    }

    /// The message for a value of the file that its option does not take.
    fn blame(&self, error: &clap::Error) -> CliError {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
            _ => None,
        };
        let option = context(ContextKind::InvalidArg).unwrap_or_default();
        let long = option.trim_start_matches("--").split([' ', '=']).next().unwrap_or_default();
        let Some(setting) = self.settings.iter().rev().find(|setting| setting.key == long) else {
            return CliError::usage(format!("with the configuration {}: {error}", self.file.display()));
        };
        let value = context(ContextKind::InvalidValue).unwrap_or_default();
        let reason = match std::error::Error::source(error) {
            Some(source) => source.to_string(),
            None => format!("it may be {}", context(ContextKind::ValidValue).unwrap_or_default()),
        };
        self.wrong(setting.offset, format!("`{long}` can not be `{}`: {reason}", value.escape_debug()))
    }
}

/// Whether an option can not be used together with one that is given, and nearer than the file.
fn contradicts(command: &Command, id: &str, given: &ArgMatches) -> bool {
    let Some(arg) = command.get_arguments().find(|arg| arg.get_id() == id) else { return false };
    let is_given = |other: &clap::Arg| {
        let other = other.get_id().as_str();
        given.ids().any(|id| id == other)
            && matches!(given.value_source(other), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let conflict = |one: &clap::Arg, other: &clap::Arg| {
        command.get_arg_conflicts_with(one).iter().any(|arg| arg.get_id() == other.get_id())
    };
    command.get_arguments().any(|other| (conflict(arg, other) || conflict(other, arg)) && is_given(other))
}

/// The id of a subcommand's option.
fn option(command: &Command, long: &str) -> Option<String> {
    let mut arguments = command.get_arguments();
    arguments.find(|arg| arg.get_long() == Some(long)).map(|arg| arg.get_id().to_string())
}
