use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    peers::{self, quiet, real_server},
    process::{Result, memory, work},
    report::{Report, Table, number, rounds},
};

/// How long the real server may take to be ready.
const PATIENCE: Duration = Duration::from_secs(180);

/// The embedded agent server beside the real one: speed, memory and readiness.
pub(crate) fn beside_the_real_one(report: &mut Report) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut ready, mut idle, mut speed, mut upload) =
        (Table::new("ms"), Table::new("MB"), Table::new("commands/s"), Table::new("MB/s"));
    for _ in 0..rounds() {
        let began = Instant::now();
        let agent = peers::agent(folder.path())?;
        ready.add(0, "wsfleet agent", began.elapsed().as_secs_f64() * 1e3);
        idle.add(0, "wsfleet agent", memory(agent.id(), "VmRSS:") / 1e6);
        let url = format!("http://127.0.0.1:{}", agent.port);
        speed.add(0, "wsfleet agent", commands(&url, 400)?);
        upload.add(0, "wsfleet agent", send(&url, &folder.path().join("up"), 256)?);
        let Some(programs) = real_server() else { continue };
        // It reads thousands of files when it starts, which is not to wait for what was uploaded.
        rustix::fs::sync();
        let began = Instant::now();
        let real = Real::start(&programs)?;
        ready.add(1, "openhands-agent-server", began.elapsed().as_secs_f64() * 1e3);
        idle.add(1, "openhands-agent-server", memory(real.process.id(), "VmRSS:") / 1e6);
        let url = format!("http://127.0.0.1:{}", real.port);
        speed.add(1, "openhands-agent-server", commands(&url, 40)?);
        upload.add(1, "openhands-agent-server", send(&url, &folder.path().join("up"), 64)?);
    }
    report.table("Agent server: ready", "From its start to its first answer.", &ready);
    report.table("Agent server: idle memory", "Resident, when it is ready.", &idle);
    report.table("Agent server: `true`", "Eight workspaces, one command after another each.", &speed);
    report.table("Agent server: upload", "One file, sent by curl.", &upload);
    let (ours, real) = ("wsfleet agent", "openhands-agent-server");
    let at_least = |table: &Table, bound: f64| {
        table.ratio(ours, real).map(|ratio| (format!("{}x", number(ratio)), ratio >= bound))
    };
    report.verdict("embedded agent, `true` per second", ">= 10x the real server", at_least(&speed, 10.0));
    report.verdict("embedded agent, upload", ">= 20x the real server", at_least(&upload, 20.0));
    let at_most = |table: &Table, unit: &str, bound: f64| {
        table.median(ours).map(|value| (format!("{} {unit}", number(value)), value <= bound))
    };
    report.verdict("embedded agent, idle memory", "<= 12 MB", at_most(&idle, "MB", 12.0));
    report.verdict("embedded agent, ready", "<= 100 ms", at_most(&ready, "ms", 100.0));
    Ok(())
}

fn commands(url: &str, each: usize) -> Result<f64> {
    Ok(work("true", &[url.to_owned(), each.to_string()])?.per_second())
}

fn send(url: &str, to: &Path, mib: usize) -> Result<f64> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), vec![7_u8; mib << 20])?;
    let began = Instant::now();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "-H", "X-Session-API-Key: key", "-F"]).arg(format!("file=@{}", file.path().display()));
    let status = curl.arg(format!("{url}/api/file/upload?path={}", to.display())).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("the upload failed: {status}").into());
    }
    Ok((mib << 20) as f64 / 1e6 / began.elapsed().as_secs_f64())
}

/// The real agent server.
struct Real {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Real {
    fn start(programs: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(programs.join("python"));
        command.args(["-m", "openhands.agent_server", "--host", "127.0.0.1", "--port", &port.to_string()]);
        command.env("OH_SESSION_API_KEYS_0", "key").env("OH_ENABLE_VSCODE", "0").env("OH_ENABLE_VNC", "0");
        command.env("OH_PRELOAD_TOOLS", "false");
        let process = quiet(&mut command)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut real = Self { process, port, _folder: folder };
        let began = Instant::now();
        while !real.answers() {
            if let Some(status) = real.process.try_wait()? {
                return Err(format!("the real server ended: {status}").into());
            }
            if began.elapsed() > PATIENCE {
                return Err("the real server does not become ready".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(real)
    }

    fn answers(&self) -> bool {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--fail", "-o", "/dev/null", &format!("http://127.0.0.1:{}/ready", self.port)]);
        curl.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
