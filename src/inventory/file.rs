use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    InventoryError,
    entry::{InventoryEntry, Key, beside},
    json,
    name::check_name,
    suggest,
};
use crate::{Connection, SessionKey};

/// The known workspaces, read from a file such as
///
/// ```toml
/// [[workspace]]
/// name = "build-1"
/// host = "https://gateway.example/s/abc"
/// api_key_env = "BUILD_KEY"        # or api_key = "..."
/// working_dir = "/workspace"
/// headers = { X-Team = "blue" }
/// api_prefix = "/api"
/// ca_file = "ca.pem"               # seen from this file
/// labels = { tier = "gpu" }
/// ```
///
/// or the same as JSON: `{"workspace": [{"name": "build-1", "host": "https://gateway.example/s/abc"}]}`. A text that begins
/// with `{` is JSON.
#[derive(Debug, Clone)]
pub struct Inventory {
    file: PathBuf,
    entries: Vec<InventoryEntry>,
    by_name: HashMap<String, usize>,
    /// Where each line begins, to tell the line of an entry.
    lines: Vec<usize>,
}

/// The keys of the file.
const TOP_KEYS: [&str; 1] = ["workspace"];
/// The keys of a workspace.
const KEYS: [&str; 9] =
    ["name", "host", "api_key", "api_key_env", "working_dir", "headers", "api_prefix", "ca_file", "labels"];

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    workspace: Vec<Spanned<Fields>>,
}

/// A workspace as it is written.
#[derive(Deserialize)]
pub(super) struct Fields {
    pub(super) name: Spanned<String>,
    pub(super) host: Spanned<String>,
    pub(super) api_key: Option<SecretText>,
    pub(super) api_key_env: Option<Spanned<String>>,
    pub(super) working_dir: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Spanned<SecretText>>,
    pub(super) api_prefix: Option<Spanned<String>>,
    pub(super) ca_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

/// A text that no message repeats, not even when it is not a text.
pub(super) struct SecretText(String);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer) {
            Ok(toml::Value::String(text)) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("expected a string, in quotes")),
        }
    }
}

/// A message about a place in the file.
pub(super) type At = (usize, String);

impl Inventory {
    /// Reads an inventory file.
    ///
    /// # Errors
    /// The file can not be read, or a line of it is wrong.
    pub fn load(file: &Path) -> Result<Self, InventoryError> {
        let unreadable = |reason: String| InventoryError::Unreadable { file: file.to_owned(), reason };
        let bytes = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
        Self::from_bytes(file, bytes)
    }

    /// Reads an inventory that is in memory. Its relative paths are seen from where `file` is, and messages name `file`.
    ///
    /// # Errors
    /// It is not UTF-8, or a line of it is wrong.
    pub fn from_bytes(file: &Path, bytes: Vec<u8>) -> Result<Self, InventoryError> {
        let text = String::from_utf8(bytes).map_err(|error| InventoryError::Unreadable {
            file: file.to_owned(),
            reason: format!("byte {} is not UTF-8; save it as UTF-8", error.utf8_error().valid_up_to()),
        })?;
        Self::parse(file, &text)
    }

    /// Reads an inventory from a text. Its relative paths are seen from where `file` is, and messages name `file`.
    ///
    /// # Errors
    /// A line of it is wrong.
    pub fn parse(file: &Path, text: &str) -> Result<Self, InventoryError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut inventory = Self { file: file.to_owned(), entries: Vec::new(), by_name: HashMap::new(), lines };
        match inventory.read(text) {
            Ok(()) => Ok(inventory),
            Err((offset, reason)) => Err(InventoryError::Malformed {
                file: file.display().to_string(),
                line: inventory.line(offset),
                reason,
            }),
        }
    }

    fn read(&mut self, text: &str) -> Result<(), At> {
        let workspaces = if text.trim_start().starts_with('{') {
            json::read(text)?
        } else {
            let table = DeTable::parse(text).map_err(|error| at(&error))?;
            check_keys(table.get_ref())?;
            File::deserialize(toml::Deserializer::from(table)).map_err(|error| at(&error))?.workspace
        };
        self.entries.reserve(workspaces.len());
        self.by_name.reserve(workspaces.len());
        for fields in workspaces {
            let offset = fields.span().start;
            let entry = read_entry(&self.file, offset, fields.into_inner())?;
            if let Some(first) = self.by_name.insert(entry.name.clone(), self.entries.len()) {
                let line = self.line(self.entries[first].offset);
                return Err((offset, format!("the name `{}` is taken by the workspace in line {line}", entry.name)));
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    /// The file it was read from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How many workspaces it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no workspace.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The workspaces, in the order of the file.
    pub fn entries(&self) -> impl Iterator<Item = &InventoryEntry> {
        self.entries.iter()
    }

    /// The workspace of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&InventoryEntry> {
        self.by_name.get(name).map(|&at| &self.entries[at])
    }

    /// Names that are spelled like this one, the nearest first.
    #[must_use]
    pub fn nearest(&self, name: &str) -> Vec<String> {
        suggest::nearest(name, self.entries.iter().map(|entry| entry.name.as_str()))
    }

    /// File and line of a workspace, for messages.
    pub(super) fn origin(&self, entry: &InventoryEntry) -> String {
        format!("{}:{}", self.file.display(), self.line(entry.offset))
    }

    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|&begin| begin <= offset).max(1)
    }
}

