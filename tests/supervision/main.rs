//! Status, drain, removal and giving up, against the embedded agent server in this process.

mod abandoned;
mod churn;
mod drain;
mod removal;
mod scene;
mod status;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
