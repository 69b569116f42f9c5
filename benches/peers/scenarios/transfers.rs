use std::{path::Path, process::Command, time::Instant};

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
    std::fs::write(path("source"), vec![7_u8; SIZE])?;
    let url = format!("http://127.0.0.1:{}", agent.port);
    let (mut up, mut down) = (Table::new("MB/s"), Table::new("MB/s"));
    for _ in 0..rounds() {
        up.add(0, "wsfleet upload", speed(wsfleet("upload", &url, &path("source"), &path("there")))?);
        down.add(0, "wsfleet download", speed(wsfleet("download", &url, &path("there"), &path("back")))?);
        std::fs::remove_file(path("there"))?;
        let api = |what: &str| format!("{url}/api/file/{what}?path={}", path("there").display());
        let mut curl = curl();
        curl.arg("-F").arg(format!("file=@{}", path("source").display())).arg(api("upload"));
        up.add(1, "curl", speed(curl)?);
        let mut curl = self::curl();
        curl.arg("-o").arg(path("back")).arg(api("download"));
        down.add(1, "curl", speed(curl)?);
    }
    report.table(
        "Upload of 1 GiB",
        "To the embedded agent server, with the check of its size and the move into place.",
        &up,
    );
    report.table(
        "Download of 1 GiB",
        "From the embedded agent server, with fsync and the move into place; curl does neither.",
        &down,
    );
    for (way, table, ours) in [("upload", &up, "wsfleet upload"), ("download", &down, "wsfleet download")] {
        let ratio = table.ratio(ours, "curl").map(|ratio| (format!("{}x", number(ratio)), ratio >= 0.8));
        report.verdict(&format!("{way} of 1 GiB"), ">= 0.8x curl", ratio);
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

fn speed(mut command: Command) -> Result<f64> {
    let began = Instant::now();
    let status = command.stdout(std::process::Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("{command:?} failed: {status}").into());
    }
    Ok(SIZE as f64 / 1e6 / began.elapsed().as_secs_f64())
}
