//! The connections of a client.

use std::{cell::RefCell, rc::Rc, time::Duration};

use awc::{Client, Connector, http::header::HeaderMap};

use super::{
    dialer::{Dialer, Route},
    limits::ClientLimits,
    watch::Watch,
};

/// How long an idle connection is kept. Shorter than uvicorn's five seconds, so that requests do not meet its closing.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// An awc client and what is known of its connections.
#[derive(Clone)]
pub(super) struct Lent {
    pub(super) client: Client,
    pub(super) watch: Rc<Watch>,
}

impl Lent {
    /// A client with no connection yet.
    pub(super) fn fresh(route: &Rc<Route>, headers: &HeaderMap, limits: &ClientLimits, duplex: bool) -> Self {
        let watch = Rc::<Watch>::default();
        let patience = limits.connect_timeout;
        let dialer = Dialer { route: Rc::clone(route), watch: Rc::clone(&watch), duplex, patience };
        let connector = Connector::new()
            .connector(dialer)
            // The dialer's own bound comes first, since its failure says more.
            .timeout(patience * 2)
            .limit(limits.connections)
            .conn_keep_alive(KEEP_ALIVE);
        // The redirect middleware would send the session key to whatever host an answer names.
        let builder = Client::builder().connector(connector).disable_timeout().disable_redirects();
        let builder = headers.iter().fold(builder, |builder, header| builder.add_default_header(header));
        Self { client: builder.finish(), watch }
    }
}

/// A client that is made when it is first needed, and again when one of its connections must not be used again.
#[derive(Default)]
pub(super) struct Pool(RefCell<Option<Lent>>);

impl Pool {
    /// Drops the client. Requests under way go on.
    pub(super) fn close(&self) {
        self.0.take();
    }

    /// The pool's client.
    pub(super) fn lend(&self, make: impl FnOnce() -> Lent) -> Lent {
        let mut held = self.0.borrow_mut();
        match &*held {
            Some(lent) if !lent.watch.is_tainted() => lent.clone(),
            _ => held.insert(make()).clone(),
        }
    }
}
