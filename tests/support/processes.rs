//! Which processes run, as `/proc` tells. The sandboxes of the tests are directories of this machine.

use std::{fs, path::Path};

/// The living processes that run in a directory or below it, as `pid: command line`.
///
/// Every process of a command is there, whatever it did to its session, its parent or its command line.
pub(crate) fn running_in(directory: &Path) -> Vec<String> {
    processes().filter(|pid| runs_in(pid, directory)).map(|pid| format!("{pid}: {}", command_line(&pid))).collect()
}

/// The command lines of all processes.
pub(crate) fn command_lines() -> Vec<String> {
    processes().map(|pid| command_line(&pid)).collect()
}

/// The processes whose environment has this text, by id.
pub(crate) fn with_environment(text: &str) -> Vec<u32> {
    let has = |pid: &String| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == text.as_bytes()))
    };
    processes().filter(has).filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process of this number runs. One that has ended may wait to be reaped.
pub(crate) fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn processes() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").expect("/proc can be read");
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a process runs there. That of a dead process cannot be read, nor can a zombie's.
fn runs_in(pid: &str, directory: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory))
}

fn command_line(pid: &str) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}
