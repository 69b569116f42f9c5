use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use futures::future::try_join_all;
use workspace_fleet::{Connection, Fleet, Workspace, WorkspaceConfig, fleet::raise_open_file_limit};

use super::percentiles;
use crate::process::{Result, Sample, cpu_time};

/// In how much time all workspaces have begun.
const BEGUN: Duration = Duration::from_secs(10);

/// Runs so many commands on each workspace, one after another, one every `pause`, the first at a random moment of
/// [`BEGUN`]. Commands write when they ended; the sample has the median of how much later their results were there as
/// `seconds` and the 99th percentile as `peak`.
pub(crate) fn run(url: &str, workspaces: usize, each: usize, pause: Duration, authority: &Path) -> Result<Sample> {
    raise_open_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fleet = Fleet::start()?;
    let cpu = cpu_time();
    let lags = runtime.block_on(async {
        let mut all = Vec::with_capacity(workspaces);
        for number in 0..workspaces {
            let connection = Connection::new(&format!("{url}/w{number}"))?.with_ca_file(authority);
            all.push(fleet.add(WorkspaceConfig::new(format!("w{number}"), connection)).await?);
        }
        let began = Instant::now();
        let lanes = all.iter().map(|workspace| lane(workspace, each, pause, began + BEGUN.mul_f64(fastrand::f64())));
        Ok::<_, Box<dyn std::error::Error>>(try_join_all(lanes).await?.concat())
    })?;
    let (done, cpu) = (lags.len() as f64, (cpu_time() - cpu).as_secs_f64());
    let [seconds, peak] = percentiles(lags);
    Ok(Sample { done, seconds, cpu, peak, ..Sample::default() })
}

async fn lane(workspace: &Workspace, count: usize, pause: Duration, mut next: Instant) -> Result<Vec<Duration>> {
    let mut lags = Vec::with_capacity(count);
    for _ in 0..count {
        tokio::time::sleep_until(next.into()).await;
        next += pause;
        let result = workspace.execute_command("true").await?;
        let ended = SystemTime::UNIX_EPOCH + Duration::from_nanos(result.stdout.trim().parse()?);
        lags.push(ended.elapsed().unwrap_or_default());
    }
    Ok(lags)
}
