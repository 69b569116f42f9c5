use std::{future::Future, io, sync::Arc};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Lease, RunHandle, Workspace, fleet_ended};
use crate::{
    OnRemove, Operation, Snapshot, WorkspaceConfig, WorkspaceError,
    fleet::{
        Acquire, Add, CancelRun, Drain, DrainReport, Drained, End, Find, FleetStatus, List, Remove, Restore, Run,
        RunSpec, Runtime, Selector, Snapshots, Status, Suspend, WorkspaceInfo,
    },
    protocol::EventId,
};

/// How many events of a run may wait to be taken before the run waits.
const RUN_EVENTS: usize = 1024;

/// How many jobs may wait to be taken into a run.
const RUN_JOBS: usize = 64;

/// A fleet of workspaces.
///
/// All clones are handles to the same fleet. When the last handle is dropped, those of its workspaces included, the
/// fleet ends in the background: commands are stopped and threads end. [`shutdown`](Self::shutdown) waits for that.
///
/// ```no_run
/// use workspace_fleet::{Connection, Fleet, RunSpec, Selector, WorkspaceConfig};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let fleet = Fleet::start()?;
/// let connection = Connection::new("http://10.0.0.1:8000")?.with_api_key("secret");
/// let workspace = fleet.add(WorkspaceConfig::new("w1", connection)).await?;
/// let result = workspace.execute_command("echo hello").await?;
/// assert_eq!(result.stdout, "hello\n");
/// fleet.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Fleet {
    runtime: Arc<Runtime>,
}

/// The settings of a [`Fleet`] that is to be started.
#[derive(Debug, Clone, Default)]
pub struct FleetBuilder {
    worker_threads: Option<usize>,
}

impl FleetBuilder {
    /// Sets how many threads carry workspaces, at least 1. Default: one a core.
    #[must_use]
    pub const fn worker_threads(mut self, threads: usize) -> Self {
        self.worker_threads = Some(threads);
        self
    }

    /// Starts the fleet.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(self) -> io::Result<Fleet> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Runtime::start(self.worker_threads.unwrap_or_else(cores))?;
        Ok(Fleet { runtime: Arc::new(runtime) })
    }
}

impl Fleet {
    /// Starts a fleet with the default settings.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// The settings of a fleet that is to be started.
    #[must_use]
    pub fn builder() -> FleetBuilder {
        FleetBuilder::default()
    }

