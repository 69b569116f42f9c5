use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{Claim, Engine, EngineError, Made, lock, new_id};
use crate::{Lease, Selector, Workspace, protocol::EventId};

/// The leases that are held.
pub(super) type LeaseBook = Mutex<HashMap<EventId, Arc<Held>>>;

const LOCATION: &str = "/v1/leases/";

/// What is asked for.
pub(crate) struct LeaseTerms {
    /// Of which workspaces one.
    pub(crate) selector: Selector,
    /// How long to wait for one.
    pub(crate) wait: Duration,
    /// How long it is held without being renewed.
    pub(crate) ttl: Duration,
    /// Whose it is.
    pub(crate) holder: String,
}

/// A workspace that somebody has for themselves.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LeaseView {
    /// The lease's id.
    #[schema(value_type = String)]
    pub(crate) id: EventId,
    /// The workspace.
    pub(crate) workspace: String,
    /// Whose key it was acquired with; empty where no key is asked for.
    pub(crate) holder: String,
    /// When it was acquired.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) acquired: Timestamp,
    /// When it ends unless it is renewed.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires: Timestamp,
    /// How long it is held after each renewal, in milliseconds.
    pub(crate) ttl_ms: u64,
}

/// A lease and when it ends.
pub(super) struct Held {
    id: EventId,
    holder: String,
    acquired: Timestamp,
    workspace: Workspace,
    lease: Mutex<Option<Lease>>,
    term: watch::Sender<Term>,
    over: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    ttl: Duration,
    until: Instant,
    expires: Timestamp,
}

impl Term {
    fn from_now(ttl: Duration) -> Self {
        Self { ttl, until: Instant::now() + ttl, expires: Timestamp::now() + ttl }
    }
}

impl Held {
    fn view(&self) -> LeaseView {
        let term = *self.term.borrow();
        LeaseView {
            id: self.id,
            workspace: self.workspace.name().to_owned(),
            holder: self.holder.clone(),
            acquired: self.acquired,
            expires: term.expires,
            ttl_ms: u64::try_from(term.ttl.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Engine {
    /// Takes a workspace for somebody alone. With a claim it is taken once, however often this is asked for.
    pub(crate) async fn acquire_lease(
        self: &Arc<Self>,
        terms: LeaseTerms,
        claim: Option<Claim>,
    ) -> Result<LeaseView, EngineError> {
        let Some(claim) = claim else { return self.take_lease(terms).await };
        let (engine, claimed) = (Arc::clone(self), claim.clone());
        let make = async move {
            let view = engine.take_lease(terms).await?;
            let location = format!("{LOCATION}{}", view.id);
            engine.commit_claimed(Some(&claimed), &location, Vec::new()).await?;
            Ok(view)
        };
        match self.once(Some(claim), make).await? {
            Made::New(view) => Ok(view),
            Made::Before(location) => {
                let id = location.strip_prefix(LOCATION).and_then(|id| id.parse().ok());
                let ended = |_| {
                    EngineError::Conflict(
                        "the lease that was acquired with this Idempotency-Key has ended: use a new key to acquire another"
                            .to_owned(),
                    )
                };
                self.lease(id.ok_or(EngineError::KeyReused)?).map_err(ended)
            }
        }
    }

    async fn take_lease(self: &Arc<Self>, terms: LeaseTerms) -> Result<LeaseView, EngineError> {
        if self.ending.is_cancelled() {
            return Err(EngineError::Ending);
        }
        let acquired = tokio::select! {
            acquired = timeout(terms.wait, self.fleet.acquire(terms.selector)) => acquired,
            () = self.ending.cancelled() => return Err(EngineError::Ending),
        };
        let lease = acquired.map_err(|_| {
            EngineError::Conflict(format!("no workspace that the selector picks became free within {:?}", terms.wait))
        })??;
        let held = Arc::new(Held {
            id: new_id(),
            holder: terms.holder,
            acquired: Timestamp::now(),
            workspace: lease.workspace().clone(),
            lease: Mutex::new(Some(lease)),
            term: watch::Sender::new(Term::from_now(terms.ttl)),
            over: CancellationToken::new(),
        });
        lock(&self.leases).insert(held.id, Arc::clone(&held));
        let (engine, watched) = (Arc::clone(self), Arc::clone(&held));
        self.spawn(async move { engine.expire(&watched).await });
        Ok(held.view())
    }

    /// Ends a lease when its time is up.
    async fn expire(&self, held: &Held) {
        let mut term = held.term.subscribe();
        loop {
            let until = term.borrow_and_update().until;
            tokio::select! {
                () = sleep_until(until) => {
                    // It may have been renewed at the last moment.
                    if term.borrow().until <= Instant::now() {
                        break;
                    }
                }
                _ = term.changed() => {}
                () = held.over.cancelled() => return,
                () = self.ending.cancelled() => break,
            }
        }
        let ended = lock(&self.leases).remove(&held.id).is_some();
        let lease = lock(&held.lease).take();
        if let Some(lease) = lease.filter(|_| ended) {
            log::info!("the lease {} of {} ends, for it was not renewed", held.id, held.workspace.name());
            if !self.ending.is_cancelled() {
                lease.release().await;
            }
        }
    }

    fn held(&self, id: EventId) -> Result<Arc<Held>, EngineError> {
        let found = lock(&self.leases).get(&id).cloned();
        found.ok_or_else(|| EngineError::NotFound { what: "lease", name: id.to_string() })
    }

    /// The lease of this id.
    pub(crate) fn lease(&self, id: EventId) -> Result<LeaseView, EngineError> {
        self.held(id).map(|held| held.view())
    }

    /// The leases that are held, the oldest first.
    pub(crate) fn leases(&self) -> Vec<LeaseView> {
        let mut views: Vec<_> = lock(&self.leases).values().map(|held| held.view()).collect();
        views.sort_unstable_by_key(|view| view.id);
        views
    }

    /// Holds a lease for longer: from now on as long as before, or as this says.
    pub(crate) fn renew_lease(&self, id: EventId, ttl: Option<Duration>) -> Result<LeaseView, EngineError> {
        let held = self.held(id)?;
        held.term.send_modify(|term| *term = Term::from_now(ttl.unwrap_or(term.ttl)));
        // One that ended meanwhile is not said to be held.
        self.held(id).map(|held| held.view())
    }

    /// Gives a workspace back. Returns when it is free.
    pub(crate) async fn release_lease(&self, id: EventId) -> Result<(), EngineError> {
        let held = self.held(id)?;
        lock(&self.leases).remove(&id);
        held.over.cancel();
        let lease = lock(&held.lease).take();
        if let Some(lease) = lease {
            lease.release().await;
        }
        Ok(())
    }

    /// The workspace of a lease, as its holder sees it: what is begun through it is waited for when the lease ends.
    pub(crate) fn leased(&self, id: EventId, workspace: &str) -> Result<Workspace, EngineError> {
        let held = self.held(id)?;
        if held.workspace.name() == workspace {
            return Ok(held.workspace.clone());
        }
        let holds = held.workspace.name();
        Err(EngineError::Conflict(format!("the lease {id} is of {holds} and not of {workspace}")))
    }
}
