use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext as _, Addr, AsyncContext as _, Context, Handler, Message, MessageResult, ResponseFuture,
    Supervised, dev::channel,
};
use actix_rt::Arbiter;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Drain, DrainReport, FleetStatus, Selector,
    lease::{self, Acquire, LeaseGuard, Leases, Release, Restore},
    placement::{Place, Placement},
    roster,
    run::{self, Ends, Run, RunSpec, Target, Work},
};
use crate::{
    Connection, ErrorKind, Failure, HealthState, Operation, RemoteWorkspace, Snapshot, WorkspaceConfig, WorkspaceError,
    client::SharedTls,
    messages::{Dismiss, Observe, Shutdown},
    workspace::{HealthLight, OnRemove},
};

/// How long runs may take to carry out `finally` steps and to report their targets after they were stopped because the fleet
/// ends or its drain has lasted long enough.
const RUN_PATIENCE: Duration = Duration::from_secs(10);

/// The bound of a mailbox until its actor has started and set its own.
const FIRST_MAILBOX: usize = 16;

/// The longest bound of a drain that is told apart from none.
const LONGEST_DRAIN: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What those are told who ask something of a fleet that is being drained.
const DRAINING: &str = "the fleet is being drained: nothing new is taken";

fn draining() -> Failure {
    Failure::not_sent(ErrorKind::Stopped { reason: DRAINING.to_owned() })
}

/// Owns the workspaces of a fleet: adds, places, finds and removes them, and starts runs over them.
pub(crate) struct FleetSupervisor {
    /// In boxes, as a table has room for up to twice as many as are in it.
    workspaces: HashMap<String, Box<Entry>>,
    placement: Placement,
    /// Who has which workspace for themselves.
    leases: Rc<Leases>,
    tls: SharedTls,
    /// Numbers the workspaces in the order in which they were added.
    added: u64,
    /// Cancelled when the fleet shall end: nothing begins any more, and runs are cancelled.
    ending: CancellationToken,
    /// Set when the fleet is drained: nothing is added and no step is taken any more.
    draining: bool,
    /// The runs that go on, and what ends them.
    runs: TaskTracker,
    ends: Ends,
    /// The removals that go on.
    removals: TaskTracker,
    /// Takes the arbiters when the supervisor has ended, to be waited for.
    ended: Option<oneshot::Sender<Vec<Arbiter>>>,
    /// Cancelled when the supervisor has ended.
    gone: CancellationToken,
}

struct Entry {
    address: Addr<RemoteWorkspace>,
    place: Place,
    number: u64,
    /// How it was reached when it was added.
    connection: Connection,
    labels: BTreeMap<String, String>,
    working_dir: Option<String>,
    health: HealthLight,
}

/// What a fleet knows of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkspaceInfo {
    /// Its name.
    pub name: String,
    /// Its address as it was added.
    pub host: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The directory to which relative git paths are joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// How its server did a moment ago.
    pub health: HealthState,
}

/// Adds a workspace.
#[derive(Message)]
#[rtype(result = "Result<Addr<RemoteWorkspace>, WorkspaceError>")]
pub(crate) struct Add(pub(crate) WorkspaceConfig);

/// Removes a workspace. Answered when its commands are stopped or let go and its actor has ended.
#[derive(Message)]
#[rtype(result = "Result<(), WorkspaceError>")]
pub(crate) struct Remove(pub(crate) String, pub(crate) OnRemove);

/// Finds a workspace by its name.
#[derive(Message)]
#[rtype(result = "Option<Addr<RemoteWorkspace>>")]
pub(crate) struct Find(pub(crate) String);

/// Lists workspaces in the order in which they were added.
#[derive(Message)]
#[rtype(result = "Vec<WorkspaceInfo>")]
pub(crate) struct List(pub(crate) Selector);

/// Sums up how all workspaces do.
#[derive(Message)]
#[rtype(result = "FleetStatus")]
pub(crate) struct Status;

/// Tells how each of some workspaces does, in the order in which they were added.
#[derive(Message)]
#[rtype(result = "Vec<Snapshot>")]
pub(crate) struct Snapshots(pub(crate) Selector);

/// Drains the fleet. Answered when no command runs any more.
#[derive(Message)]
#[rtype(result = "DrainReport")]
pub(crate) struct Drained(pub(crate) Drain);

/// Closes all event sockets and opens none, or lets them be open again. Answered when that is so.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Suspend(pub(crate) bool);

/// Ends the fleet. Answered when all workspaces have ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct End;

