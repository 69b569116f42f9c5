//! What this process holds.

use std::fs;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// In bytes.
    pub(crate) memory: u64,
    pub(crate) files: usize,
    pub(crate) threads: usize,
}

impl Held {
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let memory =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        let count = |path: &str| fs::read_dir(path).unwrap().count();
        Self { memory: memory.unwrap_or(0) << 10, files: count("/proc/self/fd"), threads: count("/proc/self/task") }
    }
}
