use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::{Rc, Weak},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Snapshot, WorkspaceConfig,
    attendant::Attendant,
    behalf::Behalf,
    feed::Feed,
    health::{LinkObserver, Monitor},
    path_turns::PathTurns,
    push::Pushing,
    step_queue::{Permit, Refused, StepQueue},
    supervision::Record,
    warm::{self, Held},
};
use crate::{
    Connection, ErrorKind, Failure,
    client::{AgentClient, SharedTls, Transport},
};

/// The longest bound that is told apart from none.
const LONGEST_BOUND: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What the actor of a workspace shares with its steps, its feed and its children. All of them live on one arbiter.
pub(crate) struct Core {
    pub(crate) config: WorkspaceConfig,
    pub(crate) queue: StepQueue,
    pub(crate) feed: Feed,
    /// Cancelled when the workspace ends.
    pub(crate) closing: CancellationToken,
    pub(crate) counters: Counters,
    /// What is known of how the actors went.
    pub(crate) record: Record,
    pub(crate) health: Monitor,
    pub(crate) attendant: Attendant,
    pub(crate) pushing: Pushing,
    /// The order of the uploads to each path.
    pub(crate) paths: PathTurns,
    transport: Transport,
    link: RefCell<Link>,
    /// What goes on although nobody waits for it: the processes of commands that are being ended.
    pub(crate) tasks: TaskTracker,
}

/// The way to the server as it is now.
struct Link {
    /// No other link of this process has it.
    id: u64,
    connection: Connection,
    /// Absent until it is needed, and again when it was not needed for a while: 10,000 idle workspaces hold no socket.
    client: Option<AgentClient>,
    /// Counts the clients there were, so that whoever drops idle ones knows which he was told of.
    generation: u64,
    last_use: Instant,
    /// Whether the client was needed again soon after there had been one, as by a workspace that runs one command after another.
    returns: bool,
    /// Cancelled when this link is replaced. Held by those who want to know.
    replaced: Weak<CancellationToken>,
}

/// What happened on a workspace so far.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) commands_started: Cell<u64>,
    pub(crate) commands_finished: Cell<u64>,
    pub(crate) polls: Cell<u64>,
    pub(crate) poll_failures: Cell<u64>,
    pub(crate) starts_recovered: Cell<u64>,
    pub(crate) output_bytes: Cell<u64>,
    pub(crate) keepalives: Cell<u64>,
    pub(crate) pushed_events: Cell<u64>,
    pub(crate) retries: Cell<u64>,
}