/// Refuses keys that mean nothing, which serde could only refuse without saying what was meant.
fn check_keys(table: &DeTable<'_>) -> Result<(), At> {
    known(table, &TOP_KEYS, "the file")?;
    let Some(workspaces) = table.get("workspace") else { return Ok(()) };
    let DeValue::Array(workspaces) = workspaces.get_ref() else {
        let reason = "`workspace` must be a list: begin each workspace with [[workspace]], in two pairs of brackets";
        return Err((workspaces.span().start, reason.to_owned()));
    };
    for workspace in workspaces.iter() {
        if let DeValue::Table(fields) = workspace.get_ref() {
            known(fields, &KEYS, "a workspace")?;
        }
    }
    Ok(())
}

fn known(table: &DeTable<'_>, keys: &[&str], whose: &str) -> Result<(), At> {
    let unknown = table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref()));
    // The table is sorted by name; the reader starts at the top.
    let Some(key) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
    let near = suggest::nearest(key.get_ref(), keys.iter().copied());
    let hint = if near.is_empty() {
        format!("{whose} has {}", keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
    } else {
        format!("did you mean {}?", suggest::list(&near))
    };
    Err((key.span().start, format!("unknown key `{}`; {hint}", key.get_ref())))
}

fn read_entry(file: &Path, offset: usize, fields: Fields) -> Result<InventoryEntry, At> {
    check_name(fields.name.get_ref()).map_err(|reason| (fields.name.span().start, reason))?;
    let host = &fields.host;
    let mut connection =
        Connection::new(host.get_ref()).map_err(|failure| (host.span().start, failure.kind.to_string()))?;
    for (name, value) in fields.headers {
        let begin = value.span().start;
        connection = connection
            .with_header(&name, SessionKey::from(value.into_inner().0))
            .map_err(|failure| (begin, failure.kind.to_string()))?;
    }
    if let Some(prefix) = &fields.api_prefix {
        connection = connection
            .with_api_prefix(prefix.get_ref())
            .map_err(|failure| (prefix.span().start, failure.kind.to_string()))?;
    }
    if let Some(ca_file) = &fields.ca_file {
        connection = connection.with_ca_file(beside(file, ca_file.get_ref()));
    }
    let key = match (fields.api_key, fields.api_key_env) {
        (None, None) => Key::None,
        (Some(key), None) => Key::Here(SessionKey::from(key.0)),
        (None, Some(variable)) => Key::Variable(variable.into_inner()),
        (Some(_), Some(variable)) => {
            return Err((variable.span().start, "give `api_key` or `api_key_env`, not both".to_owned()));
        }
    };
    let Fields { name, working_dir, labels, .. } =
        Fields { headers: BTreeMap::new(), api_key: None, api_key_env: None, ..fields };
    Ok(InventoryEntry { name: name.into_inner(), labels, working_dir, connection, key, offset })
}

