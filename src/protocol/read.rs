//! Reads events without keeping more of them than is known.
//!
//! What a derived reader does with a `kind` among the fields, it puts everything aside first, known or not, and that takes
//! many times the memory of the text. Here only the known fields are kept, and of what is no text or number nothing.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{BashCommand, BashErrorEvent, BashEvent, BashOutput, bash::default_timeout};

/// The most events of a page. No server gives more than a hundred.
const MOST_EVENTS: usize = 1_000;

/// The names of fields that mean something in an event of some kind.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    Kind,
    Id,
    Timestamp,
    CommandId,
    Order,
    ExitCode,
    Stdout,
    Stderr,
    Command,
    Cwd,
    Timeout,
    Code,
    Detail,
    #[serde(other)]
    Other,
}

/// What a field holds.
#[derive(Default)]
enum Said {
    #[default]
    Nothing,
    Text(String),
    Whole(i128),
    /// Something that no known field holds.
    Odd(&'static str),
}

/// What an event says, before it is known which kind it is.
#[derive(Default)]
struct Fields {
    kind: Said,
    id: Said,
    timestamp: Said,
    command_id: Said,
    order: Said,
    exit_code: Said,
    stdout: Said,
    stderr: Said,
    command: Said,
    cwd: Said,
    timeout: Said,
    code: Said,
    detail: Said,
}

impl Fields {
    fn place(&mut self, name: &Name) -> Option<&mut Said> {
        Some(match name {
            Name::Kind => &mut self.kind,
            Name::Id => &mut self.id,
            Name::Timestamp => &mut self.timestamp,
            Name::CommandId => &mut self.command_id,
            Name::Order => &mut self.order,
            Name::ExitCode => &mut self.exit_code,
            Name::Stdout => &mut self.stdout,
            Name::Stderr => &mut self.stderr,
            Name::Command => &mut self.command,
            Name::Cwd => &mut self.cwd,
            Name::Timeout => &mut self.timeout,
            Name::Code => &mut self.code,
            Name::Detail => &mut self.detail,
            Name::Other => return None,
        })
    }

    fn event<E: Error>(self) -> Result<BashEvent, E> {
        let kind: String = self.kind.needed("kind")?;
        Ok(match kind.as_str() {
            "BashCommand" => BashEvent::Command(BashCommand {
                command: self.command.needed("command")?,
                cwd: self.cwd.text("cwd")?,
                timeout: self.timeout.number("timeout")?.unwrap_or_else(default_timeout),
                id: self.id.parsed("id")?,
                timestamp: self.timestamp.parsed("timestamp")?,
                // Servers tell it with the answer to a start, and not in their log.
                instance_id: None,
            }),
            "BashOutput" => BashEvent::Output(BashOutput {
                id: self.id.parsed("id")?,
                timestamp: self.timestamp.parsed("timestamp")?,
                command_id: self.command_id.parsed("command_id")?,
                order: self.order.number("order")?.ok_or_else(|| E::missing_field("order"))?,
                exit_code: self.exit_code.number("exit_code")?,
                stdout: self.stdout.text("stdout")?,
                stderr: self.stderr.text("stderr")?,
            }),
            "BashError" => BashEvent::Error(BashErrorEvent {
                id: self.id.parsed("id")?,
                timestamp: self.timestamp.parsed("timestamp")?,
                code: self.code.needed("code")?,
                detail: self.detail.needed("detail")?,
            }),
            _ => BashEvent::Unknown,
        })
    }
}

impl Said {
    fn text<E: Error>(self, name: &str) -> Result<Option<String>, E> {
        match self {
            Self::Nothing => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            Self::Whole(number) => Err(E::custom(format_args!("`{name}` is {number} and not a text"))),
            Self::Odd(what) => Err(E::custom(format_args!("`{name}` is {what} and not a text"))),
        }
    }

    fn needed<E: Error>(self, name: &'static str) -> Result<String, E> {
        self.text(name)?.ok_or_else(|| E::missing_field(name))
    }

    fn parsed<E: Error, T: std::str::FromStr<Err: fmt::Display>>(self, name: &'static str) -> Result<T, E> {
        self.needed::<E>(name)?.parse().map_err(|error| E::custom(format_args!("`{name}`: {error}")))
    }

    fn number<E: Error, T: TryFrom<i128>>(self, name: &str) -> Result<Option<T>, E> {
        let number = match self {
            Self::Nothing => return Ok(None),
            Self::Whole(number) => number,
            Self::Text(_) => return Err(E::custom(format_args!("`{name}` is a text and not a whole number"))),
            Self::Odd(what) => return Err(E::custom(format_args!("`{name}` is {what} and not a whole number"))),
        };
        let number =
            T::try_from(number).map_err(|_| E::custom(format_args!("`{name}` is {number}, which is out of range")));
        number.map(Some)
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SaidVisitor)
    }
}

struct SaidVisitor;

