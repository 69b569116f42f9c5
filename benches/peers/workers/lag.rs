use std::time::{Duration, SystemTime};

use futures::future::try_join_all;
use workspace_fleet::{Connection, Fleet, Push, Workspace, WorkspaceConfig, messages::ExecuteCommand};

use crate::process::{Result, Sample};

/// How many commands run at once.
const AT_ONCE: usize = 8;

/// Runs commands that take so many milliseconds and tell when they end; prints in microseconds how much later their results
/// were there, one in a line, on stderr. The sample has the median as `seconds` and the 99th percentile as `peak`.
pub(crate) fn run(url: &str, push: bool, duration: u64, commands: usize) -> Result<Sample> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let fleet = Fleet::start()?;
        let mut lanes = Vec::new();
        for number in 0..AT_ONCE {
            let config = WorkspaceConfig::new(format!("w{number}"), Connection::new(url)?.with_api_key("key"));
            lanes.push(fleet.add(config.with_push(if push { Push::Auto } else { Push::Never })).await?);
        }
        let each = commands.div_ceil(AT_ONCE);
        let mut lags = try_join_all(lanes.iter().map(|workspace| lane(workspace, duration, each))).await?.concat();
        lags.sort_unstable();
        let at = |percent: usize| lags[(lags.len() * percent / 100).min(lags.len() - 1)].as_secs_f64();
        let status = fleet.status().await.totals;
        Ok(Sample {
            done: lags.len() as f64,
            seconds: at(50),
            cpu: (status.polls + status.pushed_events + status.commands_started) as f64 / lags.len() as f64,
            peak: at(99),
        })
    })
}

async fn lane(workspace: &Workspace, duration: u64, count: usize) -> Result<Vec<Duration>> {
    let command = format!("sleep {:.3}; date +%s%N", Duration::from_millis(duration).as_secs_f64());
    let mut lags = Vec::with_capacity(count);
    for _ in 0..count {
        let result = workspace.execute_command(ExecuteCommand::new(command.clone()).with_timeout(None)).await?;
        let ended = SystemTime::UNIX_EPOCH + Duration::from_nanos(result.stdout.trim().parse()?);
        lags.push(ended.elapsed().unwrap_or_default());
    }
    Ok(lags)
}
