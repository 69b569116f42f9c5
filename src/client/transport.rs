use std::{fmt, rc::Rc};

use super::{resolver::Resolver, tls::SharedTls};

/// What all clients of one thread share: the resolver's cache and the TLS configurations. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    pub(super) tls: SharedTls,
    pub(super) resolver: Rc<Resolver>,
}

impl Transport {
    /// A transport for the clients of this thread.
    #[must_use]
    pub fn new(shared: &SharedTls) -> Self {
        Self { tls: shared.clone(), resolver: Rc::default() }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}
