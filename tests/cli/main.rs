//! The built binary, as people and scripts see it.
#![cfg(feature = "cli")]

mod bad_input;
mod commands;
mod config;
mod directories;
mod interrupt;
mod json;
mod readme;
mod selection;
mod support;
mod targets;
mod transfers;
