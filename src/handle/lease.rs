use super::Workspace;
use crate::{fleet::LeaseGuard, messages::Held};

/// A workspace that somebody has for themselves: no other lease and no job of a run has it at the same time.
///
/// Runs that do the same on each of their workspaces need no lease and are not held up by one. Dropping it gives the
/// workspace back as [`release`](Self::release) does, in the background, or to nobody when the thread panics or
/// [`on_drop`](Self::on_drop) says so.
#[must_use = "dropping it gives the workspace back"]
pub struct Lease {
    workspace: Workspace,
    guard: LeaseGuard,
    /// Keeps the sandbox from being reaped although nothing is asked of it.
    _held: Option<Held>,
}

/// What becomes of a workspace when its [`Lease`] is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeaseDrop {
    /// It is given back.
    #[default]
    Release,
    /// Nobody gets it until it is [restored](crate::Fleet::restore).
    Quarantine,
}

impl Lease {
    pub(super) const fn new(workspace: Workspace, guard: LeaseGuard, held: Option<Held>) -> Self {
        Self { workspace, guard, _held: held }
    }

    /// The workspace. Clones of the handle still work when the lease has ended; they are not to be used then.
    #[must_use]
    pub const fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Sets what becomes of the workspace when the lease is dropped. Default: it is given back.
    pub fn on_drop(&mut self, on_drop: LeaseDrop) {
        self.guard.quarantine_on_drop = on_drop == LeaseDrop::Quarantine;
    }

    /// Gives the workspace back. Returns when it is free: what was begun through [`workspace`](Self::workspace) and its clones is
    /// waited for, with the processes of commands that were stopped, for 30 s at most. What others do there is not. After
    /// that nobody gets it until it is [restored](crate::Fleet::restore).
    pub async fn release(self) {
        self.guard.give_back(None).await;
    }

    /// Gives the workspace to nobody until it is [restored](crate::Fleet::restore), because it is not fit for use.
    pub async fn quarantine(self, reason: impl Into<String>) {
        self.guard.give_back(Some(reason.into())).await;
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("workspace", &self.guard.name()).finish_non_exhaustive()
    }
}
