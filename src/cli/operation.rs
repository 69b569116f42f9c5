//! From what was asked for to what a run does.

use std::{
    collections::HashMap,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use rustix::fs::Access;
use secrecy::SecretString;

use super::{
    args::{AttachArgs, ChangesArgs, DiffArgs, DownloadArgs, PolicyArgs, RunArgs, SecretVariable, UploadArgs},
    error::CliError,
};
use crate::{
    RunOperation, RunSpec, Selector, WorkspaceConfig,
    fleet::{AttachKnown, KnownCommands, StopKnown, WORKSPACE, file_name},
    messages::{
        DiffBase, DirectoryDownload, DirectoryUpload, ExecuteCommand, FileDownload, FileUpload, GitChanges, GitDiff,
        OnDrop, StartCommand,
    },
    protocol::Trace,
};

/// The most that `--stdin` takes: it is held in memory while the run goes on.
const MAX_STDIN: u64 = 64 << 20;

/// What is to be done.
pub(super) struct Prepared {
    pub(super) spec: RunSpec,
}

impl From<RunOperation> for Prepared {
    fn from(operation: RunOperation) -> Self {
        Self { spec: RunSpec::new(Selector::all(), operation) }
    }
}

/// Refuses two options that both read stdin; to be called before one of them has.
pub(super) fn check_stdin(args: &RunArgs) -> Result<(), CliError> {
    let from_stdin = args.jobs.as_ref().is_some_and(|file| file.as_os_str() == "-").then_some("--jobs -");
    let of_run = from_stdin.or(args.stdin.then_some("--stdin"));
    match (of_run, args.targets.reading_stdin().first()) {
        (Some(one), Some(other)) => {
            Err(CliError::usage(format!("{one} and {other} both read stdin: put one of them into a file")))
        }
        _ => Ok(()),
    }
}

pub(super) fn run(args: &RunArgs, configs: &[WorkspaceConfig]) -> Result<Prepared, CliError> {
    if args.move_lost_jobs && args.jobs.is_none() {
        return Err(CliError::usage(
            "--move-lost-jobs is about the jobs of a file: give one with --jobs, or leave it away",
        ));
    }
    let spec = match &args.jobs {
        Some(file) => {
            let template = command(args, String::new())?;
            RunSpec::jobs(Selector::all(), super::jobs::load(file, &template, configs)?)
        }
        None => {
            let text = args.words.join(" ");
            if text.trim().is_empty() {
                return Err(CliError::usage(
                    "the command is empty; give one after `--`, as in wsfleet run -a -- uname -a",
                ));
            }
            let command = command(args, text)?;
            RunSpec::new(
                Selector::all(),
                match args.detach {
                    true => RunOperation::Start(StartCommand(command.with_on_drop(OnDrop::Detach))),
                    false => RunOperation::Execute(command),
                },
            )
        }
    };
    let spec = policed(spec, &args.policy, args.move_lost_jobs).with_trace(trace(args)?);
    Ok(Prepared { spec })
}

/// What the run belongs to.
fn trace(args: &RunArgs) -> Result<Trace, CliError> {
    let trace = args.traceparent.clone().map(Trace::new).unwrap_or_default();
    let tags = args.trace_tag.iter();
    let tagged = tags.into_iter().try_fold(trace, |trace, (name, value)| trace.with_tag(name, value));
    tagged.map_err(|error| CliError::usage(format!("--trace-tag: {error}")))
}

/// Holds a run to what the flags ask for.
fn policed(spec: RunSpec, policy: &PolicyArgs, move_lost_jobs: bool) -> RunSpec {
    spec.with_rate(policy.rate)
        .with_per_host(policy.per_host.map(|cap| cap as usize))
        .with_per_label(policy.per_label.clone())
        .with_target_timeout(policy.target_timeout)
        .with_global_timeout(policy.global_timeout)
        .with_max_fail(policy.max_fail)
        .with_retries(policy.retries.unwrap_or_default())
        .with_transport_retries(policy.transport_retries.unwrap_or_default())
        .with_slow_after(policy.slow_after)
        .with_move_lost_jobs(move_lost_jobs)
}

/// A command with the settings of the flags.
fn command(args: &RunArgs, text: String) -> Result<ExecuteCommand, CliError> {
    let mut command = ExecuteCommand::new(text).with_timeout(args.command_timeout);
    command.max_output = args.follow.max_output;
    if let Some(cwd) = &args.cwd {
        command = command.with_cwd(cwd);
    }
    for variable in &args.env {
        command = command.with_env(&variable.name, &variable.value);
    }
    for secret in &args.secret_env {
        if args.env.iter().any(|variable| variable.name == secret.name) {
            return Err(CliError::usage(format!("{} is given with -e and with --secret-env: choose one", secret.name)));
        }
        command = command.with_secret_env(&secret.name, secret_value(secret)?);
    }
    if args.stdin {
        command = command.with_stdin(read_stdin()?);
    }
    Ok(command)
}

fn secret_value(secret: &SecretVariable) -> Result<SecretString, CliError> {
    let told = |what: &str| {
        CliError::usage(format!("--secret-env: the environment variable {} is {what}; export it first", secret.source))
    };
    match std::env::var(&secret.source) {
        Ok(value) => Ok(SecretString::from(value)),
        Err(std::env::VarError::NotPresent) => Err(told("not set")),
        Err(std::env::VarError::NotUnicode(_)) => Err(told("not valid Unicode")),
    }
}

fn read_stdin() -> Result<Vec<u8>, CliError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(CliError::usage(
            "--stdin needs something piped into it, as in echo hello | wsfleet run --stdin -a -- cat",
        ));
    }
    let mut bytes = Vec::new();
    let read = stdin.lock().take(MAX_STDIN + 1).read_to_end(&mut bytes);
    read.map_err(|error| CliError::usage(format!("can not read stdin: {error}")))?;
    if bytes.len() as u64 > MAX_STDIN {
        return Err(CliError::usage(format!(
            "stdin is longer than {} MiB: upload it as a file and redirect from that",
            MAX_STDIN >> 20
        )));
    }
    Ok(bytes)
}