impl FleetSupervisor {
    pub(super) fn new(arbiters: usize, ended: oneshot::Sender<Vec<Arbiter>>) -> Self {
        Self {
            workspaces: HashMap::new(),
            placement: Placement::new(arbiters),
            leases: Rc::default(),
            tls: SharedTls::default(),
            added: 0,
            ending: CancellationToken::new(),
            draining: false,
            runs: TaskTracker::new(),
            ends: Ends::default(),
            removals: TaskTracker::new(),
            ended: Some(ended),
            gone: CancellationToken::new(),
        }
    }

    fn add(&mut self, config: WorkspaceConfig) -> Result<Addr<RemoteWorkspace>, Failure> {
        if self.ending.is_cancelled() {
            return Err(Failure::not_sent(ErrorKind::Stopped { reason: "the fleet is being shut down".to_owned() }));
        }
        if self.draining {
            return Err(draining());
        }
        if config.name.trim().is_empty() {
            return Err(Failure::invalid("a workspace needs a name that is not empty"));
        }
        if self.workspaces.contains_key(&config.name) {
            let reason = "the fleet has a workspace of this name already: choose another, or remove that one first";
            return Err(Failure::invalid(reason));
        }
        let (name, labels, working_dir) = (config.name.clone(), config.labels.clone(), config.working_dir.clone());
        let connection = config.connection.clone();
        let (place, arbiter) = self.placement.take();
        let tls = self.tls.clone();
        let (sender, mailbox) = channel::channel(FIRST_MAILBOX);
        let (number, address) = (self.added + 1, Addr::new(sender));
        let health = HealthLight::default();
        let light = health.clone();
        if !arbiter.spawn_fn(move || roster::admit(number, config, &tls, light, mailbox)) {
            self.placement.give_back(place);
            let reason = "the runtime's threads have ended".to_owned();
            return Err(Failure::not_sent(ErrorKind::Stopped { reason }));
        }
        self.added = number;
        self.leases.add(&name, labels.clone());
        let entry = Entry { address: address.clone(), place, number, connection, labels, working_dir, health };
        self.workspaces.insert(name, Box::new(entry));
        Ok(address)
    }

    fn selected(&self, selector: &Selector) -> Vec<(&String, &Entry)> {
        let picked = self.workspaces.iter().filter(|(name, entry)| selector.picks(name, &entry.labels));
        let mut picked: Vec<_> = picked.map(|(name, entry)| (name, &**entry)).collect();
        picked.sort_unstable_by_key(|(_, entry)| entry.number);
        picked
    }

    /// Asks something on every thread that carries workspaces, of all at once. A thread that has ended answers nothing.
    fn on_each_arbiter<T: Send + 'static, F: Fn() -> T + Clone + Send + 'static>(
        &self,
        ask: F,
    ) -> impl Future<Output = Vec<T>> + use<T, F> {
        let answers: Vec<_> = self
            .placement
            .arbiters()
            .map(|arbiter| {
                let ((answer, answered), ask) = (oneshot::channel(), ask.clone());
                arbiter.spawn_fn(move || drop(answer.send(ask())));
                answered
            })
            .collect();
        async move { futures::future::join_all(answers).await.into_iter().flatten().collect() }
    }

    /// The targets of a run; a name that does not exist is a target without an address.
    fn targets(&self, spec: &RunSpec) -> Vec<Target> {
        let labels = spec.pace.per_label.is_some() || matches!(spec.work, Work::Jobs(_));
        let mut hosts = HashMap::new();
        let known = self.selected(&spec.selector).into_iter().map(|(name, entry)| Target {
            name: name.as_str().into(),
            address: Some(entry.address.clone()),
            host: shared(&mut hosts, &entry.connection),
            labels: if labels { entry.labels.clone() } else { BTreeMap::new() },
        });
        let unknown = spec.selector.named().filter(|name| !self.workspaces.contains_key(*name));
        let unknown =
            unknown.map(|name| Target { name: name.into(), address: None, host: "".into(), labels: BTreeMap::new() });
        known.chain(unknown).collect()
    }
}

/// The host and port that a workspace is behind. Those behind the same share it.
fn shared<'a>(hosts: &mut HashMap<&'a str, Arc<str>>, connection: &'a Connection) -> Arc<str> {
    let host = &connection.host()[url::Position::BeforeHost..url::Position::AfterPort];
    hosts.entry(host).or_insert_with(|| host.into()).clone()
}

impl Supervised for FleetSupervisor {}

