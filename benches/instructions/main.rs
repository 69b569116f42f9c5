//! Instructions and allocations of the hot paths, which are the same on a busy machine and on a quiet one.
//!
//! ```console
//! $ cargo bench --profile dev --features hot-paths --bench instructions              # held against the bounds
//! $ cargo bench --profile dev --features hot-paths --bench instructions -- --store   # the bounds of from now on
//! ```
//!
//! Needs `valgrind`. Each path is walked in a process of its own under callgrind. One command is the difference between 384 and 128 of them
//! over loopback, all threads of the client together; the server is another process and not counted. The bounds are in
//! `benches/instructions/bounds.json`: what is more than its tolerance above one fails. They are those of the development build, whose
//! dependencies every change builds anyway.

mod bounds;
mod counted;
#[path = "../peers/stub.rs"]
mod stub;
mod valgrind;

use std::{process::ExitCode, time::Duration};

use bounds::Bounds;
use valgrind::Collect;
use workspace_fleet::hot_paths::HOT_PATHS;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--stub"] => stub::serve(None, Duration::ZERO)?,
        ["--walk", path] => counted::walk(path)?,
        ["--commands", url, at_once, count] => counted::commands(url, at_once.parse()?, count.parse()?)?,
        [] => return Bounds::read()?.check(&measure()?),
        ["--store"] => Bounds::store(&measure()?)?,
        _ => return Err(format!("unknown arguments {arguments:?}: none are needed, or `--store`").into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// What was counted of each path, by its name.
fn measure() -> Result<Vec<(String, u64)>> {
    valgrind::find()?;
    let server = valgrind::Stub::start()?;
    let mut counts = Vec::new();
    for (name, at_once) in [("command", 1), ("command, 64 at once", 64)] {
        let [instructions] =
            server.each_command(at_once, |arguments| Ok([valgrind::instructions(arguments, Collect::All)?]))?;
        let [allocations, bytes] = server.each_command(at_once, valgrind::allocated)?;
        counts.push((format!("{name}: instructions"), instructions));
        counts.push((format!("{name}: allocations"), allocations));
        counts.push((format!("{name}: bytes allocated"), bytes));
    }
    for path in HOT_PATHS {
        let all = valgrind::instructions(&["--walk", path.name], Collect::Walks)?;
        counts.push((format!("{}: instructions", path.name), all / counted::WALKS));
    }
    Ok(counts)
}
