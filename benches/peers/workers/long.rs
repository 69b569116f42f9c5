use std::time::{Duration, Instant};

use workspace_fleet::{Connection, Fleet, Push, WorkspaceConfig, messages::ExecuteCommand};

use crate::process::{Result, Sample};

/// Runs one command that takes so many seconds.
pub(crate) fn run(url: &str, push: bool, seconds: u64) -> Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let fleet = Fleet::start()?;
        let push = if push { Push::Auto } else { Push::Never };
        let config = WorkspaceConfig::new("w", Connection::new(url)?.with_api_key("key")).with_push(push);
        let workspace = fleet.add(config).await?;
        let began = Instant::now();
        let result =
            workspace.execute_command(ExecuteCommand::new(format!("sleep {seconds}")).with_timeout(None)).await?;
        let took = began.elapsed();
        if !result.success() || took < Duration::from_secs(seconds) {
            return Err(format!("it ended with {} after {took:?}", result.exit_code).into());
        }
        Ok(Sample { done: 1.0, seconds: took.as_secs_f64(), ..Sample::default() })
    })
}
