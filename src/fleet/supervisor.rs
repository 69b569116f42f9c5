use std::collections::{BTreeMap, HashMap};

use actix::{
    Actor, ActorContext as _, Addr, AsyncContext as _, Context, Handler, Message, MessageResult, ResponseFuture,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    Selector,
    placement::{Place, Placement},
    run::{self, Run, Target},
};
use crate::{
    ErrorKind, Failure, Operation, RemoteWorkspace, WorkspaceConfig, WorkspaceError, client::SharedTls,
    messages::Shutdown,
};

/// Owns the workspaces of a fleet: adds, places, finds and removes them, and starts runs over them.
pub(crate) struct FleetSupervisor {
    workspaces: HashMap<String, Entry>,
    placement: Placement,
    tls: SharedTls,
    /// Numbers the workspaces in the order in which they were added.
    added: u64,
    /// Cancelled when the supervisor has ended.
    ended: CancellationToken,
}

struct Entry {
    address: Addr<RemoteWorkspace>,
    place: Place,
    number: u64,
    host: String,
    labels: BTreeMap<String, String>,
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
    pub(super) fn new(arbiters: usize) -> Self {
        Self {
            workspaces: HashMap::new(),
            placement: Placement::new(arbiters),
            tls: SharedTls::default(),
            added: 0,
            ended: CancellationToken::new(),
        }
    }

    fn add(&mut self, config: WorkspaceConfig) -> Result<Addr<RemoteWorkspace>, Failure> {
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
        // The closure runs on the arbiter, which is where the client has to be made.
        let address = RemoteWorkspace::start_in_arbiter(&arbiter, move |_| RemoteWorkspace::new(config, &tls));
        if !address.connected() {
            self.placement.give_back(place);
            let reason = "the runtime's threads have ended".to_owned();
            return Err(Failure::not_sent(ErrorKind::Stopped { reason }));
        }
        self.added += 1;
        let entry = Entry { address: address.clone(), place, number: self.added, host, labels };
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
        self.placement.stop();
        self.ended.cancel();
    }
}

impl Handler<Add> for FleetSupervisor {
    type Result = Result<Addr<RemoteWorkspace>, WorkspaceError>;

    fn handle(&mut self, Add(config): Add, _: &mut Self::Context) -> Self::Result {
        let name = config.name.clone();
        self.add(config).map_err(|failure| failure.on(&name, Operation::AddWorkspace))
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
        Box::pin(async move {
            // An actor that has ended by itself is removed already.
            let _ = entry.address.send(Shutdown).await;
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
        };
        MessageResult(selected.map(info).collect())
    }
}

impl Handler<Run> for FleetSupervisor {
    type Result = ();

    fn handle(&mut self, run: Run, _: &mut Self::Context) {
        let targets = self.targets(&run.spec.selector);
        actix_rt::spawn(run::drive(run, targets));
    }
}

impl Handler<End> for FleetSupervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: End, ctx: &mut Self::Context) -> Self::Result {
        let workspaces = std::mem::take(&mut self.workspaces);
        let this = ctx.address();
        Box::pin(async move {
            let ending = workspaces.into_values().map(|entry| entry.address.send(Shutdown));
            futures::future::join_all(ending).await;
            let _ = this.send(Leave).await;
        })
    }
}

/// Answered when the supervisor ends.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct UntilEnd;

impl Handler<UntilEnd> for FleetSupervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: UntilEnd, _: &mut Self::Context) -> Self::Result {
        let ended = self.ended.clone();
        Box::pin(async move { ended.cancelled().await })
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
