//! The built binary, as people and scripts see it.
#![cfg(feature = "cli")]

mod bad_input;
mod commands;
mod config;
mod detach;
mod directories;
mod help;
mod interrupt;
mod json;
mod junit;
mod passage;
mod policies;
mod readme;
mod schema;
mod selection;
mod sinks;
mod steps;
mod support;
mod targets;
mod terminal;
mod transfers;
