//! What would be done, for `--list-targets` and `--dry-run`: nothing is sent.

use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::{error::CliError, exit};
use crate::{
    RunSpec, WorkspaceConfig,
    fleet::{Job, JobPlace, WORKSPACE, Work},
};

/// Prints the targets, one a line.
pub(super) fn list(configs: &[WorkspaceConfig], as_json: bool) -> Result<u8, CliError> {
    print(configs.iter().map(|config| if as_json { object(config).to_string() } else { config.name.clone() }))
}

/// Prints what a run would do on each of its targets.
pub(super) fn show(configs: &[WorkspaceConfig], spec: &RunSpec, as_json: bool) -> Result<u8, CliError> {
    let line = |config: &WorkspaceConfig, steps: Vec<String>| {
        if !as_json {
            return format!("{}: {}", config.name, steps.join("; "));
        }
        let mut object = object(config);
        object["would"] = json!(steps);
        object.to_string()
    };
    let shown = match &spec.work {
        Work::Each(_) => print(configs.iter().map(|config| line(config, spec.plan_for(&config.name)))),
        Work::Jobs(jobs) if as_json => {
            let line = |job: &Job| json!({ "job": job.name, "on": job.on, "would": job.plan(WORKSPACE) }).to_string();
            print(jobs.iter().map(line))
        }
        Work::Jobs(jobs) => print(jobs.iter().map(|job| {
            let name = job.name.as_deref().unwrap_or("job");
            format!("{name}, on {}: {}", place(&job.on), job.plan(WORKSPACE).join("; "))
        })),
    };
    if !as_json {
        let workspaces = configs.len();
        let (what, count) = match &spec.work {
            Work::Each(_) => ("target", workspaces),
            Work::Jobs(jobs) => ("job", jobs.len()),
        };
        let (plural, at_once) = (if count == 1 { "" } else { "s" }, spec.pace.fanout.min(workspaces).min(count));
        // A closed stderr can not be told.
        let _ = writeln!(io::stderr(), "{count} {what}{plural}, {at_once} at a time; nothing was sent");
    }
    shown
}

/// Where a job is carried out, in words.
fn place(place: &JobPlace) -> &str {
    match place {
        JobPlace::Workspace(name) => name,
        JobPlace::AnyOf(_) => "any workspace of its selector",
        JobPlace::Any => "any workspace",
    }
}

/// A target without its secrets.
fn object(config: &WorkspaceConfig) -> Value {
    json!({
        "workspace": config.name,
        "host": config.connection.host().as_str().trim_end_matches('/'),
        "labels": config.labels,
        "working_dir": config.working_dir,
    })
}

fn print(lines: impl Iterator<Item = String>) -> Result<u8, CliError> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let write = || -> io::Result<()> {
        for line in lines {
            writeln!(stdout, "{line}")?;
        }
        stdout.flush()
    };
    match write() {
        // Whoever read the first lines has what they wanted.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::internal(format!("can not write to stdout: {error}")))
        }
        _ => Ok(exit::SUCCESS),
    }
}
