use std::cell::RefCell;

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use secrecy::{ExposeSecret, SecretString};

use super::{
    connection,
    http::{ApiError, ApiResult},
    state::AgentState,
};
use crate::protocol::SESSION_KEY_HEADER;

/// The keys of which a request must carry one.
pub(crate) struct SessionKeys(RefCell<Vec<SecretString>>);

impl SessionKeys {
    pub(crate) fn new(keys: Vec<SecretString>) -> Self {
        Self(RefCell::new(keys))
    }

    /// Accepts these keys from now on, and no others.
    pub(crate) fn replace(&self, keys: Vec<SecretString>) {
        *self.0.borrow_mut() = keys;
    }

    /// Whether everyone is let in.
    pub(crate) fn is_open(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Whether this key lets a request in. The time it takes does not tell how much of a wrong key was right.
    pub(crate) fn accepts(&self, presented: Option<&[u8]>) -> bool {
        if self.is_open() {
            return true;
        }
        let Some(presented) = presented else { return false };
        self.0.borrow().iter().fold(false, |found, key| found | same_bytes(key.expose_secret().as_bytes(), presented))
    }
}

pub(super) fn same_bytes(expected: &[u8], presented: &[u8]) -> bool {
    expected.len() == presented.len()
        && expected.iter().zip(presented).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

/// The key that a request carries in its header.
pub(crate) fn presented_key(request: &HttpRequest) -> Option<&[u8]> {
    request.headers().get(SESSION_KEY_HEADER).map(|value| value.as_bytes())
}

/// Proof that a request carried a valid session key. A handler that takes it as an argument answers 401 without one.
pub(crate) struct Authorized;

impl Authorized {
    /// Checks a request's header.
    pub(crate) fn check(request: &HttpRequest) -> ApiResult<Self> {
        let accepted =
            request.app_data::<web::Data<AgentState>>().is_some_and(|state| state.keys.accepts(presented_key(request)));
        if !accepted {
            return Err(ApiError::unauthorized());
        }
        connection::admit(request);
        Ok(Self)
    }
}

impl FromRequest for Authorized {
    type Error = ApiError;
    type Future = std::future::Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Self::check(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_key_is_accepted() {
        let keys = SessionKeys::new(vec!["one".into(), "two".into()]);
        assert!(keys.accepts(Some(b"one")) && keys.accepts(Some(b"two")));
        for wrong in [&b""[..], b"on", b"onee", b"TWO"] {
            assert!(!keys.accepts(Some(wrong)));
        }
        assert!(!keys.accepts(None));
        assert!(SessionKeys::new(Vec::new()).accepts(None));
    }
}
