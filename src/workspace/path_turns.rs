//! The order of the uploads to one remote path.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Lets one upload to a path begin when the one before has ended.
#[derive(Default)]
pub(crate) struct PathTurns(RefCell<HashMap<String, Arc<Mutex<()>>>>);

impl PathTurns {
    /// Waits for its turn, which lasts until the answer is dropped.
    pub(crate) async fn turn(&self, path: &str) -> OwnedMutexGuard<()> {
        let turns = {
            let mut paths = self.0.borrow_mut();
            // Whoever has a turn, or waits for one, holds it.
            paths.retain(|_, turns| Arc::strong_count(turns) > 1);
            paths.entry(plain(path)).or_default().clone()
        };
        turns.lock_owned().await
    }
}

/// The path without what says nothing. Links are unknown here: two names of one file are two paths.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, poll};

    use super::*;

    #[actix_rt::test]
    async fn one_path_has_one_turn_at_a_time_in_the_order_asked_for() {
        let turns = PathTurns::default();
        let first = turns.turn("/a/b").await;
        assert!(turns.turn("/a/c").now_or_never().is_some(), "another path");
        let (mut second, mut third) = (Box::pin(turns.turn("//a/./b")), Box::pin(turns.turn("/a/x/../b")));
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        drop(first);
        assert!(poll!(&mut third).is_pending());
        let second = second.await;
        assert!(poll!(&mut third).is_pending());
        drop(second);
        drop(third.await);
        drop(turns.turn("/z").await);
        assert_eq!(turns.0.borrow().len(), 1, "nothing is kept of what is over");
    }
}