impl<'de> Visitor<'de> for SaidVisitor {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Said, E> {
        Ok(Said::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Said, E> {
        Ok(Said::Text(text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Said, E> {
        Ok(Said::Whole(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Said, E> {
        Ok(Said::Whole(number.into()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Said, E> {
        Ok(Said::Odd("a number with a fraction, or one that is too large,"))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Said, E> {
        Ok(Said::Odd("true or false"))
    }

    fn visit_unit<E: Error>(self) -> Result<Said, E> {
        Ok(Said::Nothing)
    }

    fn visit_none<E: Error>(self) -> Result<Said, E> {
        Ok(Said::Nothing)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Said, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Said, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Said::Odd("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Said::Odd("an object"))
    }
}

impl<'de> Deserialize<'de> for BashEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = BashEvent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BashEvent, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key::<Name>()? {
            match fields.place(&name) {
                Some(place) => *place = map.next_value()?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        fields.event()
    }
}

/// Reads the events of a page, and no more of them than a page can have.
pub(super) fn page<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Page<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Page<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of events")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut events = Vec::new();
            while let Some(event) = list.next_element()? {
                if events.len() == MOST_EVENTS {
                    return Err(A::Error::custom(format_args!("the page has more than {MOST_EVENTS} events")));
                }
                events.push(event);
            }
            Ok(events)
        }
    }
    deserializer.deserialize_seq(Page(PhantomData))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::{BashEventPage, EventId};

    fn output() -> Value {
        json!({
            "id": "0f8fad5bd9cb469fa16570867728950e", "timestamp": "2026-01-02T03:04:05.000006Z",
            "command_id": "0f8fad5bd9cb469fa16570867728950f", "order": 3, "exit_code": -1, "stdout": "o", "stderr": null,
            "kind": "BashOutput",
        })
    }

    fn with(name: &str, value: Value) -> Result<BashEvent, String> {
        let mut event = output();
        event[name] = value;
        serde_json::from_str(&event.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        let command = json!({
            "id": "0f8fad5bd9cb469fa16570867728950e", "timestamp": "2026-01-02T03:04:05.000006Z", "command": "true",
            "cwd": "/", "timeout": 5, "kind": "BashCommand",
        });
        let error = json!({
            "id": "0f8fad5bd9cb469fa16570867728950e", "timestamp": "2026-01-02T03:04:05.000006Z", "code": "c",
            "detail": "d", "kind": "BashError",
        });
        for event in [output(), command, error] {
            let read: BashEvent = serde_json::from_str(&event.to_string()).unwrap();
            assert_ne!(read, BashEvent::Unknown);
            let written = serde_json::to_value(&read).unwrap();
            assert_eq!(written, event);
            assert_eq!(serde_json::from_value::<BashEvent>(written).unwrap(), read);
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (name, value, says) in [
            ("order", json!(-1), "`order` is -1"),
            ("order", json!(1e300), "`order` is a number with a fraction"),
            ("order", json!("3"), "`order` is a text"),
            ("order", json!(null), "missing field `order`"),
            ("exit_code", json!(1_i64 << 31), "`exit_code` is 2147483648"),
            ("stdout", json!([[]]), "`stdout` is a list"),
            ("stdout", json!({"a": 1}), "`stdout` is an object"),
            ("id", json!("../x"), "`id`"),
            ("timestamp", json!("yesterday"), "`timestamp`"),
            ("kind", json!(null), "missing field `kind`"),
        ] {
            let error = with(name, value.clone()).unwrap_err();
            assert!(error.contains(says), "{name} = {value}: {error}");
        }
        assert!(matches!(with("order", json!(u64::MAX)), Ok(BashEvent::Output(BashOutput { order: u64::MAX, .. }))));
        assert!(matches!(with("kind", json!("BashDream")), Ok(BashEvent::Unknown)));
    }

    #[test]
    fn a_page_has_a_bound() {
        let page = |count: usize| {
            let items = vec![r#"{"kind":"x"}"#; count].join(",");
            serde_json::from_str::<BashEventPage>(&format!(r#"{{"items":[{items}]}}"#))
        };
        assert_eq!(page(MOST_EVENTS).unwrap().items.len(), MOST_EVENTS);
        assert!(page(MOST_EVENTS + 1).unwrap_err().to_string().contains("more than 1000 events"));
    }

    proptest! {
        #[test]
        fn every_output_comes_back_as_it_was(
            order: u64, exit_code: Option<i32>, stdout: Option<String>, stderr: Option<String>, at in 0..4_000_000_000_000_000i64,
        ) {
            let timestamp = jiff::Timestamp::from_microsecond(at).unwrap();
            let (id, command_id) = (EventId::random(), EventId::random());
            let event = BashEvent::Output(BashOutput { id, timestamp, command_id, order, exit_code, stdout, stderr });
            let text = serde_json::to_string(&event).unwrap();
            prop_assert_eq!(serde_json::from_str::<BashEvent>(&text).unwrap(), event);
        }
    }
}
