//! How many targets run at once, within the limit of open files.

use std::io::Write as _;

use super::error::CliError;
use crate::fleet::{FILES_PER_TARGET, fanout_for_open_files, raise_open_file_limit};

/// What an agent server of this process takes for one of its commands: the other ends of the connections, the streams of the
/// command, and what it keeps of them.
const FILES_OF_LOCAL: usize = 12;

/// The window for so many targets: the one that is asked for, or as wide as there is room.
///
/// # Errors
/// There is no room for a single target.
pub(super) fn fit(asked: usize, targets: usize, local: bool) -> Result<usize, CliError> {
    let limit = raise_open_file_limit();
    let each = FILES_PER_TARGET + if local { FILES_OF_LOCAL } else { 0 };
    let (Some(room), Some(limit)) = (fanout_for_open_files(each), limit) else { return Ok(asked) };
    if room == 0 {
        return Err(CliError::usage(format!(
            "at most {limit} files may be open, which leaves no room for a connection: raise the limit, as in ulimit -n 1024"
        )));
    }
    if asked.min(targets) <= room {
        return Ok(asked);
    }
    // A closed stderr can not be told.
    let _ = writeln!(
        std::io::stderr(),
        "wsfleet: {room} workspaces at once in place of {asked}: at most {limit} files may be open (ulimit -n)"
    );
    Ok(room)
}
