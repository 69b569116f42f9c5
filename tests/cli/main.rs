//! The built binary, as people and scripts see it.
#![cfg(feature = "cli")]

mod bad_input;
mod commands;
mod interrupt;
mod json;
mod policies;
mod readme;
mod support;
mod targets;
mod transfers;
