//! The inventory as JSON, as programs print it.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;
use toml::Spanned;

use super::file::{At, Fields, SecretText};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(borrow, default)]
    workspace: Vec<&'a RawValue>,
}

/// The fields of TOML, which come with their places there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonFields {
    name: String,
    host: String,
    api_key: Option<SecretText>,
    api_key_env: Option<String>,
    working_dir: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, SecretText>,
    api_prefix: Option<String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Reads the workspaces, each with its place in the text.
pub(super) fn read(text: &str) -> Result<Vec<Spanned<Fields>>, At> {
    let document: Document<'_> = serde_json::from_str(text).map_err(|error| at(text, 0, &error))?;
    let entry = |raw: &RawValue| {
        // The raw value is a part of the text.
        let begin = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        let fields: JsonFields = serde_json::from_str(raw.get()).map_err(|error| at(raw.get(), begin, &error))?;
        Ok(Spanned::new(begin..begin + raw.get().len(), fields.at(begin)))
    };
    document.workspace.into_iter().map(entry).collect()
}

impl JsonFields {
    fn at(self, begin: usize) -> Fields {
        fn placed<T>(begin: usize) -> impl Fn(T) -> Spanned<T> {
            move |value| Spanned::new(begin..begin, value)
        }
        Fields {
            name: placed(begin)(self.name),
            host: placed(begin)(self.host),
            api_key: self.api_key,
            api_key_env: self.api_key_env.map(placed(begin)),
            working_dir: self.working_dir,
            headers: self.headers.into_iter().map(|(name, value)| (name, placed(begin)(value))).collect(),
            api_prefix: self.api_prefix.map(placed(begin)),
            ca_file: self.ca_file.map(placed(begin)),
            labels: self.labels,
        }
    }
}

/// What is wrong, and where: the error is of a part of the text that begins at `begin`.
fn at(part: &str, begin: usize, error: &serde_json::Error) -> At {
    let line_begins = part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let offset = begin + (line_begins + error.column().saturating_sub(1)).min(part.len());
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    // What was found in place of something may be a secret.
    let message = match message.split_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid ") => format!("expected {expected}"),
        _ => message.to_owned(),
    };
    (offset, message)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::inventory::Inventory;

    fn message(text: &str) -> String {
        Inventory::parse(Path::new("inv"), text).unwrap_err().to_string()
    }

    #[test]
    fn json_has_the_fields_of_toml() {
        let text = r#"
            {"workspace": [
                {"name": "a", "host": "http://h:1", "api_key": "hush", "labels": {"tier": "gpu"}, "working_dir": null},
                {"name": "b", "host": "https://h:2", "api_key_env": "K", "headers": {"X-A": "hush"}, "ca_file": "ca.pem"}
            ]}"#;
        let inventory = Inventory::parse(Path::new("/etc/inv"), text).unwrap();
        assert_eq!(inventory.len(), 2);
        assert_eq!(inventory.get("a").unwrap().labels["tier"], "gpu");
        let config = inventory.get("b").unwrap().config(String::new, &|_| Some("k".to_owned())).unwrap();
        assert!(format!("{config:?}").contains("/etc/ca.pem"), "{config:?}");
        assert!(!format!("{inventory:?}").contains("hush"));
        assert!(Inventory::parse(Path::new("inv"), "{}").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, why) in [
            ("{\n\"workspace\": [\n", 3, "EOF"),
            ("{\"workspace\": [\n{\"name\": \"a\",\n\"hots\": \"h\"}]}", 3, "unknown field `hots`"),
            ("{\"workspace\": [\n{\"name\": \"a\"}]}", 2, "missing field `host`"),
            ("{\"workspace\": [\n\n{\"name\": \"a\", \"host\": \"h:1\"}]}", 3, "http://h:1"),
            (
                "{\"workspace\": [{\"name\": \"a\", \"host\": \"http://h\",\n\"headers\": \"hush\"}]}",
                2,
                "expected a map",
            ),
            ("{\"workspace\": [{\"name\": \"a\", \"host\": \"http://h\",\n\"api_key\": 77001}]}", 2, "in quotes"),
            ("{\"hosts\": []}", 1, "unknown field `hosts`"),
            (
                "{\"workspace\": [{\"name\": \"a\", \"host\": \"http://h\"},\n{\"name\": \"a\", \"host\": \"http://h\"}]}",
                2,
                "taken by the workspace in line 1",
            ),
        ] {
            let message = message(text);
            assert!(message.starts_with(&format!("inv:{line}: ")) && message.contains(why), "{text}\n=> {message}");
            assert!(!message.contains("hush") && !message.contains("77001"), "{message}");
        }
    }
}
