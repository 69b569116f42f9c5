use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The id of an event or a command: 32 hex digits without dashes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Uuid);

/// A text that is not an [`EventId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id: expected 32 hex digits, as in 0f8fad5bd9cb469fa16570867728950e")]
pub struct InvalidEventId(String);

impl EventId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// A new id that is larger than all that were made before on this machine.
    #[cfg(feature = "service")]
    #[must_use]
    pub fn now() -> Self {
        Self(Uuid::now_v7())
    }

    /// When an id was made that grows with time.
    #[cfg(feature = "service")]
    pub(crate) fn made(self) -> Option<jiff::Timestamp> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        jiff::Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok()
    }

    /// The id that follows from this one for these words: always the same, and no other id's.
    pub(crate) fn derived(self, words: &[&[u8]]) -> Self {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        hash.update(self.0.as_bytes());
        for word in words {
            // With its length before it no word can pass for two.
            hash.update(&(word.len() as u64).to_le_bytes());
            hash.update(word);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finish().as_ref()[..16]);
        Self(Uuid::from_bytes(bytes))
    }

    /// One of 256 ids, for fuzz tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) const fn nth(number: u8) -> Self {
        Self(Uuid::from_u128(number as u128 + 1))
    }

    /// The id of nothing: all zeros.
    #[must_use]
    pub const fn nil() -> Self {
        Self(Uuid::nil())
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    /// Reads an id with or without dashes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidEventId(text.chars().take(80).collect()))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.simple(), f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = [0; uuid::fmt::Simple::LENGTH];
        serializer.serialize_str(self.0.simple().encode_lower(&mut buffer))
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = EventId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id of 32 hex digits")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EventId, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_and_writes_the_short_one() {
        let dashed: EventId = "0f8fad5b-d9cb-469f-a165-70867728950e".parse().unwrap();
        let short: EventId = serde_json::from_str("\"0f8fad5bd9cb469fa16570867728950e\"").unwrap();
        assert_eq!(dashed, short);
        assert_eq!(serde_json::to_string(&short).unwrap(), "\"0f8fad5bd9cb469fa16570867728950e\"");
    }

    #[test]
    fn rejects_other_texts_by_name() {
        let error = "../../etc".parse::<EventId>().unwrap_err();
        assert!(error.to_string().contains("`../../etc`"), "{error}");
    }
}
