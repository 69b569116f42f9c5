use actix_rt::{Arbiter, ArbiterHandle};

/// The arbiters that carry workspaces, one a core, and how many each carries.
pub(super) struct Placement {
    arbiters: Vec<(Arbiter, usize)>,
}

/// The place of one workspace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize);

impl Placement {
    /// Starts the arbiters.
    pub(super) fn new(count: usize) -> Self {
        Self { arbiters: (0..count.max(1)).map(|_| (Arbiter::new(), 0)).collect() }
    }

    /// Takes a place on the arbiter that carries the fewest.
    pub(super) fn take(&mut self) -> (Place, ArbiterHandle) {
        let (at, (arbiter, carried)) = self
            .arbiters
            .iter_mut()
            .enumerate()
            .min_by_key(|(_, (_, carried))| *carried)
            .unwrap_or_else(|| unreachable!("there is always an arbiter"));
        *carried += 1;
        (Place(at), arbiter.handle())
    }

    /// Gives a place back.
    pub(super) fn give_back(&mut self, Place(at): Place) {
        if let Some((_, carried)) = self.arbiters.get_mut(at) {
            *carried -= 1;
        }
    }

    /// The arbiters.
    pub(super) fn arbiters(&self) -> impl Iterator<Item = ArbiterHandle> {
        self.arbiters.iter().map(|(arbiter, _)| arbiter.handle())
    }

    /// Ends the arbiters, and returns them to be waited for.
    pub(super) fn stop(&mut self) -> Vec<Arbiter> {
        let arbiters: Vec<_> = self.arbiters.drain(..).map(|(arbiter, _)| arbiter).collect();
        for arbiter in &arbiters {
            arbiter.stop();
        }
        arbiters
    }
}