pub(super) fn attach(args: &AttachArgs, commands: KnownCommands) -> Prepared {
    let attach = AttachKnown::new(commands)
        .from_position(args.stdout_from, args.stderr_from)
        .with_max_output(args.follow.max_output)
        .with_on_drop(if args.stop { OnDrop::Stop } else { OnDrop::Detach });
    RunOperation::Attach(attach).into()
}

pub(super) fn stop(commands: KnownCommands) -> Prepared {
    RunOperation::Stop(StopKnown::new(commands)).into()
}

pub(super) fn upload(args: &UploadArgs) -> Result<Prepared, CliError> {
    let source = utf8(&args.source)?;
    absolute(&args.destination, "DEST")?;
    if args.recursive {
        return upload_directory(&args.source, &args.destination);
    }
    check_source(&args.source, source)?;
    let mut destination = args.destination.clone();
    if destination.ends_with('/') {
        destination.push_str(&args.source.file_name().unwrap_or_default().to_string_lossy());
    }
    Ok(RunOperation::Upload(FileUpload::new(args.source.clone(), destination)).into())
}

/// Refuses what is no directory that can be sent.
pub(super) fn check_directory(path: &Path, source: &str) -> Result<(), CliError> {
    let unreadable =
        |error: std::io::Error| CliError::usage(format!("can not read the local directory {source}: {error}"));
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Err(CliError::usage(format!(
            "{source} is not a directory: copy it without -r (in a jobs file, without `recursive`)"
        )));
    }
    std::fs::read_dir(path).map(drop).map_err(unreadable)
}

fn upload_directory(source: &Path, destination: &str) -> Result<Prepared, CliError> {
    check_directory(source, utf8(source)?)?;
    let unreadable = |error: std::io::Error| {
        CliError::usage(format!("can not read the local directory {}: {error}", source.display()))
    };
    let mut destination = destination.to_owned();
    if destination.ends_with('/') {
        // The name of `.` is known by its place.
        let whole = source.canonicalize().map_err(unreadable)?;
        destination.push_str(utf8(Path::new(whole.file_name().unwrap_or_default()))?);
    }
    Ok(RunOperation::UploadDirectory(DirectoryUpload::new(source, destination)).into())
}

