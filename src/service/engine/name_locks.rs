use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::lock;

/// One lock for each name: what is done under one name holds up nothing under another.
#[derive(Default)]
pub(super) struct NameLocks(Mutex<HashMap<String, Arc<Turn<()>>>>);

/// The lock of a name, until this is dropped.
pub(super) struct NameLock<'a> {
    locks: &'a NameLocks,
    name: String,
    turn: Arc<Turn<()>>,
    held: Option<OwnedMutexGuard<()>>,
}

impl NameLocks {
    pub(super) async fn lock(&self, name: &str) -> NameLock<'_> {
        let turn = Arc::clone(lock(&self.0).entry(name.to_owned()).or_default());
        // It is made before it waits, so that its name is forgotten also when nobody waits any more.
        let mut waiting = NameLock { locks: self, name: name.to_owned(), turn, held: None };
        waiting.held = Some(Arc::clone(&waiting.turn).lock_owned().await);
        waiting
    }
}

impl Drop for NameLock<'_> {
    fn drop(&mut self) {
        drop(self.held.take());
        let mut locks = lock(&self.locks.0);
        // Nobody else waits: the other one is that of the list.
        if Arc::strong_count(&self.turn) == 2 {
            locks.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_name_is_locked_for_itself_and_forgotten_afterwards() {
        let locks = NameLocks::default();
        let first = locks.lock("a").await;
        assert!(locks.lock("a").now_or_never().is_none(), "it is held");
        assert!(locks.lock("b").now_or_never().is_some(), "another name is free");
        let mut second = Box::pin(locks.lock("a"));
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        let second = second.await;
        assert_eq!(lock(&locks.0).len(), 1);
        drop(second);
        assert_eq!(lock(&locks.0).len(), 0, "no name stays");
    }
}
