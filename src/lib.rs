//! A runtime that drives many remote workspaces at once.
pub mod protocol;