/// Refuses what can not be sent to several workspaces one after the other, with its length told before.
pub(super) fn check_source(path: &Path, source: &str) -> Result<(), CliError> {
    if source == "-" {
        return Err(CliError::usage(
            "SRC `-` is not stdin: put it into a file first, or use run --stdin, as in run --stdin -- 'cat > /tmp/x' (a file \
             of that name is ./-)",
        ));
    }
    let unreadable = |error: std::io::Error| CliError::usage(format!("can not read the local file {source}: {error}"));
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(CliError::usage(format!("{source} is a directory: copy it with -r")));
    }
    // Before it is opened: opening a FIFO waits for a writer.
    if !metadata.is_file() {
        return Err(CliError::usage(format!("{source} is not a regular file: copy what it gives into one first")));
    }
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    // The files of /proc say that they are empty.
    if metadata.len() == 0 && file.read(&mut [0]).map_err(unreadable)? > 0 {
        return Err(CliError::usage(format!("{source} says that it is empty and is not: copy it first")));
    }
    Ok(())
}

pub(super) fn download(args: &DownloadArgs, configs: &[WorkspaceConfig]) -> Result<Prepared, CliError> {
    absolute(&args.source, "SRC")?;
    let source = if args.recursive { args.source.trim_end_matches('/') } else { &args.source };
    let Some(name) = source.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | "..")) else {
        return Err(CliError::usage(match args.recursive {
            true => format!("{} has no name that its copy could have; name a directory below it", args.source),
            false => format!("{} is a directory; name a file, or copy it with -r", args.source),
        }));
    };
    let template = utf8(&args.destination)?;
    let names: Vec<&str> = configs.iter().map(|config| config.name.as_str()).collect();
    if template == "-" {
        return Err(CliError::usage(
            "DEST `-` is not stdout: name a file, or use run, as in run -- cat FILE (a file of that name is ./-)",
        ));
    }
    let destination = local_destination(template, name, &names, &|path| Kind::of(path))?;
    for file in files_of(&destination, &names) {
        check_destination(&file, args.recursive)?;
    }
    if args.recursive {
        return Ok(RunOperation::DownloadDirectory(DirectoryDownload::new(source, destination)).into());
    }
    Ok(RunOperation::Download(FileDownload::new(args.source.clone(), destination)).into())
}

/// What there is at a local path.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Nothing,
    Directory,
    Other,
}

impl Kind {
    fn of(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Self::Directory,
            Ok(_) => Self::Other,
            Err(_) => Self::Nothing,
        }
    }
}

/// Where a download writes: `template`, made into one file for each workspace. `name` is what the remote file is called.
fn local_destination(
    template: &str,
    name: &str,
    workspaces: &[&str],
    kind: &dyn Fn(&Path) -> Kind,
) -> Result<PathBuf, CliError> {
    let several = workspaces.len() > 1;
    if several {
        distinct(workspaces)?;
    }
    if template.contains(WORKSPACE) {
        let file = if template.ends_with('/') { format!("{template}{name}") } else { template.to_owned() };
        return Ok(file.into());
    }
    let found = kind(Path::new(template));
    if several && found == Kind::Other {
        return Err(CliError::usage(format!(
            "{template} is a file, and {} workspaces are meant: name a directory, or put {WORKSPACE} into the path, as in \
             {template}.{WORKSPACE}",
            workspaces.len()
        )));
    }
    let directory = Path::new(template);
    Ok(if several {
        directory.join(WORKSPACE).join(name)
    } else if found == Kind::Directory || template.ends_with('/') {
        directory.join(name)
    } else {
        directory.to_owned()
    })
}

/// The files that a destination stands for: one, or one for each workspace.
fn files_of(destination: &Path, workspaces: &[&str]) -> Vec<PathBuf> {
    match destination.to_str().filter(|path| path.contains(WORKSPACE)) {
        Some(path) => workspaces.iter().map(|name| path.replace(WORKSPACE, &file_name(name)).into()).collect(),
        None => vec![destination.to_owned()],
    }
}

/// Refuses a file or a directory that can not be written, as far as that can be told without making anything.
pub(super) fn check_destination(file: &Path, recursive: bool) -> Result<(), CliError> {
    let refused = |what: &str| Err(CliError::usage(format!("can not write {}: {what}", file.display())));
    match std::fs::metadata(file) {
        Ok(metadata) if recursive && metadata.is_dir() => {
            let is_empty = std::fs::read_dir(file).is_ok_and(|mut entries| entries.next().is_none());
            if !is_empty {
                return refused("it has something in it already; name another directory, or remove it first");
            }
        }
        Ok(_) if recursive => return refused("it is no directory; name another"),
        Ok(metadata) if metadata.is_dir() => return refused("it is a directory; name a file in it"),
        Ok(metadata) if !metadata.is_file() => return refused("it is not a regular file; name another"),
        _ => {}
    }
    // The nearest directory that is there: those below it are made.
    let mut directories =
        file.ancestors().skip(1).map(|path| if path == Path::new("") { Path::new(".") } else { path });
    let Some(directory) = directories.find(|path| path.symlink_metadata().is_ok()) else { return Ok(()) };
    if !directory.is_dir() {
        return refused(&format!("{} is not a directory", directory.display()));
    }
    match rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(error) => refused(&format!("in {}: {error}", directory.display())),
    }
}

