use std::{
    ffi::{CString, NulError, OsStr, OsString},
    sync::{Arc, PoisonError, RwLock},
};

use tokio::process::Command;

use crate::protocol::EventId;

/// The variable that marks every process of a command, so that all of them can be found.
pub(super) const COMMAND_VARIABLE: &str = "WSFLEET_AGENT_COMMAND";

/// Variables that carry secrets of the agent, or of what it stands in for.
const SECRETS: [&str; 6] = [
    "SESSION_API_KEY",
    "OH_SECRET_KEY",
    "LMNR_PROJECT_API_KEY",
    "OTEL_HEADERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
];

/// The environment that commands get: that of the agent when it started, without session keys and without what is meant for
/// workspace-fleet itself.
#[derive(Debug, Clone)]
pub(crate) struct CommandEnvironment(Arc<RwLock<Vec<(OsString, OsString)>>>);

impl CommandEnvironment {
    /// Takes the environment of this process for commands of the agent that listens on this port.
    pub(crate) fn capture(port: u16) -> Self {
        Self::of(std::env::vars_os(), port)
    }

    fn of(variables: impl Iterator<Item = (OsString, OsString)>, port: u16) -> Self {
        let mut kept: Vec<_> = variables.filter(|(name, _)| !is_private(name)).collect();
        restore_library_path(&mut kept);
        if !kept.iter().any(|(name, value)| name == "AI_AGENT" && !value.to_string_lossy().trim().is_empty()) {
            set(&mut kept, "AI_AGENT", "openhands".into());
        }
        set(&mut kept, "OH_INTERNAL_SERVER_URL", format!("http://127.0.0.1:{port}").into());
        Self(Arc::new(RwLock::new(kept)))
    }

    /// Adds variables for all that is started from now on.
    pub(in crate::agent) fn add(&self, variables: impl Iterator<Item = (OsString, OsString)>) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (name, value) in variables {
            set(&mut kept, &name, value);
        }
    }

    /// Gives it to a process.
    pub(crate) fn apply(&self, command: &mut Command) {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        command.env_clear().envs(kept.iter().map(|(name, value)| (name, value)));
    }

    /// As a process takes it, marked as part of a command.
    pub(super) fn marked(&self, id: EventId) -> Result<Vec<CString>, NulError> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let entry = |(name, value): &(OsString, OsString)| {
            CString::new([name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat())
        };
        kept.iter().map(entry).chain([CString::new(format!("{COMMAND_VARIABLE}={id}"))]).collect()
    }
}

fn is_private(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("WSFLEET_") || name.starts_with("OH_SESSION_API_KEYS_") || SECRETS.contains(&name.as_ref())
}

fn set(variables: &mut Vec<(OsString, OsString)>, name: impl AsRef<OsStr>, value: OsString) {
    let name = name.as_ref();
    variables.retain(|(other, _)| other != name);
    variables.push((name.into(), value));
}

/// Undoes what a packaged program does to find its own libraries.
fn restore_library_path(variables: &mut Vec<(OsString, OsString)>) {
    let Some((_, original)) = variables.iter().find(|(name, _)| name == "LD_LIBRARY_PATH_ORIG").cloned() else {
        return;
    };
    variables.retain(|(name, _)| name != "LD_LIBRARY_PATH");
    if !original.is_empty() {
        variables.push(("LD_LIBRARY_PATH".into(), original));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_our_own_variables_are_left_out() {
        let given = ["A", "WSFLEET_X", "OH_SESSION_API_KEYS_0", "SESSION_API_KEY", "OH_SECRET_KEY", "AI_AGENT"];
        let given = given.iter().map(|name| (OsString::from(name), OsString::from(" ")));
        let environment = CommandEnvironment::of(given, 7);
        let kept = environment.0.read().unwrap();
        let names: Vec<_> =
            kept.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
        assert_eq!(names, ["A= ", "AI_AGENT=openhands", "OH_INTERNAL_SERVER_URL=http://127.0.0.1:7"]);
    }
}