    /// Adds a workspace. Nothing is sent to its server before something is asked of it.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the name is empty or taken.
    pub fn add(
        &self,
        config: WorkspaceConfig,
    ) -> impl Future<Output = Result<Workspace, WorkspaceError>> + Send + 'static + use<> {
        let (fleet, name) = (self.clone(), config.name.clone());
        let answer = self.runtime.supervisor.send(Add(config));
        async move {
            let address = answer.await.unwrap_or_else(|_| Err(fleet_ended(&name, Operation::AddWorkspace)))?;
            Ok(Workspace::new(name, address, fleet))
        }
    }

    /// Removes a workspace: what waits is turned away, its commands are stopped, its actor ends. Returns when that is
    /// done.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when there is no workspace of this name.
    pub async fn remove(&self, name: &str) -> Result<(), WorkspaceError> {
        self.remove_with(name, OnRemove::Stop).await
    }

    /// Removes a workspace, and stops its commands or lets them run on unwatched. Whoever waits for a command that runs on
    /// gets [`Stopped`](crate::ErrorKind::Stopped) with its effect as done. Returns when the actor has ended; the removal
    /// goes on also when nobody waits for it.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when there is no workspace of this name.
    pub async fn remove_with(&self, name: &str, on_remove: OnRemove) -> Result<(), WorkspaceError> {
        let answer = self.runtime.supervisor.send(Remove(name.to_owned(), on_remove)).await;
        answer.unwrap_or_else(|_| Err(fleet_ended(name, Operation::LookUp)))
    }

    /// The workspace of this name; `None` when there is none.
    pub async fn workspace(&self, name: &str) -> Option<Workspace> {
        let address = self.runtime.supervisor.send(Find(name.to_owned())).await.ok().flatten()?;
        Some(Workspace::new(name.to_owned(), address, self.clone()))
    }

    /// The workspaces that a selector picks, in the order in which they were added.
    pub async fn list(&self, selector: Selector) -> Vec<WorkspaceInfo> {
        self.runtime.supervisor.send(List(selector)).await.unwrap_or_default()
    }

    /// How the fleet does, as sums over its workspaces: counted on all threads at once, without a message to any workspace.
    pub async fn status(&self) -> FleetStatus {
        let ended = |_| FleetStatus { ended: true, ..FleetStatus::default() };
        self.runtime.supervisor.send(Status).await.unwrap_or_else(ended)
    }

    /// How each workspace does that a selector picks, in the order in which they were added. None when the fleet has ended.
    pub async fn snapshots(&self, selector: Selector) -> Vec<Snapshot> {
        self.runtime.supervisor.send(Snapshots(selector)).await.unwrap_or_default()
    }

    /// Takes no workspace, step or run any more, lets the commands that run end by themselves within a bound, and stops the
    /// rest. Targets of runs that have begun go on through their steps; what of them has not ended within the bound is stopped,
    /// and its `finally` steps get 10 s more. Whoever asks for something meanwhile or later, and what waited for its turn, gets
    /// [`Stopped`](crate::ErrorKind::Stopped). The handles stay valid, and output can still be read, until
    /// [`shutdown`](Self::shutdown).
    ///
    /// Dropping the returned future does not undo it. After a fleet's end the report is empty.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use workspace_fleet::{Drain, Fleet, fleet::DrainEnd};
    /// # async fn example(fleet: Fleet) {
    /// let report = fleet.drain(Drain::within(Duration::from_secs(60))).await;
    /// println!("{} commands had to be stopped", report.count(DrainEnd::Stopped));
    /// fleet.shutdown().await;
    /// # }
    /// ```
    pub async fn drain(&self, drain: Drain) -> DrainReport {
        self.runtime.supervisor.send(Drained(drain)).await.unwrap_or_default()
    }

    /// Closes the event sockets of all workspaces, and opens none until [`resume`](Self::resume). Returns when they are closed,
    /// after 1 s at the latest where a server takes no farewell.
    ///
    /// For a process that is about to be stopped, as by Ctrl-Z: a subscriber that is stopped can freeze all commands of an
    /// OpenHands agent server. Commands are watched by searching meanwhile.
    pub async fn suspend(&self) {
        // A fleet that has ended has no socket.
        let _ = self.runtime.supervisor.send(Suspend(true)).await;
    }

    /// Lets event sockets be opened again after [`suspend`](Self::suspend).
    pub async fn resume(&self) {
        let _ = self.runtime.supervisor.send(Suspend(false)).await;
    }

    /// Starts a run and returns the stream of what happens in it.
    ///
    /// The run goes on as its events are taken: after 1,024 events or 16 MiB of output that nobody took it waits. Dropping the stream cancels the
    /// run, which stops the remote commands.
    ///
    /// ```no_run
    /// # use workspace_fleet::{Fleet, RunSpec, Selector, fleet::RunEventKind};
    /// use futures::StreamExt as _;
    ///
    /// # async fn example(fleet: Fleet) {
    /// let mut run = fleet.run(RunSpec::command(Selector::all(), "uname -a"));
    /// while let Some(event) = run.next().await {
    ///     if let RunEventKind::TargetFinished(ended) = event.kind {
    ///         println!("{}: {}", ended.target.workspace, ended.outcome);
    ///     }
    /// }
    /// # }
    /// ```
    pub fn run(&self, spec: RunSpec) -> RunHandle {
        let (events, taken) = mpsc::channel(RUN_EVENTS);
        let (jobs, added) = mpsc::channel(RUN_JOBS);
        let before = spec.progress.as_ref().and_then(|progress| progress.run_id());
        let id = before.or(spec.id).unwrap_or_else(EventId::random);
        let cancel = CancelRun::default();
        let run = Run { id, spec, events, added, cancel: cancel.clone() };
        let begun = self.runtime.supervisor.send(run);
        RunHandle::new(id, begun, taken, cancel, jobs, self.clone())
    }

    /// Takes a workspace that the selector picks, for the caller alone, and waits in line while none is free. Dropping the
    /// future leaves the line.
    ///
    /// ```no_run
    /// # use workspace_fleet::{Fleet, Selector};
    /// # async fn example(fleet: Fleet) -> Result<(), Box<dyn std::error::Error>> {
    /// let lease = fleet.acquire(Selector::label("tier", "gpu")).await?;
    /// lease.workspace().execute_command("make test").await?;
    /// lease.release().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when there is no workspace that the selector picks, or the last one
    /// was removed; [`Stopped`](crate::ErrorKind::Stopped) when the fleet ends.
    pub fn acquire(
        &self,
        selector: Selector,
    ) -> impl Future<Output = Result<Lease, WorkspaceError>> + Send + 'static + use<> {
        let gone = CancellationToken::new();
        let acquire = Acquire { selector, gone: gone.clone() };
        let (fleet, answer) = (self.clone(), self.runtime.supervisor.send(acquire));
        let in_line = gone.drop_guard();
        async move {
            // Dropped with this future.
            let _in_line = in_line;
            let answer = answer.await.map_err(|_| fleet_ended("", Operation::LookUp))?;
            let (guard, address) = answer.map_err(|failure| failure.on("", Operation::LookUp))?;
            let workspace = Workspace::new(guard.name().to_owned(), address, fleet).counted_in(guard.work());
            // A workspace that was removed meanwhile needs no keepalive.
            let held = workspace.hold().await.ok();
            Ok(Lease::new(workspace, guard, held))
        }
    }

    /// Ends the quarantine of a workspace, which then goes to whoever waits for it. Returns whether it was in one.
    pub async fn restore(&self, name: &str) -> bool {
        self.runtime.supervisor.send(Restore(name.to_owned())).await.unwrap_or(false)
    }

    /// Ends the fleet: waiting steps are turned away, running commands are stopped, threads end. Returns when all of
    /// that is done. Other handles stay valid and answer with [`Stopped`](crate::ErrorKind::Stopped).
    pub async fn shutdown(self) {
        // A fleet that has ended already needs no second end.
        let _ = self.runtime.supervisor.send(End).await;
        self.runtime.ended().await;
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}
