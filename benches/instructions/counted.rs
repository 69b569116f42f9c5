//! What is done in the processes that are counted.

use std::hint::black_box;

use futures::stream::StreamExt as _;
use workspace_fleet::{
    Connection, Fleet, WorkspaceConfig,
    hot_paths::{HOT_PATHS, Walk},
};

use crate::Result;

/// How often a path is gone while instructions are counted.
pub(crate) const WALKS: u64 = 8;

/// Goes a path. The first times, which find nothing prepared in caches and tables, are not counted.
pub(crate) fn walk(name: &str) -> Result<()> {
    let path = HOT_PATHS.iter().find(|path| path.name == name).ok_or_else(|| format!("there is no path {name}"))?;
    let mut walk = (path.prepare)();
    for _ in 0..2 {
        black_box(walk());
    }
    counted_walks(&mut walk);
    Ok(())
}

/// Instructions are counted from here to its end. It is found by its name.
#[inline(never)]
fn counted_walks(walk: &mut Walk) {
    for _ in 0..WALKS {
        black_box(walk());
    }
}

/// Runs commands on one workspace, so many at once.
pub(crate) fn commands(url: &str, at_once: usize, count: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fleet = Fleet::builder().worker_threads(1).start()?;
    runtime.block_on(async {
        let config = WorkspaceConfig::new("w", Connection::new(url)?).with_max_concurrent_steps(at_once);
        let workspace = fleet.add(config).await?;
        let running = futures::stream::iter(0..count).map(|_| workspace.execute_command("true"));
        let mut running = std::pin::pin!(running.buffer_unordered(at_once));
        while let Some(result) = running.next().await {
            if !result?.success() {
                return Err("a command failed".into());
            }
        }
        fleet.shutdown().await;
        Ok(())
    })
}