/// Refuses workspaces whose files would overwrite each other: a path has `_` where a name has `/`.
fn distinct(workspaces: &[&str]) -> Result<(), CliError> {
    let mut seen = HashMap::new();
    for workspace in workspaces {
        if let Some(other) = seen.insert(file_name(workspace), workspace) {
            return Err(CliError::usage(format!(
                "the files of {other} and {workspace} would have the same name here: download from one after the other"
            )));
        }
    }
    Ok(())
}

pub(super) fn changes(args: &ChangesArgs, configs: &mut [WorkspaceConfig]) -> Prepared {
    seen_from(args.cwd.as_ref(), configs);
    let mut changes = GitChanges::new(&args.path);
    changes.reference.clone_from(&args.reference);
    RunOperation::Changes(changes).into()
}

pub(super) fn diff(args: &DiffArgs, configs: &mut [WorkspaceConfig]) -> Prepared {
    seen_from(args.cwd.as_ref(), configs);
    let base = match (&args.reference, &args.commit) {
        (Some(reference), _) => DiffBase::Ref(reference.clone()),
        (None, Some(commit)) => DiffBase::Commit(commit.clone()),
        (None, None) => DiffBase::default(),
    };
    RunOperation::Diff(GitDiff::new(&args.path).with_base(base)).into()
}

pub(super) fn ping() -> Prepared {
    RunOperation::Ping.into()
}

pub(super) fn info() -> Prepared {
    RunOperation::Info.into()
}

fn seen_from(directory: Option<&String>, configs: &mut [WorkspaceConfig]) {
    if let Some(directory) = directory {
        for config in configs {
            config.working_dir = Some(directory.clone());
        }
    }
}

pub(super) fn absolute(path: &str, what: &str) -> Result<(), CliError> {
    if path.starts_with('/') {
        return Ok(());
    }
    let path = path.escape_debug();
    Err(CliError::usage(format!(
        "{what} `{path}` is relative: give an absolute path of the workspace, such as /tmp/{path}"
    )))
}

pub(super) fn utf8(path: &Path) -> Result<&str, CliError> {
    path.to_str().ok_or_else(|| {
        CliError::usage(format!("the local path {path:?} is not valid UTF-8: rename the file, or make a link to it"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(template: &str, workspaces: &[&str], found: Kind) -> Result<String, String> {
        local_destination(template, "log.txt", workspaces, &|_| found)
            .map(|path| path.display().to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_workspace_writes_one_file() {
        assert_eq!(destination("out", &["a"], Kind::Nothing).unwrap(), "out");
        assert_eq!(destination("out", &["a"], Kind::Other).unwrap(), "out");
        assert_eq!(destination("out", &["a"], Kind::Directory).unwrap(), "out/log.txt");
        assert_eq!(destination("out/", &["a"], Kind::Nothing).unwrap(), "out/log.txt");
        assert_eq!(destination("out/{workspace}", &["a"], Kind::Directory).unwrap(), "out/{workspace}");
    }

    #[test]
    fn several_workspaces_write_into_a_directory_each() {
        assert_eq!(destination("out", &["a", "b"], Kind::Nothing).unwrap(), "out/{workspace}/log.txt");
        assert_eq!(destination("out", &["a", "b"], Kind::Directory).unwrap(), "out/{workspace}/log.txt");
        assert_eq!(destination("x.{workspace}", &["a", "b"], Kind::Nothing).unwrap(), "x.{workspace}");
        assert_eq!(destination("{workspace}/", &["a", "b"], Kind::Nothing).unwrap(), "{workspace}/log.txt");
        let refused = destination("out", &["a", "b"], Kind::Other).unwrap_err();
        assert!(refused.contains("{workspace}") && refused.contains("2 workspaces"), "{refused}");
    }

    #[test]
    fn files_never_overwrite_each_other() {
        let refused = destination("out", &["gw/a", "gw_a"], Kind::Nothing).unwrap_err();
        assert!(refused.contains("gw/a and gw_a"), "{refused}");
    }
}
