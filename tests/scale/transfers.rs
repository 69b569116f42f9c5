//! Files of any size go both ways and take no more memory than small ones.
//!
//! `WSFLEET_BIG_TRANSFER` says how large the file is, in MiB.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{agent::Agent, pattern, watch};

/// The size when nothing else is said, in MiB.
const USUAL: u64 = 256;

/// The size of a small one: its transfer takes long enough for the most memory that it takes to be seen.
const SMALL: u64 = 64;

/// How much more memory a large file may take than a small one.
const GROWTH: u64 = 16 << 20;

#[test]
fn a_large_file_takes_no_more_memory_than_a_small_one() {
    let mib = std::env::var("WSFLEET_BIG_TRANSFER").ok().and_then(|text| text.parse().ok()).unwrap_or(USUAL);
    let folder = TempDir::new().unwrap();
    let agent = Agent::start(folder.path(), &["k1"]);
    let small = there_and_back(&agent, folder.path(), SMALL << 20);
    let large = there_and_back(&agent, folder.path(), mib << 20);
    for (way, small, large) in [("up", small.0, large.0), ("down", small.1, large.1)] {
        let grown = large.peak.saturating_sub(small.peak);
        println!(
            "{mib} MiB {way}: {:?}, {} KiB at most, {} KiB more than {SMALL} MiB",
            large.took,
            large.peak >> 10,
            grown >> 10
        );
        assert!(grown < GROWTH, "{mib} MiB {way} took {} MiB more memory than {SMALL} MiB", grown >> 20);
    }
}

struct Transfer {
    peak: u64,
    took: Duration,
}

/// Uploads a file and downloads it again; fails unless it comes back as it was.
fn there_and_back(agent: &Agent, folder: &Path, size: u64) -> (Transfer, Transfer) {
    let [source, there, back] = ["source", "there", "back"].map(|name| folder.join(name));
    pattern::file(&source, size).unwrap();
    let up = transfer(agent, "upload", &source, &there);
    let down = transfer(agent, "download", &there, &back);
    assert!(pattern::same(&source, &there).unwrap(), "{size} bytes did not arrive as they were sent");
    assert!(pattern::same(&source, &back).unwrap(), "{size} bytes did not come back as they were sent");
    for file in [source, there, back] {
        std::fs::remove_file(file).unwrap();
    }
    (up, down)
}

fn transfer(agent: &Agent, what: &str, from: &Path, to: &Path) -> Transfer {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_wsfleet"))
        .arg(what)
        .args([from, to])
        .args(["-w", &format!("http://127.0.0.1:{}", agent.port), "--api-key-env", "KEY"])
        .env("KEY", "k1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (code, peak) = watch(&mut child);
    assert_eq!(code, Some(0), "{what}");
    Transfer { peak, took: began.elapsed() }
}
