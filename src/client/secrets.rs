//! What no message may show, even if a server repeats it.

use std::{borrow::Cow, cell::RefCell, cmp::Reverse};

use super::key::SessionKey;
use crate::Failure;

/// Shorter ones are no secrets, and are in too many words.
const SHORTEST: usize = 4;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// The secrets that a client has sent: its session key, the values of its connection's own headers, and keys to wake a
/// server with.
pub(super) struct Secrets(RefCell<Vec<SessionKey>>);

impl Secrets {
    pub(super) fn new<'a>(known: impl Iterator<Item = &'a SessionKey>) -> Self {
        let secrets = Self(RefCell::default());
        known.for_each(|secret| secrets.add(secret));
        secrets
    }

    /// Hides one more from now on, as itself and as it stands in JSON.
    pub(super) fn add(&self, secret: &SessionKey) {
        let secret = secret.expose();
        if secret.len() < SHORTEST {
            return;
        }
        let mut known = self.0.borrow_mut();
        let quoted = serde_json::Value::from(secret).to_string();
        for form in [secret, &quoted[1..quoted.len() - 1]] {
            if !known.iter().any(|known| known.expose() == form) {
                known.push(SessionKey::from(form));
            }
        }
        // One that is a part of another must not leave the rest of it.
        known.sort_by_key(|secret| Reverse(secret.expose().len()));
    }

    /// The same failure without them.
    pub(super) fn hide(&self, mut failure: Failure) -> Failure {
        if let Some(words) = failure.kind.words_mut()
            && let Cow::Owned(hidden) = self.without(words)
        {
            *words = hidden;
        }
        failure
    }

    /// The same bytes without them. Where words of an answer are cut, this comes first: of a secret across the cut the
    /// beginning would be left.
    pub(super) fn without_in<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match self.without(&String::from_utf8_lossy(bytes)) {
            Cow::Owned(hidden) => Cow::Owned(hidden.into_bytes()),
            Cow::Borrowed(_) => Cow::Borrowed(bytes),
        }
    }

    /// The same words without them.
    pub(super) fn without<'a>(&self, words: &'a str) -> Cow<'a, str> {
        let mut hidden = Cow::Borrowed(words);
        for secret in self.0.borrow().iter().map(SessionKey::expose) {
            if hidden.contains(secret) {
                hidden = Cow::Owned(hidden.replace(secret, HIDDEN));
            }
        }
        hidden
    }

    /// Reads something; a failure that repeats what it read has none of them.
    pub(super) fn reading<T>(&self, bytes: &[u8], read: impl Fn(&[u8]) -> Result<T, Failure>) -> Result<T, Failure> {
        read(bytes).map_err(|failure| self.told_of(bytes, failure, |hidden| read(hidden).err()))
    }

    /// A failure that repeats what was read, without them. `again` reads the same bytes without them.
    pub(super) fn told_of(
        &self,
        bytes: &[u8],
        failure: Failure,
        again: impl FnOnce(&[u8]) -> Option<Failure>,
    ) -> Failure {
        self.hide(match self.without_in(bytes) {
            Cow::Owned(hidden) => again(&hidden).unwrap_or(failure),
            Cow::Borrowed(_) => failure,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{
        excerpt::excerpt,
        socket::{closed, event},
    };

    fn secrets(known: &[&str]) -> Secrets {
        let known: Vec<_> = known.iter().copied().map(SessionKey::from).collect();
        Secrets::new(known.iter())
    }

    #[test]
    fn no_part_of_a_secret_is_left_where_words_are_cut() {
        let secrets = secrets(&["sesame-open"]);
        for before in 60..80 {
            let words = format!("{}sesame-open and more words", "x".repeat(before));
            let failure = secrets.reading(words.as_bytes(), |words| Err::<(), _>(Failure::protocol(excerpt(words))));
            let text = failure.unwrap_err().to_string();
            assert!(text.contains("***") || before > 77, "{text}");
            assert!(!text.contains("xs"), "{text}");
        }
    }

    #[test]
    fn the_longest_secret_goes_first_and_short_ones_are_none() {
        let secrets = secrets(&["sesame", "abc", "sesame-open", "quo\"te"]);
        assert_eq!(secrets.without("abc sesame sesame-open"), "abc *** ***");
        assert_eq!(secrets.without(r#"quo"te and quo\"te"#), "*** and ***");
        assert_eq!(secrets.without("open"), "open");
        secrets.add(&"open".into());
        assert_eq!(secrets.without("open sesame"), "*** ***");
    }

    #[test]
    fn what_the_event_socket_repeats_is_hidden() {
        let secrets = secrets(&["sesame-open"]);
        for before in [0, 3_900, 3_950, 3_990, 4_000] {
            let text = format!(r#""{}sesame-open""#, "x".repeat(before));
            let failure = secrets.reading(text.as_bytes(), event).unwrap_err().to_string();
            assert!(!failure.contains("sesame") && !failure.contains("xs"), "{failure}");
        }
        for code in [1002, 1011, 4001] {
            let reason = awc::ws::CloseReason { code: code.into(), description: Some("not sesame-open".to_owned()) };
            let failure = secrets.hide(closed(Some(reason)).unwrap_err()).to_string();
            assert!(failure.contains("not ***"), "{failure}");
        }
    }
}