impl Actor for FleetSupervisor {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(ended) = self.ended.take() {
            // The thread that started the supervisor waits for them.
            let _ = ended.send(self.placement.stop());
        }
        self.gone.cancel();
    }
}

impl Handler<Add> for FleetSupervisor {
    type Result = ResponseFuture<Result<Addr<RemoteWorkspace>, WorkspaceError>>;

    fn handle(&mut self, Add(config): Add, _: &mut Self::Context) -> Self::Result {
        let name = config.name.clone();
        let added = self.add(config).map_err(|failure| failure.on(&name, Operation::AddWorkspace));
        Box::pin(async move {
            let address = added?;
            // Before it has started its mailbox is small. An actor that has ended meanwhile was removed.
            let _ = address.send(Observe).await;
            Ok(address)
        })
    }
}

impl Handler<Remove> for FleetSupervisor {
    type Result = ResponseFuture<Result<(), WorkspaceError>>;

    fn handle(&mut self, Remove(name, on_remove): Remove, _: &mut Self::Context) -> Self::Result {
        let Some(entry) = self.workspaces.remove(&name) else {
            let error = Failure::invalid("the fleet has no workspace of this name").on(&name, Operation::LookUp);
            return Box::pin(async { Err(error) });
        };
        self.placement.give_back(entry.place);
        self.leases.remove(&name);
        let removal = self.removals.spawn_local(async move {
            // An actor that has ended by itself is removed already.
            let _ = entry.address.send(Dismiss(on_remove)).await;
        });
        Box::pin(async move {
            // The removal goes on also when nobody waits for it.
            let _ = removal.await;
            Ok(())
        })
    }
}

impl Handler<Find> for FleetSupervisor {
    type Result = Option<Addr<RemoteWorkspace>>;

    fn handle(&mut self, Find(name): Find, _: &mut Self::Context) -> Self::Result {
        self.workspaces.get(&name).map(|entry| entry.address.clone())
    }
}

impl Handler<List> for FleetSupervisor {
    type Result = MessageResult<List>;

    fn handle(&mut self, List(selector): List, _: &mut Self::Context) -> Self::Result {
        let selected = self.selected(&selector).into_iter();
        let info = |(name, entry): (&String, &Entry)| WorkspaceInfo {
            name: name.clone(),
            host: entry.connection.host().to_string(),
            labels: entry.labels.clone(),
            working_dir: entry.working_dir.clone(),
            health: entry.health.state(),
        };
        MessageResult(selected.map(info).collect())
    }
}

impl Handler<Status> for FleetSupervisor {
    type Result = ResponseFuture<FleetStatus>;

    fn handle(&mut self, _: Status, _: &mut Self::Context) -> Self::Result {
        let mut all = FleetStatus { running_runs: self.runs.len(), draining: self.draining, ..FleetStatus::default() };
        let statuses = self.on_each_arbiter(roster::status);
        Box::pin(async move {
            statuses.await.iter().for_each(|status| all.merge(status));
            all
        })
    }
}

impl Handler<Snapshots> for FleetSupervisor {
    type Result = ResponseFuture<Vec<Snapshot>>;

    fn handle(&mut self, Snapshots(selector): Snapshots, _: &mut Self::Context) -> Self::Result {
        let snapshots = self.on_each_arbiter(move || roster::snapshots(&selector));
        Box::pin(async move {
            let mut all: Vec<_> = snapshots.await.into_iter().flatten().collect();
            all.sort_unstable_by_key(|(number, _)| *number);
            all.into_iter().map(|(_, snapshot)| snapshot).collect()
        })
    }
}

impl Handler<Suspend> for FleetSupervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Suspend(suspended): Suspend, _: &mut Self::Context) -> Self::Result {
        let done = self.on_each_arbiter(move || {
            let (answer, answered) = oneshot::channel();
            actix_rt::spawn(async move {
                roster::suspend(suspended).await;
                answer.send(())
            });
            answered
        });
        Box::pin(async move { drop(futures::future::join_all(done.await).await) })
    }
}

impl Handler<Drained> for FleetSupervisor {
    type Result = ResponseFuture<DrainReport>;

