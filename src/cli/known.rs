//! The commands that `attach` and `stop` are about: which were started before, on which workspaces.

use std::{collections::HashMap, io::Read as _, path::Path};

use serde::Deserialize;

use super::{
    args::{KnownArgs, TargetArgs},
    error::CliError,
    exit,
};
use crate::{WorkspaceConfig, fleet::KnownCommands, inventory::check_name, protocol::EventId};

/// The most bytes of a file of commands: what a run over 100,000 workspaces prints as JSON Lines fits.
const MAX_BYTES: u64 = 256 << 20;

/// Commands that were started before.
pub(super) enum Known {
    /// One of them, on the workspace that the targets name.
    One(EventId),
    /// By the names of their workspaces, with what the list of them is called.
    Listed(HashMap<String, EventId>, String),
}

/// Reads which commands are meant. Where nothing else says so, their workspaces are the targets.
pub(super) fn read(args: &KnownArgs, targets: &mut TargetArgs) -> Result<Known, CliError> {
    if let [target, id] = args.command.as_slice() {
        targets.workspaces = vec![target.clone()];
        return id.parse().map(Known::One).map_err(|error| CliError::usage(format!("ID: {error}")));
    }
    let Some(file) = &args.from else { return Ok(Known::Listed(HashMap::new(), String::new())) };
    if let (true, Some(other)) = (file.as_os_str() == "-", targets.reading_stdin().first()) {
        return Err(CliError::usage(format!("--from - and {other} both read stdin: put one of them into a file")));
    }
    let name = if file.as_os_str() == "-" { "stdin".to_owned() } else { file.display().to_string() };
    let text = load(file, &name)?;
    let lines = read_lines(&text).map_err(|(line, reason)| CliError::usage(format!("{name}:{line}: {reason}")))?;
    if lines.is_empty() {
        return Err(CliError {
            code: exit::NOTHING_SELECTED,
            message: format!("{name} has no commands: give it what run --detach prints"),
        });
    }
    if !targets.any() {
        targets.workspaces = lines.iter().map(|(workspace, _)| workspace.clone()).collect();
    }
    Ok(Known::Listed(lines.into_iter().collect(), name))
}

fn load(file: &Path, name: &str) -> Result<String, CliError> {
    let unreadable = |error: &dyn std::fmt::Display| CliError::usage(format!("can not read {name}: {error}"));
    let mut bytes = Vec::new();
    let read = match name {
        "stdin" if file.as_os_str() == "-" => std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(CliError::usage(format!(
            "{name} is larger than {} MiB: is it a list of commands?",
            MAX_BYTES >> 20
        )));
    }
    String::from_utf8(bytes).map_err(|error| unreadable(&error))
}

/// A line of JSON Lines, as much of it as matters here.
#[derive(Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    workspace: String,
    #[serde(default)]
    command_id: Option<EventId>,
}

/// The commands of a list, in its order, or the first line that is wrong.
pub(super) fn read_lines(text: &str) -> Result<Vec<(String, EventId)>, (usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut seen = HashMap::new();
    let mut commands = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let Some((workspace, id)) = read_line(line.trim()).map_err(|reason| (number, reason))? else { continue };
        check_name(&workspace).map_err(|reason| (number, format!("`{}`: {reason}", workspace.escape_debug())))?;
        if let Some(before) = seen.insert(workspace.clone(), number) {
            let reason = format!(
                "there is a command of {workspace} in line {before} already: put the further commands of a workspace into a \
                 file of their own"
            );
            return Err((number, reason));
        }
        commands.push((workspace, id));
    }
    Ok(commands)
}

fn read_line(line: &str) -> Result<Option<(String, EventId)>, String> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.starts_with('{') {
        let event: Event = serde_json::from_str(line).map_err(|error| format!("no event of a run: {error}"))?;
        let started = event.command_id.filter(|_| event.event == "target_started");
        return Ok(started.map(|id| (event.workspace, id)));
    }
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(workspace), Some(_), None) if workspace.contains("://") => {
            Err(format!("`{}` is a URL: give its workspace by -w, and here its name", workspace.escape_debug()))
        }
        (Some(workspace), Some(id), None) => {
            Ok(Some((workspace.to_owned(), id.parse().map_err(|error| format!("{error}"))?)))
        }
        _ => Err("one workspace and the id of its command a line, please, as run --detach prints them".to_owned()),
    }
}

impl Known {
    /// The commands of these workspaces. Workspaces that have none are left aside.
    pub(super) fn on(self, configs: &mut Vec<WorkspaceConfig>) -> Result<KnownCommands, CliError> {
        match (self, configs.as_slice()) {
            (Self::One(id), [config]) => Ok(KnownCommands::from_iter([(config.name.clone(), id)])),
            (Self::One(_), several) => Err(CliError::usage(format!(
                "TARGET stands for {} workspaces, and a command belongs to one of them: name it",
                several.len()
            ))),
            (Self::Listed(mut commands, name), _) => {
                configs.retain(|config| commands.contains_key(&config.name));
                if configs.is_empty() {
                    return Err(CliError {
                        code: exit::NOTHING_SELECTED,
                        message: format!("{name} has no command of any of the workspaces that are meant"),
                    });
                }
                let names = configs.iter().map(|config| config.name.clone());
                Ok(names.filter_map(|name| commands.remove(&name).map(|id| (name, id))).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0f8fad5bd9cb469fa16570867728950e";

    fn refused(text: &str) -> (usize, String) {
        read_lines(text).unwrap_err()
    }

    #[test]
    fn lines_and_events_name_commands() {
        let id: EventId = ONE.parse().unwrap();
        let text = format!(
            "# started today\nw1\t{ONE}\n\n  gw:1/s/a   {ONE}\r\n\
             {{\"event\":\"target_started\",\"workspace\":\"w2\",\"command_id\":\"{ONE}\",\"attempt\":1}}\n\
             {{\"event\":\"target_finished\",\"workspace\":\"w2\",\"outcome\":\"succeeded\"}}\n"
        );
        let names = ["w1", "gw:1/s/a", "w2"].map(|name| (name.to_owned(), id));
        assert_eq!(read_lines(&text).unwrap(), names);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert!(refused("w1\n").1.contains("as run --detach prints"));
        assert_eq!(refused(&format!("\nw1 {ONE} more")).0, 2);
        assert!(refused("w1\tnonsense").1.contains("`nonsense` is not an id"));
        assert!(refused(&format!("http://h:1 {ONE}")).1.contains("-w"));
        assert!(refused(&format!("w,1 {ONE}")).1.contains("`w,1`"));
        assert!(refused("{\"event\": 1}").1.contains("no event of a run"));
        let twice = refused(&format!("w1 {ONE}\nw1 {ONE}"));
        assert!(twice.0 == 2 && twice.1.contains("line 1"), "{twice:?}");
    }
}