/// What toml says, without its drawing of the place.
fn at(error: &toml::de::Error) -> At {
    let offset = error.span().map_or(0, |span| span.start);
    (offset, error.message().trim().replace('\n', "; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Inventory, InventoryError> {
        Inventory::parse(Path::new("/etc/fleet/wsfleet.toml"), text)
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    const FULL: &str = r#"
        [[workspace]]
        name = "build-1"
        host = "https://gw.example/s/abc/"
        api_key = "hush-key"
        working_dir = "/workspace"
        headers = { X-Team = "hush-header" }
        api_prefix = "/api/conversations/7"
        ca_file = "ca.pem"
        labels = { tier = "gpu" }

        [[workspace]]
        name = "build-2"
        host = "http://10.0.0.2:8000"
        api_key_env = "BUILD_KEY"
    "#;

    #[test]
    fn every_key_is_read() {
        let inventory = parse(FULL).unwrap();
        let first = inventory.get("build-1").unwrap();
        assert_eq!(first.connection.display_name(), "gw.example:443/s/abc");
        assert_eq!(first.working_dir.as_deref(), Some("/workspace"));
        assert_eq!(first.labels["tier"], "gpu");
        let config = first.config(String::new, &|_| None).unwrap();
        let shown = format!("{config:?}");
        assert!(shown.contains("/etc/fleet/ca.pem") && shown.contains("/api/conversations/7"), "{shown}");
        assert!(shown.contains("X-Team"), "{shown}");
        assert_eq!(inventory.entries().count(), 2);
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", parse(FULL).unwrap());
        assert!(!shown.contains("hush"), "{shown}");
    }

    #[test]
    fn a_key_from_the_environment_is_looked_up_when_it_is_needed() {
        let inventory = parse(FULL).unwrap();
        let second = inventory.get("build-2").unwrap();
        let config = |value: Option<&str>| second.config(|| inventory.origin(second), &|_| value.map(str::to_owned));
        assert!(config(Some("k")).is_ok());
        let message = config(None).unwrap_err().to_string();
        assert!(message.starts_with("/etc/fleet/wsfleet.toml:12: ") && message.contains("BUILD_KEY"), "{message}");
        assert!(config(Some(" ")).unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_what_was_meant() {
        let text = "# ours\n[[workspace]]\nname = \"a\"\nhots = \"http://h\"\n";
        assert_eq!(message(text), "/etc/fleet/wsfleet.toml:4: unknown key `hots`; did you mean `host`?");
        let text = "[[workspace]]\nname = \"a\"\nzzz = 1\n";
        assert!(message(text).contains(":3: unknown key `zzz`; a workspace has `name`, `host`"), "{}", message(text));
        assert!(message("[[workspaces]]\n").contains("did you mean `workspace`?"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let entry = |rest: &str| format!("[[workspace]]\nname = \"a\"\nhost = \"http://h\"\n{rest}\n");
        for (text, line, why) in [
            ("\na = [\n".to_owned(), 2, "unclosed array"),
            ("[[workspace]]\nname = \"a\"\n".to_owned(), 1, "missing field `host`"),
            ("[[workspace]]\nname = \"a\"\nhost = \"10.0.0.1:80\"\n".to_owned(), 3, "http://10.0.0.1:80"),
            ("[[workspace]]\nname = \"a b\"\nhost = \"http://h\"\n".to_owned(), 2, "must not stand in a name"),
            ("\n[workspace]\nname = \"a\"\n".to_owned(), 2, "[[workspace]]"),
            (entry("labels = { gpu = true }"), 4, "expected a string"),
            (entry("api_prefix = \"api\""), 4, "must start with `/`"),
            (entry("headers = { \"X A\" = \"v\" }"), 4, "X A"),
            (entry("api_key = \"k\"\napi_key_env = \"K\""), 5, "not both"),
            (entry("\n[[workspace]]\nname = \"a\"\nhost = \"http://i\""), 5, "taken by the workspace in line 1"),
        ] {
            let message = message(&text);
            let place = format!("/etc/fleet/wsfleet.toml:{line}: ");
            assert!(message.starts_with(&place) && message.contains(why), "{text}\n=> {message}");
        }
    }

    #[test]
    fn a_wrong_secret_is_not_repeated() {
        for secret in ["[\"hush\"]", "77001", "1979-05-27"] {
            let text = format!("[[workspace]]\nname = \"a\"\nhost = \"http://h\"\napi_key = {secret}\n");
            let message = message(&text);
            assert!(message.contains(":4: ") && message.contains("in quotes"), "{message}");
            assert!(!message.contains("hush") && !message.contains("77001") && !message.contains("05-27"), "{message}");
        }
        let text = "[[workspace]]\nname = \"a\"\nhost = \"http://h\"\nheaders = { X-A = \"hush\\u0000\" }\n";
        assert!(!message(text).contains("hush"), "{}", message(text));
    }

    #[test]
    fn an_empty_file_is_an_empty_inventory() {
        assert_eq!(parse("").unwrap().entries().count(), 0);
    }
}