    fn handle(&mut self, Drained(drain): Drained, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        self.ends.begin_nothing.cancel();
        self.leases.end();
        self.runs.close();
        let began = Instant::now();
        // Longer than any clock can hold is for ever.
        let until = began + drain.finish_within.min(LONGEST_DRAIN);
        let (runs, stop, runs_ended) = (self.runs.clone(), self.ends.stop.clone(), CancellationToken::new());
        let go_on = runs_ended.clone();
        let drained = self.on_each_arbiter(move || {
            let (answer, answered) = oneshot::channel();
            let (draining, go_on) = (roster::begin_drain(DRAINING), go_on.clone());
            actix_rt::spawn(async move {
                // Jobs that have begun have further steps.
                go_on.cancelled().await;
                answer.send(roster::drain_all(draining, until).await)
            });
            answered
        });
        Box::pin(async move {
            let runs_ended = runs_ended.drop_guard();
            if actix_rt::time::timeout(until.saturating_duration_since(Instant::now()), runs.wait()).await.is_err() {
                stop.cancel();
                wait_for(&runs).await;
            }
            drop(runs_ended);
            let mut report = DrainReport::default();
            for drained in futures::future::join_all(drained.await).await.into_iter().flatten() {
                report.commands.extend(drained.commands);
                report.turned_away += drained.turned_away;
                report.unfinished_steps += drained.unfinished_steps;
            }
            report.duration = began.elapsed();
            report
        })
    }
}

impl Handler<Run> for FleetSupervisor {
    type Result = ();

    fn handle(&mut self, run: Run, _: &mut Self::Context) {
        if self.ending.is_cancelled() || self.draining {
            run.cancel.first.cancel();
        }
        let targets = self.targets(&run.spec);
        self.runs.spawn_local(run::drive(run, targets, self.leases.clone(), self.ends.clone()));
    }
}

impl Handler<Acquire> for FleetSupervisor {
    type Result = ResponseFuture<Result<(LeaseGuard, Addr<RemoteWorkspace>), Failure>>;

    fn handle(&mut self, Acquire { selector, gone }: Acquire, ctx: &mut Self::Context) -> Self::Result {
        if self.draining {
            return Box::pin(async { Err(draining()) });
        }
        let (lease, this, ending) = (self.leases.acquire(&selector), ctx.address(), self.ending.clone());
        let ended = ending.is_cancelled();
        let leases = self.leases.clone();
        let nothing = move || {
            let drained = leases.have_ended() && !ending.is_cancelled();
            if drained { draining() } else { lease::nothing_to_lease(ending.is_cancelled()) }
        };
        Box::pin(async move {
            // This goes on also when the caller has gone, who must not be given what others wait for.
            let lease = gone.run_until_cancelled(lease).await.flatten().filter(|_| !ended);
            let lease = lease.ok_or_else(&nothing)?;
            let name = lease.name().to_owned();
            let guard = lease.hand_over(this.clone());
            match this.send(Find(name)).await {
                Ok(Some(address)) => Ok((guard, address)),
                _ => Err(nothing()),
            }
        })
    }
}

impl Handler<Release> for FleetSupervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, release: Release, _: &mut Self::Context) -> Self::Result {
        let released = actix_rt::spawn(lease::release(self.leases.clone(), release));
        Box::pin(async move {
            // The workspace gets free also when nobody waits for that.
            let _ = released.await;
        })
    }
}

impl Handler<Restore> for FleetSupervisor {
    type Result = bool;

    fn handle(&mut self, Restore(name): Restore, _: &mut Self::Context) -> Self::Result {
        self.leases.restore(&name)
    }
}

impl Handler<End> for FleetSupervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: End, ctx: &mut Self::Context) -> Self::Result {
        let gone = self.gone.clone();
        if !self.ending.is_cancelled() {
            self.ending.cancel();
            self.ends.stop.cancel();
            self.leases.end();
            let (this, runs, removals) = (ctx.address(), self.runs.clone(), self.removals.clone());
            let addresses: Vec<_> = self.workspaces.drain().map(|(_, entry)| entry.address).collect();
            actix_rt::spawn(async move {
                runs.close();
                removals.close();
                // Runs stop what they began, and carry out their `finally` steps, which takes workspaces that work.
                wait_for(&runs).await;
                futures::future::join_all(addresses.iter().map(|address| address.send(Shutdown))).await;
                removals.wait().await;
                let _ = this.send(Leave).await;
            });
        }
        // Every end but the first waits for the first one's.
        Box::pin(async move { gone.cancelled().await })
    }
}

/// Gives runs that were stopped the time to carry out `finally` steps and to report their targets.
async fn wait_for(runs: &TaskTracker) {
    if actix_rt::time::timeout(RUN_PATIENCE, runs.wait()).await.is_err() {
        log::warn!("the fleet ends although runs go on, or nobody takes their events");
    }
}

/// Stops the supervisor.
#[derive(Message)]
#[rtype(result = "()")]
struct Leave;

impl Handler<Leave> for FleetSupervisor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
