//! How many workspaces the limit of open files leaves room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many open files a running target takes at most in the usual case: the connections for its requests and its polls, one
/// for a transfer, and the local file of that.
pub const FILES_PER_TARGET: usize = 4;

/// What is left for everything else: output, temporary files, name resolution.
const RESERVE: usize = 32;

/// Allows as many open files as this process may have: the usual limit of 1024 is there for the sake of programs that use
/// `select`. Returns the limit as it is then; `None` is no limit.
///
/// Programs that embed the library call it when they begin, if at all: the limit is the whole process's.
pub fn raise_open_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        log::info!("the limit of open files stays at {:?}: {error}", limit.current);
    }
    getrlimit(Resource::Nofile).current
}

/// How many targets can run at once within the limit of open files, with what is open now left aside and some in reserve.
/// `None` is no limit, and 0 is no room for a single one.
///
/// `files_per_target` is how many files each of them takes: [`FILES_PER_TARGET`], or more when the agent servers are in this
/// process as well.
#[must_use]
pub fn fanout_for_open_files(files_per_target: usize) -> Option<usize> {
    let limit = usize::try_from(getrlimit(Resource::Nofile).current?).unwrap_or(usize::MAX);
    Some(room(limit, open_files(), files_per_target))
}

fn room(limit: usize, open: usize, files_per_target: usize) -> usize {
    limit.saturating_sub(open).saturating_sub(RESERVE) / files_per_target.max(1)
}

/// How many files are open. Where that can not be told, as many as a small program has.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(RESERVE, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_divided() {
        assert_eq!(room(1024, 24, 4), 242);
        assert_eq!(room(100, 70, 4), 0);
        assert_eq!(room(usize::MAX, 5, 0), usize::MAX - 5 - RESERVE);
    }

    #[test]
    fn open_files_are_counted() {
        let before = open_files();
        let held: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close files meanwhile.
        assert!(open_files() > 50 && before > 2, "{before}");
        drop(held);
    }
}
