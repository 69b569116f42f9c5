//! Where the peers are.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::{Result, Sample, Served, measured};

/// The Python that has the original's package, if there is one.
pub(crate) fn python() -> Option<PathBuf> {
    let named = std::env::var_os("WSFLEET_PEERS_PYTHON").map(PathBuf::from);
    named.or_else(|| Some(real_server()?.join("python"))).filter(|python| python.exists())
}

/// Where the programs of the newest real server are, if one is installed.
pub(crate) fn real_server() -> Option<PathBuf> {
    let root =
        std::env::var_os("WSFLEET_REAL_SERVERS").map_or_else(|| PathBuf::from("target/real-servers"), PathBuf::from);
    let found = root.join("1.58.0/bin").canonicalize().ok()?;
    found.join("agent-server").exists().then_some(found)
}

/// The Python class on workspaces behind this URL.
pub(crate) fn python_class(python: &Path, url: &str, workspaces: usize, each: usize, at_once: usize) -> Result<Sample> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/python_client.py");
    let mut command = Command::new(python);
    command.arg(script).arg(url).args([workspaces, each, at_once].map(|number| number.to_string()));
    measured(quiet(&mut command))
}

/// The Python class with one command on the workspace at this URL, whose key is `key`.
pub(crate) fn python_command(python: &Path, url: &str, text: &str) -> Result<Sample> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/python_client.py");
    let mut command = Command::new(python);
    command.arg(script).args([url, "1", "1", "1", text]);
    measured(quiet(&mut command))
}

/// How many requests a second `wrk` makes over so many connections, start and search in turns; `None` where it is not installed.
pub(crate) fn wrk(port: u16, connections: usize) -> Result<Option<f64>> {
    let mut script = tempfile::NamedTempFile::new()?;
    script.write_all(include_bytes!("wrk.lua"))?;
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--duration", "3s", "--connections", &connections.to_string(), "--script"]);
    let output = match command.arg(script.path()).arg(format!("http://127.0.0.1:{port}")).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
    let figure = figure.filter(|_| !text.contains("Non-2xx") && !text.contains("Socket errors"));
    figure.map(Some).ok_or_else(|| format!("wrk did not say how many requests it made: {text}").into())
}

/// Without warnings and a banner, and without asking the network for the prices of models, which its packages do when they
/// are loaded.
pub(crate) fn quiet(command: &mut Command) -> &mut Command {
    command.env("PYTHONWARNINGS", "ignore").env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    command.env("OPENHANDS_SUPPRESS_BANNER", "1")
}

/// Our own program, as built for this run.
pub(crate) const WSFLEET: &str = env!("CARGO_BIN_EXE_wsfleet");

/// An embedded agent server in a process of its own, whose key is `key`.
pub(crate) fn agent(root: &Path) -> Result<Served> {
    let mut command = Command::new(WSFLEET);
    command.args(["agent", "--port", "0", "--root"]).arg(root).env("OH_SESSION_API_KEYS_0", "key");
    Served::run(&mut command)
}

/// A stub, each of whose answers comes after a delay of so many milliseconds.
pub(crate) fn stub() -> Result<Served> {
    Served::start(&["--stub"])
}
