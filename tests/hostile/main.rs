//! Workspaces before servers that are broken or mean harm. Whatever they do, each thing asked of them ends in bounded time,
//! in bounded memory, with a right result or a right error; and no secret goes where it does not belong.

mod answers;
mod events;
#[path = "../cli/support.rs"]
#[allow(dead_code)]
mod place;
mod secrets;
mod server;
mod socket;
mod starts;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;
mod tls;

/// More memory than all tests of this program take together at any time, and much less than what is sent to them.
const MOST_MEMORY: u64 = 400 << 20;
