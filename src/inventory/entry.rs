use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::InventoryError;
use crate::{Connection, SessionKey, WorkspaceConfig};

/// One workspace of an inventory.
#[derive(Debug, Clone)]
pub struct InventoryEntry {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The directory to which its git paths are joined.
    pub working_dir: Option<String>,
    pub(super) connection: Connection,
    pub(super) key: Key,
    /// Where in the file it begins, in bytes.
    pub(super) offset: usize,
}

/// Where a session key comes from.
#[derive(Clone)]
pub(super) enum Key {
    /// The server asks for none.
    None,
    /// The file says it.
    Here(SessionKey),
    /// An environment variable says it.
    Variable(String),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Here(_) => f.write_str("Here(..)"),
            Self::Variable(name) => f.debug_tuple("Variable").field(name).finish(),
        }
    }
}

impl InventoryEntry {
    /// What makes a workspace of it. The session key is looked up now, so that a missing one is told only to those who
    /// selected the workspace.
    pub(super) fn config(
        &self,
        origin: impl FnOnce() -> String,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<WorkspaceConfig, InventoryError> {
        let mut connection = self.connection.clone();
        match &self.key {
            Key::None => {}
            Key::Here(key) => connection = connection.with_api_key(key.clone()),
            Key::Variable(name) => connection = connection.with_api_key(key_from(name, origin, variable)?),
        }
        let mut config = WorkspaceConfig::new(&self.name, connection);
        config.labels.clone_from(&self.labels);
        config.working_dir.clone_from(&self.working_dir);
        Ok(config)
    }
}

/// The session key that an environment variable holds.
pub(super) fn key_from(
    name: &str,
    origin: impl FnOnce() -> String,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<SessionKey, InventoryError> {
    match variable(name) {
        Some(key) if !key.trim().is_empty() => Ok(SessionKey::from(key)),
        found => {
            let what = if found.is_some() { "empty" } else { "not set (or not valid Unicode)" };
            let reason =
                format!("the environment variable {name}, which holds the session key, is {what}; export it first");
            Err(InventoryError::Key { origin: origin(), reason })
        }
    }
}

/// A path of the inventory, seen from where the inventory is.
pub(super) fn beside(inventory: &Path, path: &Path) -> PathBuf {
    inventory.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
}
