use std::path::PathBuf;

use super::suggest;

/// Why the targets could not be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// The inventory, or a hostfile, can not be read.
    #[error("can not read {}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The program that prints the inventory did not.
    #[error("the inventory program {} {reason}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What it did.
        reason: String,
    },
    /// The service that was asked for its workspaces did not tell them.
    #[error("the service {url} {reason}")]
    Service {
        /// Its address.
        url: String,
        /// What it did, and what to do about it.
        reason: String,
    },
    /// Something in a file is wrong.
    #[error("{file}:{line}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong and how to write it.
        reason: String,
    },
    /// A target that was not given in a file is wrong.
    #[error("target `{target}`: {reason}")]
    BadTarget {
        /// The target as it was written.
        target: String,
        /// What is wrong and how to write it.
        reason: String,
    },
    /// An address is wrong.
    #[error("{reason}")]
    BadUrl {
        /// What is wrong and how to write it; the address in it is without what may be a password.
        reason: String,
    },
    /// An inventory is needed and there is none.
    #[error(
        "no inventory found ({why}): looked for {}; write one, name one with --inventory FILE, or give targets by URL, \
         as in -w http://127.0.0.1:8000",
        list_of_paths(searched)
    )]
    NoInventory {
        /// What it is needed for.
        why: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// The inventory has no workspace of this name.
    #[error("{}unknown workspace `{name}`: {} has none of that name{}", place(origin), inventory.display(), hint(name, nearest))]
    UnknownWorkspace {
        /// The name.
        name: String,
        /// File and line that ask for it, where a file does.
        origin: Option<String>,
        /// The inventory that was searched.
        inventory: PathBuf,
        /// Names in it that are spelled alike.
        nearest: Vec<String>,
    },
    /// The inventory lacks workspaces of a range.
    #[error(
        "{}{} of the {of} workspaces of `{pattern}` {} not in {}: {}{}",
        place(origin), unknown, if *unknown == 1 { "is" } else { "are" }, inventory.display(), suggest::all(first),
        if *unknown > first.len() { " and more" } else { "" }
    )]
    UnknownOfRange {
        /// The range as it was written.
        pattern: String,
        /// File and line that ask for it, where a file does.
        origin: Option<String>,
        /// The inventory that was searched.
        inventory: PathBuf,
        /// The first of the names that it lacks.
        first: Vec<String>,
        /// How many it lacks.
        unknown: usize,
        /// How many names the range stands for.
        of: usize,
    },
    /// A pattern matches no workspace of the inventory.
    #[error("no workspace selected: {}`{pattern}` matches none of the {total} workspaces of {}{hint}", place(origin), inventory.display())]
    NoMatch {
        /// The pattern as it was written.
        pattern: String,
        /// File and line that ask for it, where a file does.
        origin: Option<String>,
        /// The inventory that was searched.
        inventory: PathBuf,
        /// How many workspaces it has.
        total: usize,
        /// What may have been meant.
        hint: String,
    },
    /// An exclusion names what is neither selected nor known.
    #[error(
        "-x `{name}`: no target has that name{}; an exclusion with a slip in it would exclude nothing",
        hint(name, nearest)
    )]
    UnknownExclusion {
        /// The name.
        name: String,
        /// Targets that are spelled alike.
        nearest: Vec<String>,
    },
    /// The environment variable that should hold a session key does not.
    #[error("{origin}: {reason}")]
    Key {
        /// What asks for the variable.
        origin: String,
        /// Which variable, and what is wrong with it.
        reason: String,
    },
    /// Nothing was selected.
    #[error("no workspace selected: {reason}")]
    Empty {
        /// Why that is.
        reason: String,
    },
}

impl InventoryError {
    /// Whether the request was sound and selects nothing.
    #[must_use]
    pub const fn is_empty_selection(&self) -> bool {
        matches!(self, Self::Empty { .. } | Self::NoMatch { .. })
    }
}

fn list_of_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
}

fn place(origin: &Option<String>) -> String {
    origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default()
}

/// What a name that is not in the inventory may have been meant to be.
pub(super) fn hint(name: &str, nearest: &[String]) -> String {
    if !nearest.is_empty() {
        return format!("; did you mean {}?", suggest::list(nearest));
    }
    if name.contains(['.', ':', '/']) {
        return format!("; if it is an address, write http://{name} or https://{name}");
    }
    String::new()
}
