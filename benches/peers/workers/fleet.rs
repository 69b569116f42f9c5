use std::{path::Path, time::Instant};

use futures::stream::StreamExt as _;
use workspace_fleet::{Connection, Fleet, Workspace, WorkspaceConfig, fleet::raise_open_file_limit};

use crate::process::{Result, Sample, Stopwatch};

/// Commands over a fleet.
pub(crate) struct Load<'a> {
    pub(crate) url: &'a str,
    pub(crate) workspaces: usize,
    /// How many commands each workspace runs, and how many of them at once.
    pub(crate) each: usize,
    pub(crate) at_once: usize,
    /// The certificate authority of a server with TLS.
    pub(crate) authority: Option<&'a Path>,
}

impl Load<'_> {
    /// From cold: making the workspaces and their connections is part of it.
    pub(crate) fn cold(&self) -> Result<Sample> {
        self.measured(None)
    }

    /// After each workspace has run a command.
    pub(crate) fn warm(&self) -> Result<Sample> {
        self.measured(Some(self.workspaces))
    }

    /// The same, where so many workspaces at a time run their commands.
    pub(crate) fn in_turns(&self, at_work: usize) -> Result<Sample> {
        self.measured(Some(at_work))
    }

    /// After each workspace has run a command, where it is given how many of them are at work at a time.
    fn measured(&self, at_work: Option<usize>) -> Result<Sample> {
        raise_open_file_limit();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let fleet = Fleet::start()?;
        let mut watch = Stopwatch::start();
        runtime.block_on(async {
            let mut all = Vec::with_capacity(self.workspaces);
            for number in 0..self.workspaces {
                all.push(fleet.add(self.workspace(number)?).await?);
            }
            if at_work.is_some() {
                everywhere(&all, 1, 1, self.workspaces).await?;
                watch = Stopwatch::start();
            }
            everywhere(&all, self.each, self.at_once, at_work.unwrap_or(self.workspaces)).await
        })?;
        Ok(watch.sample(self.workspaces * self.each))
    }

    fn workspace(&self, number: usize) -> Result<WorkspaceConfig> {
        let mut connection = Connection::new(&format!("{}/w{number}", self.url))?;
        if let Some(file) = self.authority {
            connection = connection.with_ca_file(file);
        }
        Ok(WorkspaceConfig::new(format!("w{number}"), connection).with_max_concurrent_steps(self.at_once))
    }
}

/// Runs so many commands on every workspace, so many of which are at work at a time.
async fn everywhere(all: &[Workspace], each: usize, at_once: usize, at_work: usize) -> Result<()> {
    let running = futures::stream::iter(all).map(|workspace| commands(workspace, each, at_once));
    let mut running = running.buffer_unordered(at_work);
    while let Some(done) = running.next().await {
        done?;
    }
    Ok(())
}

/// Runs so many commands, one after another, on each of eight workspaces behind one agent server.
pub(crate) fn on_agent(url: &str, each: usize) -> Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fleet = Fleet::start()?;
    let began = Instant::now();
    runtime.block_on(async {
        let mut all = Vec::new();
        for number in 0..8 {
            let connection = Connection::new(url)?.with_api_key("key");
            all.push(fleet.add(WorkspaceConfig::new(format!("w{number}"), connection)).await?);
        }
        futures::future::try_join_all(all.iter().map(|workspace| commands(workspace, each, 1))).await.map(drop)
    })?;
    Ok(Sample { done: (8 * each) as f64, seconds: began.elapsed().as_secs_f64(), ..Sample::default() })
}

/// Runs commands on one workspace, so many at once.
async fn commands(workspace: &Workspace, count: usize, at_once: usize) -> Result<()> {
    let running = futures::stream::iter(0..count).map(|_| workspace.execute_command("true")).buffer_unordered(at_once);
    let mut running = std::pin::pin!(running);
    while let Some(result) = running.next().await {
        if !result?.success() {
            return Err("a command failed".into());
        }
    }
    Ok(())
}