/// Counts one more.
pub(crate) fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl Core {
    pub(crate) fn new(mut config: WorkspaceConfig, tls: &SharedTls) -> Rc<Self> {
        // Longer than any clock can hold would overflow where deadlines are made of these.
        config.max_outage = config.max_outage.min(LONGEST_BOUND);
        config.max_queue_wait = config.max_queue_wait.min(LONGEST_BOUND);
        config.retry_for = config.retry_for.min(LONGEST_BOUND);
        config.limits = config.client_limits();
        let link = Link {
            id: new_link_id(),
            connection: config.connection.clone(),
            client: None,
            generation: 0,
            last_use: Instant::now(),
            returns: false,
            replaced: Weak::new(),
        };
        Rc::new(Self {
            queue: StepQueue::new(config.max_concurrent_steps, config.max_queued_steps),
            feed: Feed::default(),
            closing: CancellationToken::new(),
            counters: Counters::default(),
            record: Record::default(),
            health: Monitor::default(),
            attendant: Attendant::default(),
            pushing: Pushing::default(),
            paths: PathTurns::default(),
            transport: transport(tls),
            link: RefCell::new(link),
            tasks: TaskTracker::new(),
            config,
        })
    }

    /// The client of the current link.
    pub(crate) fn client(self: &Rc<Self>) -> Result<AgentClient, Failure> {
        let mut link = self.link.borrow_mut();
        let now = Instant::now();
        let rested = now.duration_since(std::mem::replace(&mut link.last_use, now));
        if let Some(client) = &link.client {
            return Ok(client.clone());
        }
        let observer = LinkObserver::of(self);
        let client = AgentClient::observed(&link.connection, &self.transport, self.config.limits, observer)?;
        link.client = Some(client.clone());
        link.returns = link.generation > 0 && rested < warm::IDLE;
        link.generation += 1;
        warm::keep(self, link.generation);
        Ok(client)
    }

    /// Whether its client is likely to be needed again soon: a command runs, or one command follows another.
    pub(super) fn needs_client_soon(&self) -> bool {
        self.feed.len() > 0 || self.link.borrow().returns
    }

    /// Gives the client of this generation up, if it was not used for so long and is not in use.
    pub(super) fn idle_client(&self, generation: u64, patience: Duration) -> Held {
        let mut link = self.link.borrow_mut();
        match &link.client {
            Some(client) if link.generation == generation => {
                if client.is_in_use() {
                    return Held::InUse;
                }
                if link.last_use.elapsed() < patience {
                    return Held::Kept;
                }
            }
            _ => return Held::Other,
        }
        if link.replaced.strong_count() == 0 {
            // It would keep the room of what it stood for.
            link.replaced = Weak::new();
        }
        link.client.take().map_or(Held::Other, Held::Idle)
    }

    /// The way to the server as it is now, and a number by which it is told apart from all others.
    #[cfg(feature = "service")]
    pub(crate) fn way(&self) -> (u64, Connection) {
        let link = self.link.borrow();
        (link.id, link.connection.clone())
    }

    /// Cancelled when the current link is replaced.
    pub(crate) fn link_replaced(&self) -> Rc<CancellationToken> {
        let mut link = self.link.borrow_mut();
        link.replaced.upgrade().unwrap_or_else(|| {
            let replaced = Rc::default();
            link.replaced = Rc::downgrade(&replaced);
            replaced
        })
    }

    /// Holds no connection until the next request, where none is needed for a command that runs.
    pub(crate) fn rest(&self) {
        if self.feed.len() == 0 {
            self.link.borrow_mut().client = None;
        }
    }

    /// Drops the connections. What is under way keeps its own until it ends.
    pub(crate) fn reset_client(&self) {
        {
            let mut link = self.link.borrow_mut();
            link.client = None;
            link.id = new_link_id();
        }
        self.health.new_link();
        self.pushing.new_link();
        self.attendant.moved();
    }

    /// Goes on under another address, key or headers.
    pub(crate) fn replace_connection(&self, connection: Connection) -> Result<(), Failure> {
        // A client that cannot be built, for want of its CA file say, must not replace one that works.
        let client = AgentClient::new(&connection, &self.transport, self.config.limits)?;
        drop(client);
        let mut link = self.link.borrow_mut();
        link.connection = connection;
        link.id = new_link_id();
        link.client = None;
        if let Some(replaced) = std::mem::take(&mut link.replaced).upgrade() {
            replaced.cancel();
        }
        // Another server has another clock.
        self.feed.forget_time();
        self.health.new_link();
        self.pushing.new_link();
        self.attendant.moved();
        Ok(())
    }

    /// Takes the next place in the queue, on behalf of whoever asks now.
    pub(crate) fn enter(&self) -> Result<impl Future<Output = Result<Permit, Refused>> + use<>, Refused> {
        self.queue.enter(Behalf::current().is_under_way())
    }

    /// Waits for a place in the queue; gives up when the caller is gone or the wait is too long, and at once when the
    /// server is away.
    pub(crate) async fn turn(
        &self,
        place: Result<impl Future<Output = Result<Permit, Refused>>, Refused>,
        caller: Option<&CancellationToken>,
    ) -> Result<Permit, Failure> {
        let place = place.map_err(|refused| self.refusal(refused))?;
        self.health.check()?;
        let limit = self.config.max_queue_wait;
        let gone = async {
            match caller {
                Some(caller) => caller.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let permit = tokio::select! {
            biased;
            () = gone => return Err(stopped("the caller gave up before its turn")),
            permit = place => permit,
            () = actix_rt::time::sleep(limit) => {
                return Err(overloaded(format!(
                    "its turn did not come within {limit:?}; send fewer at once, or raise `max_queue_wait`"
                )));
            }
        };
        let permit = permit.map_err(|refused| self.refusal(refused))?;
        // While this step waited the server may have gone away.
        self.health.check().map(|()| permit)
    }

    /// Why there is no place for a step.
    fn refusal(&self, refused: Refused) -> Failure {
        match refused {
            Refused::Full { waiting } => overloaded(format!(
                "{waiting} steps are waiting already; send fewer at once, or raise `max_queued_steps`"
            )),
            Refused::Closed => self.record.refusal(),
        }
    }

    /// Takes no step any more, and ends what runs.
    pub(crate) fn close(&self) {
        self.queue.close();
        self.closing.cancel();
        self.health.end();
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let (running_steps, waiting_steps) = self.queue.load();
        Snapshot {
            name: self.config.name.clone(),
            running_steps,
            waiting_steps,
            running_commands: self.feed.len(),
            commands_started: self.counters.commands_started.get(),
            commands_finished: self.counters.commands_finished.get(),
            polls: self.counters.polls.get(),
            poll_failures: self.counters.poll_failures.get(),
            starts_recovered: self.counters.starts_recovered.get(),
            output_bytes: self.counters.output_bytes.get(),
            restarts: self.record.restarts.get(),
            command_restarts: self.record.command_restarts.get(),
            last_failure: self.record.last_failure(),
            stopped: self.record.closed(),
            keepalives: self.counters.keepalives.get(),
            pushed_events: self.counters.pushed_events.get(),
            retries: self.counters.retries.get(),
            pushed: self.pushing.live_for().is_some(),
            health: self.health.health(),
            connected: self.link.borrow().client.is_some() || self.pushing.live_for().is_some(),
        }
    }
}

fn new_link_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn overloaded(reason: String) -> Failure {
    Failure::not_sent(ErrorKind::Overloaded { reason })
}

fn stopped(reason: &str) -> Failure {
    Failure::not_sent(ErrorKind::Stopped { reason: reason.to_owned() })
}

/// The transport of this arbiter: its resolver cache and dialer are shared by all workspaces that live on it.
fn transport(tls: &SharedTls) -> Transport {
    thread_local! {
        static OF_THIS_ARBITER: RefCell<Option<Transport>> = const { RefCell::new(None) };
    }
    OF_THIS_ARBITER.with_borrow_mut(|transport| transport.get_or_insert_with(|| Transport::new(tls)).clone())
}
