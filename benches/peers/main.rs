//! This runtime beside its peers, scenario by scenario, in one interleaved run.
//!
//! ```console
//! $ cargo bench --bench peers                     # all scenarios, and writes benches/RESULTS.md
//! $ cargo bench --bench peers -- one-workspace    # those whose name has this text in it, to the terminal alone
//! ```
//!
//! Each contender runs in a process of its own, in turns with the others, [`ROUNDS`](report::ROUNDS) times. The Python class
//! is found in `target/real-servers` (`tests/real-servers.sh target/real-servers`), or in the Python that `WSFLEET_PEERS_PYTHON`
//! names; `curl` and `wrk` in the path. A contender that is not there is left out, and the report says so. `WSFLEET_BENCH_ROUNDS` sets how
//! many rounds there are.

mod certificate;
mod counter;
mod peers;
mod process;
mod report;
mod scenarios;
mod stub;
mod workers;

use std::{path::Path, time::Duration};

use mimalloc::MiMalloc;
use process::Result;

/// As in the program `wsfleet`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> Result<()> {
    workspace_fleet::cli::give_memory_back_soon();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("--stub") => {
            let delay = Duration::from_millis(arguments.get(1).map_or(Ok(0), |delay| delay.parse())?);
            let tls = arguments.get(2).map(|file| certificate::Certificate::make(Path::new(file))).transpose()?;
            let tls = tls.map(certificate::Certificate::server);
            Ok(stub::serve(tls, delay)?)
        }
        Some("--text") => workers::text(arguments.get(1).map_or(Ok(0), |bytes| bytes.parse())?),
        Some(worker) if worker.starts_with("--worker=") => {
            let sample = workers::run(worker.trim_start_matches("--worker="), &arguments[1..])?;
            println!("{}", serde_json::to_string(&sample)?);
            Ok(())
        }
        filter => {
            let mut report = report::Report::default();
            scenarios::run(filter.unwrap_or_default(), &mut report)?;
            if filter.is_none() {
                report.write(Path::new("benches/RESULTS.md"))?;
            }
            match report.failures() {
                0 => Ok(()),
                failures => Err(format!("{failures} scenarios could not be run to their end").into()),
            }
        }
    }
}
