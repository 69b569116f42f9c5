//! The limit of open files of this process, which is raised for it and not for what it starts.

use std::sync::OnceLock;

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// The limit before it was first raised.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Allows as many open files as this process may have: the usual limit of 1024 is there for the sake of programs that use
/// `select`.
pub(crate) fn raise() -> Result<(), Errno> {
    let limit = getrlimit(Resource::Nofile);
    let _ = BEFORE.set(limit);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}

/// Gives a process that this one has started the limit of before. Programs that are one of those go on with it.
#[cfg(feature = "agent")]
pub(crate) fn lower_for(pid: rustix::process::Pid) {
    if let Some(before) = BEFORE.get() {
        // One that has ended needs none.
        let _ = rustix::process::prlimit(Some(pid), Resource::Nofile, *before);
    }
}
