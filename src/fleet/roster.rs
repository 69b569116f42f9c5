//! The workspaces of one arbiter, for what is asked of all at once. Nothing here sends a message to an actor: ten thousand
//! answer in one visit to each thread, also those whose actor is being started again.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Instant};

use actix::dev::channel::AddressReceiver;
use futures::{StreamExt as _, stream::FuturesUnordered};

use super::{
    Selector,
    guardian::Guardian,
    status::{DrainedCommand, FleetStatus, Totals},
};
use crate::{
    RemoteWorkspace, Snapshot, WorkspaceConfig,
    client::SharedTls,
    workspace::{Core, HealthLight, drain, let_end, probe_while_idle},
};

thread_local! {
    /// A thread that carries workspaces belongs to one fleet.
    static ROSTER: RefCell<Roster> = RefCell::default();
}

#[derive(Default)]
struct Roster {
    /// By the number in which they were added.
    workspaces: HashMap<u64, Rc<Core>>,
    /// Whether no event socket may be open.
    suspended: bool,
    /// What was counted on workspaces that are no more.
    retired: Totals,
}

/// Starts a workspace with its guardian on this thread.
pub(super) fn admit(
    number: u64,
    config: WorkspaceConfig,
    tls: &SharedTls,
    light: HealthLight,
    mailbox: AddressReceiver<RemoteWorkspace>,
) {
    // It is made here since its client can not leave its thread.
    let core = Core::new(config, tls);
    core.health.show_on(light);
    probe_while_idle(&core);
    ROSTER.with_borrow_mut(|roster| {
        core.pushing.set_suspended(roster.suspended);
        roster.workspaces.insert(number, core.clone());
    });
    actix_rt::spawn(Guardian::new(core, mailbox, Listed(number)));
}

/// A workspace's line in the roster, which goes with its guardian.
struct Listed(u64);

impl Drop for Listed {
    fn drop(&mut self) {
        // While a thread ends its roster may be gone already.
        let _ = ROSTER.try_with(|roster| {
            let mut roster = roster.borrow_mut();
            if let Some(core) = roster.workspaces.remove(&self.0) {
                roster.retired.add(&core.snapshot());
            }
        });
    }
}

/// The workspaces of this thread that a selector picks, with their numbers.
pub(super) fn snapshots(selector: &Selector) -> Vec<(u64, Snapshot)> {
    ROSTER.with_borrow(|roster| {
        let picked = roster.workspaces.iter();
        let picked = picked.filter(|(_, core)| selector.picks(&core.config.name, &core.config.labels));
        picked.map(|(number, core)| (*number, core.snapshot())).collect()
    })
}

/// The sums over the workspaces of this thread.
pub(super) fn status() -> FleetStatus {
    ROSTER.with_borrow(|roster| {
        let mut status = FleetStatus { totals: roster.retired, ..FleetStatus::default() };
        roster.workspaces.values().for_each(|core| status.add_workspace(&core.snapshot()));
        status
    })
}

/// Closes the event sockets of this thread and opens none, or lets them be open again.
pub(super) async fn suspend(suspended: bool) {
    let cores: Vec<_> = ROSTER.with_borrow_mut(|roster| {
        roster.suspended = suspended;
        roster.workspaces.values().cloned().collect()
    });
    cores.iter().for_each(|core| core.pushing.set_suspended(suspended));
    for core in cores.iter().filter(|_| suspended) {
        core.pushing.closed().await;
    }
}

/// The workspaces of a thread whose work is to end.
pub(super) struct Draining {
    /// Each with how many ends of commands were noted before.
    cores: Vec<(Rc<Core>, usize)>,
    turned_away: usize,
}

/// How the work of this thread's workspaces ended.
#[derive(Default)]
pub(super) struct Drained {
    pub(super) commands: Vec<DrainedCommand>,
    pub(super) turned_away: usize,
    pub(super) unfinished_steps: usize,
}

/// Lets nothing begin any more on the workspaces of this thread, but for the further steps of what has begun.
pub(super) fn begin_drain(reason: &str) -> Draining {
    let cores: Vec<_> = ROSTER.with_borrow(|roster| roster.workspaces.values().cloned().collect());
    let mut draining = Draining { cores: Vec::with_capacity(cores.len()), turned_away: 0 };
    for core in cores {
        let (turned_away, noted) = let_end(&core, reason);
        draining.turned_away += turned_away;
        draining.cores.push((core, noted));
    }
    draining
}

/// Drains all workspaces of this thread at once.
pub(super) async fn drain_all(draining: Draining, until: Instant) -> Drained {
    let mut all = Drained { turned_away: draining.turned_away, ..Drained::default() };
    let each = |(core, noted): (Rc<Core>, usize)| async move { (drain(core.clone(), until).await, core, noted) };
    let mut draining: FuturesUnordered<_> = draining.cores.into_iter().map(each).collect();
    while let Some((unfinished_steps, core, noted)) = draining.next().await {
        all.unfinished_steps += unfinished_steps;
        let ends = core.record.ends_since(noted).into_iter();
        all.commands.extend(ends.map(|(command_id, end)| DrainedCommand {
            workspace: core.config.name.clone(),
            command_id,
            end: end.into(),
        }));
    }
    all
}
