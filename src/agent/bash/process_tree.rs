use std::{
    collections::{HashMap, HashSet},
    fs,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::{Instant, sleep};

use super::environment::COMMAND_VARIABLE;
use crate::protocol::EventId;

/// How long the processes of a command have between TERM and KILL.
const GRACE: Duration = Duration::from_secs(1);
/// How long KILL is repeated before the agent gives up on a process that does not go.
const PATIENCE: Duration = Duration::from_secs(4);

/// A command whose processes are to be ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) id: EventId,
    /// Its shell, which leads a session and a process group. It must not have been waited for yet: until then the system
    /// gives its number to no other process.
    pub(super) leader: Pid,
}

/// Ends every process of a command: TERM, and after [`GRACE`] KILL, until none is left.
///
/// A process belongs to a command when it is in the session or process group of the command's shell, when its environment
/// carries the command's mark, or when it descends from such a process. What escapes is a process that has emptied its
/// environment, left the session and lost its parents before this looks. Nothing else is ever touched.
pub(super) async fn end_all(target: Target) {
    let grace_ends = Instant::now() + GRACE;
    let _ = kill_process_group(target.leader, Signal::TERM);
    let mut told = HashSet::new();
    let (mut pause, mut empty_scans) = (Duration::from_millis(2), 0);
    loop {
        let found = tokio::task::spawn_blocking(move || members(target)).await.unwrap_or_default();
        // A process may fork while the list is read and be missed with its child once, but hardly twice.
        empty_scans = if found.is_empty() { empty_scans + 1 } else { 0 };
        if empty_scans == 2 {
            return;
        }
        let now = Instant::now();
        if now >= grace_ends + PATIENCE {
            log::warn!("command {}: {} processes do not end", target.id, found.len());
            return;
        }
        for member in found {
            if now >= grace_ends {
                let _ = kill_process(member.pid, Signal::KILL);
            } else if told.insert(member.pid) && member.group != target.leader {
                let _ = kill_process(member.pid, Signal::TERM);
            }
        }
        // Sleeps no longer than to the end of the grace.
        sleep(pause.min(grace_ends.saturating_duration_since(now).max(Duration::from_millis(2)))).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// A process as the system lists it.
#[derive(Debug, Clone, Copy)]
struct Process {
    pid: Pid,
    parent: Option<Pid>,
    group: Pid,
    session: Pid,
}

/// The living processes of a command. Blocks.
fn members(target: Target) -> Vec<Process> {
    let own = rustix::process::getpid();
    let processes: Vec<_> = list_processes().into_iter().filter(|process| process.pid != own).collect();
    let mark = format!("{COMMAND_VARIABLE}={}", target.id);
    let is_member = |process: &Process| {
        process.session == target.leader || process.group == target.leader || carries(process.pid, mark.as_bytes())
    };
    let mut children: HashMap<Pid, Vec<Process>> = HashMap::new();
    for process in &processes {
        if let Some(parent) = process.parent {
            children.entry(parent).or_default().push(*process);
        }
    }
    let mut found: Vec<_> = processes.iter().copied().filter(is_member).collect();
    let mut known: HashSet<_> = found.iter().map(|process| process.pid).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        let born = children.get(&parent).into_iter().flatten().filter(|child| known.insert(child.pid));
        found.extend(born.copied());
        next += 1;
    }
    found
}

/// Every process that is not dead yet.
fn list_processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// Reads `/proc/PID/stat`; `None` for a process that is dead and only waits to be noticed.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    // The name in parentheses may itself hold spaces and parentheses.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    let mut number = || fields.next()?.parse::<i32>().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    let [pid, group, session] = [pid, group, session].map(Pid::from_raw);
    Some(Process { pid: pid?, parent: Pid::from_raw(parent), group: group?, session: session? })
}

/// Whether a process was started with this entry in its environment.
fn carries(pid: Pid, entry: &[u8]) -> bool {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_pid())).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|found| found == entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let process = parse_stat(42, "42 (a) b (c) S 7 8 9 0 -1 4194560").unwrap();
        let numbers = [process.parent.unwrap(), process.group, process.session].map(Pid::as_raw_pid);
        assert_eq!(numbers, [7, 8, 9]);
    }

    #[test]
    fn the_dead_are_not_listed() {
        assert!(parse_stat(42, "42 (x) Z 7 8 9 0").is_none());
        assert!(parse_stat(42, "garbage").is_none());
    }
}
