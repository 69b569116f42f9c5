//! Which workspaces are meant: names, patterns and addresses from flags and hostfiles, looked up in an inventory: a file, or
//! what a program prints.
//!
//! [`TargetQuery`] says what was asked for, [`Inventory`] what is known, and [`resolve`] turns the two into the
//! [configurations](crate::workspace::WorkspaceConfig) of the workspaces, each once. Nothing here connects to anything.

mod entry;
mod error;
mod file;
mod hostfile;
mod json;
mod locate;
mod name;
mod program;
mod resolve;
pub(crate) mod suggest;
mod target;

pub use entry::InventoryEntry;
pub use error::InventoryError;
pub use file::Inventory;
pub use hostfile::parse_hostfile;
pub use locate::{FILE_NAME, find_inventory};
pub use name::check_name;
pub use program::{InventoryProgram, is_program};
pub use resolve::{Lookup, TargetQuery, UrlDefaults, resolve};
pub use target::{Target, parse_target_list};

pub use crate::fleet::{InvalidLabel, LabelCondition, LabelFilter};
