use std::sync::Arc;

use futures::future::join_all;
use tempfile::TempDir;

use super::{error::CliError, interrupt::Interrupt};
use crate::{
    Connection, SessionKey, WorkspaceConfig,
    agent::{AgentConfig, AgentHandle, AgentServer},
    protocol::EventId,
};

/// What the workspaces of `--local` are called.
pub(super) fn local_names(count: u32) -> impl Iterator<Item = String> {
    (1..=count).map(|number| format!("local-{number}"))
}

/// The agent servers of `--local`, each with a directory that is removed when the agent has ended.
#[derive(Default)]
pub(super) struct LocalAgents {
    // The order is that of dropping: a server ends before its directory goes.
    agents: Vec<(Arc<AgentHandle>, TempDir)>,
}

impl LocalAgents {
    /// Starts agents and returns what makes workspaces of them.
    pub(super) fn start(
        &mut self,
        names: Vec<String>,
        interrupt: &Interrupt,
    ) -> Result<Vec<WorkspaceConfig>, CliError> {
        names.into_iter().map(|name| self.start_one(name, interrupt)).collect()
    }

    fn start_one(&mut self, name: String, interrupt: &Interrupt) -> Result<WorkspaceConfig, CliError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            CliError::internal(format!("can not start {name}: {what}: {error}; try a smaller --local"))
        };
        let root = tempfile::Builder::new().prefix(&format!("wsfleet-{name}-")).tempdir();
        let root = root.map_err(|error| failed("no temporary directory", &error))?;
        interrupt.remove_when_leaving(root.path());
        // Other users of this machine can reach the port: without a key they could run commands as this one.
        let key = EventId::random().to_string();
        let config = AgentConfig::default().with_root(root.path()).with_session_key(key.clone());
        let agent = AgentServer::spawn(config).map_err(|error| failed("no agent server", &error))?;
        let agent = Arc::new(agent);
        interrupt.stop_when_leaving(Arc::clone(&agent));
        let connection = Connection::new(&agent.url()).map_err(|error| failed("no address", &error))?;
        let mut config = WorkspaceConfig::new(&name, connection.with_api_key(SessionKey::from(key)));
        config.working_dir = Some(root.path().display().to_string());
        self.agents.push((agent, root));
        Ok(config)
    }

    /// Ends the agents with their commands, and removes their directories.
    pub(super) fn stop(self) {
        futures::executor::block_on(join_all(self.agents.iter().map(|(agent, _)| agent.stop())));
    }
}
