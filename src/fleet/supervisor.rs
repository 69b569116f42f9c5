use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use actix::{
    Actor, ActorContext as _, Addr, AsyncContext as _, Context, Handler, Message, MessageResult, ResponseFuture,
};
use actix_rt::Arbiter;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Selector,
    placement::{Place, Placement},
    run::{self, Run, Target},
};
use crate::{
    ErrorKind, Failure, HealthState, Operation, RemoteWorkspace, WorkspaceConfig, WorkspaceError,
    client::SharedTls,
    messages::{Observe, Shutdown},
    workspace::HealthLight,
};

/// How long runs may take to report their targets after the fleet's end was asked for.
const RUN_PATIENCE: Duration = Duration::from_secs(10);

/// Owns the workspaces of a fleet: adds, places, finds and removes them, and starts runs over them.
pub(crate) struct FleetSupervisor {
    workspaces: HashMap<String, Entry>,
    placement: Placement,
    tls: SharedTls,
    /// Numbers the workspaces in the order in which they were added.
    added: u64,
    /// Cancelled when the fleet shall end: nothing begins any more, and runs are cancelled.
    ending: CancellationToken,
    /// The runs that go on.
    runs: TaskTracker,
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
    host: String,
    labels: BTreeMap<String, String>,
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
    /// How its server did a moment ago.
    pub health: HealthState,
}

/// Adds a workspace.
#[derive(Message)]
#[rtype(result = "Result<Addr<RemoteWorkspace>, WorkspaceError>")]
pub(crate) struct Add(pub(crate) WorkspaceConfig);

/// Removes a workspace. Answered when its commands are stopped and its actor has ended.
#[derive(Message)]
#[rtype(result = "Result<(), WorkspaceError>")]
pub(crate) struct Remove(pub(crate) String);

/// Finds a workspace by its name.
#[derive(Message)]
#[rtype(result = "Option<Addr<RemoteWorkspace>>")]
pub(crate) struct Find(pub(crate) String);

/// Lists workspaces in the order in which they were added.
#[derive(Message)]
#[rtype(result = "Vec<WorkspaceInfo>")]
pub(crate) struct List(pub(crate) Selector);

/// Ends the fleet. Answered when all workspaces have ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct End;

impl FleetSupervisor {
    pub(super) fn new(arbiters: usize, ended: oneshot::Sender<Vec<Arbiter>>) -> Self {
        Self {
            workspaces: HashMap::new(),
            placement: Placement::new(arbiters),
            tls: SharedTls::default(),
            added: 0,
            ending: CancellationToken::new(),
            runs: TaskTracker::new(),
            removals: TaskTracker::new(),
            ended: Some(ended),
            gone: CancellationToken::new(),
        }
    }

    fn add(&mut self, config: WorkspaceConfig) -> Result<Addr<RemoteWorkspace>, Failure> {
        if self.ending.is_cancelled() {
            return Err(Failure::not_sent(ErrorKind::Stopped { reason: "the fleet is being shut down".to_owned() }));
        }
        if config.name.trim().is_empty() {
            return Err(Failure::invalid("a workspace needs a name that is not empty"));
        }
        if self.workspaces.contains_key(&config.name) {
            let reason = "the fleet has a workspace of this name already: choose another, or remove that one first";
            return Err(Failure::invalid(reason));
        }
        let (name, labels) = (config.name.clone(), config.labels.clone());
        let host = config.connection.host.to_string();
        let (place, arbiter) = self.placement.take();
        let tls = self.tls.clone();
        let health = HealthLight::default();
        let light = health.clone();
        // The closure runs on the arbiter, which is where the client has to be made.
        let address =
            RemoteWorkspace::start_in_arbiter(&arbiter, move |_| RemoteWorkspace::new(config, &tls).showing_on(light));
        if !address.connected() {
            self.placement.give_back(place);
            let reason = "the runtime's threads have ended".to_owned();
            return Err(Failure::not_sent(ErrorKind::Stopped { reason }));
        }
        self.added += 1;
        let entry = Entry { address: address.clone(), place, number: self.added, host, labels, health };
        self.workspaces.insert(name, entry);
        Ok(address)
    }

    fn selected(&self, selector: &Selector) -> Vec<(&String, &Entry)> {
        let picked = self.workspaces.iter().filter(|(name, entry)| selector.picks(name, &entry.labels));
        let mut picked: Vec<_> = picked.collect();
        picked.sort_unstable_by_key(|(_, entry)| entry.number);
        picked
    }

    /// The targets of a run; a name that does not exist is a target without an address.
    fn targets(&self, selector: &Selector) -> Vec<Target> {
        let known = self.selected(selector).into_iter();
        let known = known.map(|(name, entry)| Target { name: name.clone(), address: Some(entry.address.clone()) });
        let unknown = selector.named().filter(|name| !self.workspaces.contains_key(*name));
        known.chain(unknown.map(|name| Target { name: name.to_owned(), address: None })).collect()
    }
}

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

    fn handle(&mut self, Remove(name): Remove, _: &mut Self::Context) -> Self::Result {
        let Some(entry) = self.workspaces.remove(&name) else {
            let error = Failure::invalid("the fleet has no workspace of this name").on(&name, Operation::LookUp);
            return Box::pin(async { Err(error) });
        };
        self.placement.give_back(entry.place);
        let removal = self.removals.spawn_local(async move {
            // An actor that has ended by itself is removed already.
            let _ = entry.address.send(Shutdown).await;
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
            host: entry.host.clone(),
            labels: entry.labels.clone(),
            health: entry.health.state(),
        };
        MessageResult(selected.map(info).collect())
    }
}

impl Handler<Run> for FleetSupervisor {
    type Result = ();

    fn handle(&mut self, run: Run, _: &mut Self::Context) {
        if self.ending.is_cancelled() {
            run.cancel.cancel();
        }
        let targets = self.targets(&run.spec.selector);
        self.runs.spawn_local(run::drive(run, targets, self.ending.clone()));
    }
}

impl Handler<End> for FleetSupervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: End, ctx: &mut Self::Context) -> Self::Result {
        let gone = self.gone.clone();
        if !self.ending.is_cancelled() {
            self.ending.cancel();
            let (this, runs, removals) = (ctx.address(), self.runs.clone(), self.removals.clone());
            let addresses: Vec<_> = self.workspaces.drain().map(|(_, entry)| entry.address).collect();
            actix_rt::spawn(async move {
                runs.close();
                removals.close();
                futures::future::join_all(addresses.iter().map(|address| address.send(Shutdown))).await;
                removals.wait().await;
                if actix_rt::time::timeout(RUN_PATIENCE, runs.wait()).await.is_err() {
                    log::warn!("the fleet ends although nobody takes the events of a run");
                }
                let _ = this.send(Leave).await;
            });
        }
        // Every end but the first waits for the first one's.
        Box::pin(async move { gone.cancelled().await })
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
