use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use workspace_fleet::{Connection, Fleet, Workspace, WorkspaceConfig, fleet::raise_open_file_limit};

use crate::process::{Result, Sample, own_memory};

/// How many workspaces run their command at once.
const AT_ONCE: usize = 64;

/// What as many idle workspaces take that each have run a command before: `peak` is the memory that they added. What is
/// taken for the first hundred, which warm everything up, is left aside.
pub(crate) fn run(url: &str, workspaces: usize) -> Result<Sample> {
    raise_open_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let fleet = Fleet::start()?;
        let mut all = add(&fleet, url, 0..100).await?;
        rest(&fleet).await;
        let (before, began) = (own_memory("VmRSS:"), Instant::now());
        all.extend(add(&fleet, url, 100..100 + workspaces).await?);
        rest(&fleet).await;
        let added = own_memory("VmRSS:") - before;
        Ok(Sample { done: workspaces as f64, seconds: began.elapsed().as_secs_f64(), peak: added, ..Sample::default() })
    })
}

async fn add(fleet: &Fleet, url: &str, numbers: std::ops::Range<usize>) -> Result<Vec<Workspace>> {
    let mut all = Vec::with_capacity(numbers.len());
    for number in numbers {
        all.push(
            fleet
                .add(WorkspaceConfig::new(format!("w{number}"), Connection::new(&format!("{url}/w{number}"))?))
                .await?,
        );
    }
    let running = stream::iter(all.iter().map(|workspace| workspace.execute_command("true"))).buffer_unordered(AT_ONCE);
    running.try_for_each(async |_| Ok(())).await?;
    Ok(all)
}

/// Waits until no workspace holds a client any more, and then for longer than the allocator means to keep what was freed.
async fn rest(fleet: &Fleet) {
    while fleet.status().await.connected_workspaces > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
}
