use std::{io::Write as _, process::Command, time::Instant};

use crate::{
    peers::{WSFLEET, stub},
    process::Result,
    report::{Report, Table, number, rounds},
};

const WORKSPACES: usize = 10_000;

/// `wsfleet run` over ten thousand workspaces, cold.
pub(crate) fn ten_thousand(report: &mut Report) -> Result<()> {
    let stub = stub()?;
    let mut hosts = tempfile::NamedTempFile::new()?;
    for number in 0..WORKSPACES {
        writeln!(hosts, "http://127.0.0.1:{}/w{number}", stub.port)?;
    }
    let (mut time, mut memory) = (Table::new("s"), Table::new("MB"));
    for _ in 0..rounds() {
        let began = Instant::now();
        let mut command = Command::new(WSFLEET);
        command.args(["run", "--json", "--hostfile"]).arg(hosts.path()).args(["-f", "512", "--", "true"]);
        let (lines, peak) = watched(&mut command)?;
        if lines < 3 * WORKSPACES {
            return Err(format!("only {lines} lines were printed").into());
        }
        time.add(0, "wsfleet run", began.elapsed().as_secs_f64());
        memory.add(0, "wsfleet run", peak / 1e6);
    }
    report.table(
        "A run over 10,000 workspaces: time",
        "`wsfleet run --json -f 512` from start to end, each workspace behind a connection of its own.",
        &time,
    );
    report.table("A run over 10,000 workspaces: memory", "The most memory that its process took.", &memory);
    let seconds = time.median("wsfleet run").map(|seconds| (format!("{} s", number(seconds)), seconds <= 3.0));
    report.verdict("wsfleet run, 10,000 workspaces, cold", "<= 3 s", seconds);
    let megabytes =
        memory.median("wsfleet run").map(|megabytes| (format!("{} MB", number(megabytes)), megabytes <= 150.0));
    report.verdict("peak memory of that run", "<= 150 MB", megabytes);
    Ok(())
}

/// Runs a program to its end. Returns how many lines it printed and the most memory that it took.
fn watched(command: &mut Command) -> Result<(usize, f64)> {
    use std::io::{BufRead as _, BufReader};
    let mut process = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).spawn()?;
    let (mut lines, mut peak, mut line) = (0, 0.0_f64, Vec::new());
    let mut output = BufReader::new(process.stdout.take().ok_or("no output")?);
    while output.read_until(b'\n', &mut line)? > 0 {
        lines += 1;
        line.clear();
        // The peak only grows; the last look is near enough to the end.
        if lines % 500 == 0 {
            peak = peak.max(crate::process::memory(process.id(), "VmHWM:"));
        }
    }
    if process.wait()?.success() { Ok((lines, peak)) } else { Err("the run failed".into()) }
}
