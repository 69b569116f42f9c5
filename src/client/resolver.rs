//! Name resolution with a short memory.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc, time::Duration};

use futures::{
    FutureExt as _,
    future::{LocalBoxFuture, Shared},
};
use tokio::time::Instant;

/// How long an answer is good for. Short, because a resumed sandbox may come back under another address.
const GOOD_FOR: Duration = Duration::from_secs(30);

/// How many names are kept before the old ones are looked through.
const MANY: usize = 1024;

type Answer = Result<Rc<[SocketAddr]>, Rc<str>>;

/// A resolver that asks the system once for all who wait for the same name.
#[derive(Default)]
pub(super) struct Resolver {
    names: RefCell<HashMap<(Rc<str>, u16), Entry>>,
}

#[derive(Clone)]
struct Entry {
    asked: Instant,
    answer: Shared<LocalBoxFuture<'static, Answer>>,
}

impl Resolver {
    /// The addresses of a host.
    pub(super) async fn look_up(&self, host: &Rc<str>, port: u16) -> Answer {
        let key = (Rc::clone(host), port);
        let entry = self.entry(&key);
        let answer = entry.answer.clone().await;
        if answer.is_err() {
            self.forget(&key.0, port);
        }
        answer
    }

    /// Asks again next time, because no address of the host could be reached.
    pub(super) fn forget(&self, host: &Rc<str>, port: u16) {
        self.names.borrow_mut().remove(&(Rc::clone(host), port));
    }

    fn entry(&self, key: &(Rc<str>, u16)) -> Entry {
        let mut names = self.names.borrow_mut();
        let now = Instant::now();
        if let Some(entry) = names.get(key).filter(|entry| now.duration_since(entry.asked) < GOOD_FOR) {
            return entry.clone();
        }
        if names.len() >= MANY {
            names.retain(|_, entry| now.duration_since(entry.asked) < GOOD_FOR);
        }
        let answer = ask(key.0.to_string(), key.1).boxed_local().shared();
        let entry = Entry { asked: now, answer };
        names.insert(key.clone(), entry.clone());
        entry
    }
}

async fn ask(host: String, port: u16) -> Answer {
    let found = tokio::net::lookup_host((host.as_str(), port)).await.map_err(|error| Rc::from(error.to_string()))?;
    let addresses: Rc<[SocketAddr]> = found.collect();
    if addresses.is_empty() {
        return Err(Rc::from("the name has no address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn an_answer_is_kept_and_a_failure_is_not() {
        let resolver = Resolver::default();
        let localhost: Rc<str> = Rc::from("localhost");
        let first = resolver.look_up(&localhost, 1).await.unwrap();
        assert!(Rc::ptr_eq(&first, &resolver.look_up(&localhost, 1).await.unwrap()));
        resolver.forget(&localhost, 1);
        assert!(!Rc::ptr_eq(&first, &resolver.look_up(&localhost, 1).await.unwrap()));

        let nowhere: Rc<str> = Rc::from("no\0where");
        assert!(resolver.look_up(&nowhere, 1).await.is_err());
        assert_eq!(resolver.names.borrow().len(), 1);
    }
}
