use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::answer::Refusal;
use crate::{
    Workspace,
    client::{AgentClient, ClientLimits, SharedTls, Transport},
    messages::FindWay,
    service::server::Shared,
};

/// How many requests a worker has under way to one workspace; more are turned away.
const UNDER_WAY: usize = 128;

/// How long a client without use is kept: servers close idle connections after 5 s.
const IDLE: Duration = Duration::from_secs(4);

/// How many clients a worker keeps.
const CLIENTS: usize = 512;

/// How many handles of workspaces a worker keeps.
const HANDLES: usize = 16_384;

thread_local! {
    static OF_THIS_WORKER: Ways = Ways::new();
}

/// The clients of one worker. They stay on their thread, as connections do.
struct Ways {
    transport: Transport,
    handles: RefCell<HashMap<String, Workspace>>,
    clients: RefCell<HashMap<u64, Client>>,
    sweeping: Cell<bool>,
}

struct Client {
    client: AgentClient,
    under_way: Rc<Cell<usize>>,
    last_use: Instant,
}

/// A client of a workspace, for one request.
pub(super) struct Lent {
    pub(super) client: AgentClient,
    pub(super) way: crate::messages::Way,
    /// Dropped when the request has ended, with its answer.
    pub(super) under_way: UnderWay,
}

/// A request that is under way.
pub(super) struct UnderWay(Rc<Cell<usize>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The workspace of this name.
pub(super) async fn workspace(shared: &Shared, name: &str) -> Result<Workspace, Refusal> {
    let known = OF_THIS_WORKER.with(|ways| ways.handles.borrow().get(name).cloned());
    if let Some(known) = known.filter(|known| known.address().connected()) {
        return Ok(known);
    }
    let workspace = shared.engine.workspace(name).await?;
    OF_THIS_WORKER.with(|ways| {
        let mut handles = ways.handles.borrow_mut();
        if handles.len() >= HANDLES {
            handles.clear();
        }
        handles.insert(name.to_owned(), workspace.clone());
    });
    Ok(workspace)
}

/// A client that goes to a workspace by the way that leads there now.
pub(super) async fn client(workspace: &Workspace) -> Result<Lent, Refusal> {
    let found = workspace.address().send(FindWay).await.ok().flatten();
    let way = found.ok_or_else(|| Refusal::not_found(format!("the workspace {} has ended", workspace.name())))?;
    OF_THIS_WORKER.with(|ways| ways.lend(way))
}

impl Ways {
    fn new() -> Self {
        // Files of certificate authorities are read once for all workers.
        static TLS: OnceLock<SharedTls> = OnceLock::new();
        Self {
            transport: Transport::new(TLS.get_or_init(SharedTls::new)),
            handles: RefCell::default(),
            clients: RefCell::default(),
            sweeping: Cell::new(false),
        }
    }

    fn lend(&self, way: crate::messages::Way) -> Result<Lent, Refusal> {
        let mut clients = self.clients.borrow_mut();
        if !clients.contains_key(&way.id) {
            if clients.len() >= CLIENTS {
                drop_oldest(&mut clients)?;
            }
            let limits = ClientLimits { connections: UNDER_WAY, ..ClientLimits::default() };
            let client = AgentClient::new(&way.connection, &self.transport, limits)?;
            clients.insert(way.id, Client { client, under_way: Rc::default(), last_use: Instant::now() });
            self.sweep();
        }
        let Some(held) = clients.get_mut(&way.id) else { return Err(Refusal::overloaded("there is no client")) };
        held.last_use = Instant::now();
        if held.under_way.get() >= UNDER_WAY {
            return Err(Refusal::overloaded(format!(
                "{UNDER_WAY} requests to this workspace are under way already: send fewer at once"
            )));
        }
        held.under_way.set(held.under_way.get() + 1);
        Ok(Lent { client: held.client.clone(), way, under_way: UnderWay(Rc::clone(&held.under_way)) })
    }

    /// Drops clients that are not used any more, for as long as there are any.
    fn sweep(&self) {
        if self.sweeping.replace(true) {
            return;
        }
        actix_web::rt::spawn(async {
            loop {
                tokio::time::sleep(IDLE).await;
                let is_done = OF_THIS_WORKER.with(|ways| {
                    let mut clients = ways.clients.borrow_mut();
                    clients.retain(|_, held| held.under_way.get() > 0 || held.last_use.elapsed() < IDLE);
                    ways.sweeping.set(!clients.is_empty());
                    clients.is_empty()
                });
                if is_done {
                    return;
                }
            }
        });
    }
}

/// Makes room for another client in place of the one that has not been used for longest.
fn drop_oldest(clients: &mut HashMap<u64, Client>) -> Result<(), Refusal> {
    let idle = clients.iter().filter(|(_, held)| held.under_way.get() == 0);
    let oldest = idle.min_by_key(|(_, held)| held.last_use).map(|(id, _)| *id);
    let oldest = oldest.ok_or_else(|| Refusal::overloaded("requests to too many workspaces are under way"))?;
    clients.remove(&oldest);
    Ok(())
}
