//! How much memory this process takes.

use std::fs;

/// Memory taken since it was made.
pub(crate) struct Peak {
    before: u64,
}

impl Peak {
    /// Begins to watch.
    pub(crate) fn begin() -> Self {
        // Makes the peak start anew from what is taken now.
        fs::write("/proc/self/clear_refs", "5").expect("the peak can be reset");
        Self { before: status("VmRSS:") }
    }

    /// How many bytes more than at the beginning were taken at the worst moment.
    pub(crate) fn bytes(&self) -> u64 {
        status("VmHWM:").saturating_sub(self.before)
    }
}

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc/self/status can be read");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kilobytes << 10
}
