use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Engine, RunFollowed, lock};
use crate::{OnRemove, Selector, service::store::CommandState};

/// How long what ends with the service is waited for.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// How long each further part of the end may take.
const PART: Duration = Duration::from_secs(5);

impl Engine {
    /// Lets go of everything that runs, to be taken up by the next service, and returns when all is written down. What runs on
    /// workspaces that end with the service is stopped before that.
    pub(crate) async fn end(&self) {
        self.closing.cancel();
        if !self.local.is_empty() {
            self.stop_all().await;
        }
        self.ending.cancel();
        self.tasks.close();
        if timeout(PART, self.tasks.wait()).await.is_err() {
            log::warn!("the service ends while something is still being written down");
        }
        // A workspace that is removed stops its commands, unless it is told to leave them alone.
        let names = self.fleet.list(Selector::all()).await.into_iter().map(|info| info.name);
        let detach = names.map(async |name| self.fleet.remove_with(&name, OnRemove::Detach).await);
        if timeout(PART, join_all(detach)).await.is_err() {
            log::warn!("not all workspaces have let go of their commands in time");
        }
        if timeout(PART, self.fleet.clone().shutdown()).await.is_err() {
            log::warn!("the fleet does not end in time");
        }
        lock(&self.let_go).clear();
    }

    /// Stops all commands and runs on the workspaces whose servers end with this service, and waits for a bounded time until
    /// that is written down.
    async fn stop_all(&self) {
        let until = Instant::now() + STOPPED_WITHIN;
        let runs: Vec<_> = lock(&self.runs).values().cloned().collect();
        let commands: Vec<_> = lock(&self.commands).values().cloned().collect();
        let mut local_runs = Vec::new();
        for run in runs {
            if self.is_local_run(&run).await {
                if let Some(cancel) = run.cancel.get() {
                    cancel();
                }
                local_runs.push(run);
            }
        }
        let local = commands.into_iter().filter(|handle| self.local.contains(&handle.record().workspace));
        let stop = local.map(|handle| async move {
            if let Err(error) = self.stop_command(handle.record().id).await {
                log::warn!("{error}");
            }
            handle.reached(CommandState::Finished).await;
        });
        let runs = local_runs.into_iter().map(|run| async move {
            while !run.log().is_over(run.log().end()) {
                run.log().wait(run.log().end()).await;
            }
        });
        let all = futures::future::join(join_all(stop), join_all(runs));
        if timeout_at(until, all).await.is_err() {
            log::warn!("not all commands have ended with the service");
        }
    }

    /// Whether a run works on workspaces whose servers end with the service alone.
    async fn is_local_run(&self, run: &RunFollowed) -> bool {
        let workspaces = self.fleet.list(run.record().spec.selector.clone()).await;
        workspaces.iter().all(|info| self.local.contains(&info.name))
    }
}
