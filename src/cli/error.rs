use std::fmt;

use super::exit;
use crate::inventory::InventoryError;

/// Why nothing could be run, in one message, and what the process exits with.
#[derive(Debug)]
pub(super) struct CliError {
    pub(super) code: u8,
    pub(super) message: String,
}

impl CliError {
    /// The request is wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { code: exit::USAGE, message: message.into() }
    }

    /// The program failed.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self { code: exit::INTERNAL_ERROR, message: message.into() }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<InventoryError> for CliError {
    fn from(error: InventoryError) -> Self {
        let code = match &error {
            error if error.is_empty_selection() => exit::NOTHING_SELECTED,
            // It is where all of them are reached.
            InventoryError::Service { .. } => exit::WORKSPACE_UNUSABLE,
            _ => exit::USAGE,
        };
        Self { code, message: error.to_string() }
    }
}
