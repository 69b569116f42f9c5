use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    peers::{self, WSFLEET},
    process::Result,
    report::{Report, Table, number, rounds},
};

const SIZE: usize = 1 << 30;

/// A file of 1 GiB up and down, beside curl with the same server.
pub(crate) fn one_gib(report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let agent = peers::agent(folder.path())?;
    let path = |name: &str| folder.path().join(name);
    let clear = || ["there", "back"].into_iter().try_for_each(|name| std::fs::remove_file(path(name)));
    std::fs::write(path("source"), vec![7_u8; SIZE])?;
    let url = format!("http://127.0.0.1:{}", agent.port);
    let (mut up, mut down, mut memory) = (Table::new("MB/s"), Table::new("MB/s"), Table::new("MB"));
    for _ in 0..rounds() {
        let (fast, peak) = speed(wsfleet("upload", &url, &path("source"), &path("there")))?;
        up.add(0, "wsfleet upload", fast);
        memory.add(0, "wsfleet upload", peak);
        let (fast, peak) = speed(wsfleet("download", &url, &path("there"), &path("back")))?;
        down.add(0, "wsfleet download", fast);
        memory.add(1, "wsfleet download", peak);
        clear()?;
        let api = |what: &str| format!("{url}/api/file/{what}?path={}", path("there").display());
        let mut curl = curl();
        curl.arg("-F").arg(format!("file=@{}", path("source").display())).arg(api("upload"));
        let (fast, peak) = speed(curl)?;
        up.add(1, "curl", fast);
        memory.add(3, "curl upload", peak);
        let mut curl = self::curl();
        curl.arg("-o").arg(path("back")).arg(api("download"));
        let (fast, peak) = speed(curl)?;
        down.add(1, "curl", fast);
        let began = Instant::now();
        std::fs::File::open(path("back"))?.sync_all()?;
        let durable = SIZE as f64 / 1e6 / fast + began.elapsed().as_secs_f64();
        down.add(2, "curl, then fsync", SIZE as f64 / 1e6 / durable);
        memory.add(4, "curl download", peak);
        memory.add(2, "wsfleet agent", crate::process::memory(agent.id(), "VmHWM:") / 1e6);
        clear()?;
    }
    report.table(
        "Upload of 1 GiB",
        "To the embedded agent server, with the check of its size and the move into place.",
        &up,
    );
    report.table(
        "Download of 1 GiB",
        "From the embedded agent server, with fsync and the move into place; curl does neither, so it is followed by an fsync.",
        &down,
    );
    let pairs =
        [("upload", &up, "wsfleet upload", "curl"), ("download", &down, "wsfleet download", "curl, then fsync")];
    for (way, table, ours, theirs) in pairs {
        let ratio = table.ratio(ours, theirs).map(|ratio| (format!("{}x", number(ratio)), ratio >= 0.8));
        report.verdict(&format!("{way} of 1 GiB"), &format!(">= 0.8x {theirs}"), ratio);
    }
    report.table("Transfers of 1 GiB: memory", "The most that each process took.", &memory);
    for who in ["wsfleet upload", "wsfleet download", "wsfleet agent"] {
        let flat = memory.median(who).map(|peak| (format!("{} MB", number(peak)), peak <= 64.0));
        report.verdict(&format!("transfers of 1 GiB, memory of {who}"), "flat (<= 64 MB)", flat);
    }
    Ok(())
}

fn wsfleet(what: &str, url: &str, from: &Path, to: &Path) -> Command {
    let mut command = Command::new(WSFLEET);
    command.arg(what).args([from, to]).args(["-w", url, "--api-key-env", "KEY"]).env("KEY", "key");
    command
}

fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail", "-H", "X-Session-API-Key: key"]);
    command
}

/// Runs a transfer to its end, after what the one before it has written is on the disk. Returns how fast it was and the most memory that its process took, in MB.
fn speed(mut command: Command) -> Result<(f64, f64)> {
    rustix::fs::sync();
    let began = Instant::now();
    let mut running = command.stdout(std::process::Stdio::null()).spawn()?;
    let mut peak = 0.0_f64;
    let status = loop {
        if let Some(status) = running.try_wait()? {
            break status;
        }
        // The peak only grows; a look each 2 ms of what takes seconds is near enough to its end.
        peak = peak.max(crate::process::memory(running.id(), "VmHWM:"));
        std::thread::sleep(Duration::from_millis(2));
    };
    if !status.success() || peak == 0.0 {
        return Err(format!("{command:?} failed, or was not seen to take memory: {status}").into());
    }
    Ok((SIZE as f64 / 1e6 / began.elapsed().as_secs_f64(), peak / 1e6))
}
