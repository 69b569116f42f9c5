use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

/// A secret text, the session key above all, which is never printed.
#[derive(Clone)]
pub struct SessionKey(SecretString);

impl SessionKey {
    /// The key's text, for the one header or frame that carries it.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for SessionKey {
    fn from(key: String) -> Self {
        Self(SecretString::from(key))
    }
}

impl From<&str> for SessionKey {
    fn from(key: &str) -> Self {
        Self(SecretString::from(key))
    }
}

impl From<SecretString> for SessionKey {
    fn from(key: SecretString) -> Self {
        Self(key)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}
