//! Agent servers as child processes: real OpenHands ones, and `wsfleet agent`.

use std::{
    ffi::OsString,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::processes;

/// Booting takes 5 to 20 s, and longer where the disk is cold and the machine busy.
const BOOT: Duration = Duration::from_secs(90);

/// How long the guard may take to get to the server.
const FORKING: Duration = Duration::from_secs(2);

/// How long a server may take to end.
const ENDING: Duration = Duration::from_secs(15);

/// Runs the server, and ends it when the standard input ends: when the tests say so, and when they are killed.
const GUARD: &str = r#"
"$@" </dev/null >server.log 2>&1 & server=$!
cat >/dev/null
kill -TERM $server
tick=0
while kill -0 $server 2>/dev/null && [ $tick -lt 100 ]; do sleep 0.1; tick=$((tick + 1)); done
kill -KILL $server 2>/dev/null
"#;

/// The variable that everything a server starts has in its environment.
const MARK: &str = "CONFORMANCE_SERVER";

/// The interpreter of the environment that a version is installed in.
pub(crate) fn python(version: &str) -> PathBuf {
    directory().join(version).join("bin/python")
}

/// Where the real servers are installed.
pub(crate) fn directory() -> PathBuf {
    std::env::var_os("WSFLEET_REAL_SERVERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real-servers"), PathBuf::from)
}

/// A running server with the shell that guards it.
pub(crate) struct Process {
    guard: Child,
    mark: String,
}

/// What a server is started with; its port comes last.
pub(crate) struct Program {
    name: String,
    words: Vec<OsString>,
}

impl Program {
    /// A real server of this version.
    pub(crate) fn openhands(version: &str) -> Self {
        let words = ["-m", "openhands.agent_server", "--host", "127.0.0.1", "--port"].map(OsString::from);
        Self {
            name: format!("OpenHands {version}"),
            words: std::iter::once(python(version).into_os_string()).chain(words).collect(),
        }
    }

    /// With a variable in its environment.
    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.words.splice(0..0, ["env".into(), format!("{name}={value}").into()]);
        self
    }

    /// The embedded agent server.
    pub(crate) fn embedded() -> Self {
        let words = [env!("CARGO_BIN_EXE_wsfleet"), "agent", "--root", ".", "--host", "127.0.0.1", "--port"];
        Self { name: "wsfleet agent".to_owned(), words: words.map(OsString::from).to_vec() }
    }
}

/// Starts a server in `root`; returns its `host:port`.
pub(crate) fn start(program: &Program, root: &Path, keys: [&str; 2]) -> Result<(String, Process), String> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_start(program, root, keys) {
            Err(problem) if tries < 3 => eprintln!("{}, try {tries}: {problem}", program.name),
            result => return result,
        }
    }
}

fn try_start(program: &Program, root: &Path, keys: [&str; 2]) -> Result<(String, Process), String> {
    let home = root.join("home");
    fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    let port = free_port().map_err(|error| format!("no free port: {error}"))?;
    let mark = format!("{}-{port}", std::process::id());
    let guard = Command::new("/bin/sh")
        .args(["-c", GUARD, "guard"])
        .args(&program.words)
        .arg(port.to_string())
        .current_dir(root)
        .env("HOME", home)
        .env("OH_SESSION_API_KEYS_0", keys[0])
        .env("OH_SESSION_API_KEYS_1", keys[1])
        .env("OH_ENABLE_VSCODE", "0")
        .env("OH_ENABLE_VNC", "0")
        .env("OH_PRELOAD_TOOLS", "false")
        .env("OPENHANDS_SUPPRESS_BANNER", "1")
        // Else it asks the network, in a thread whose words about failing can deadlock an import.
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env(MARK, &mark)
        .env_remove("SESSION_API_KEY")
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    let process = Process { guard, mark };
    let address = format!("127.0.0.1:{port}");
    let began = Instant::now();
    while !answers(&address) {
        if began.elapsed() > BOOT || (began.elapsed() > FORKING && !process.server_runs()) {
            let log = fs::read_to_string(root.join("server.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            process.stop();
            return Err(format!(
                "it did not start; its last words:\n{}",
                lines[lines.len().saturating_sub(20)..].join("\n")
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((address, process))
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn answers(address: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("GET /ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}

impl Process {
    /// The guard has the mark too.
    fn server_runs(&self) -> bool {
        processes::with_environment(&self.mark_in_environment()).len() > 1
    }

    fn mark_in_environment(&self) -> String {
        format!("{MARK}={}", self.mark)
    }

    /// Ends the server. Returns what it left behind, which is ended too.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let mut problems = Vec::new();
        drop(self.guard.stdin.take());
        let give_up = Instant::now() + ENDING;
        while matches!(self.guard.try_wait(), Ok(None)) {
            if Instant::now() > give_up {
                problems.push("the server did not end".to_owned());
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Commands that still run have sessions of their own.
        let left: Vec<String> =
            processes::with_environment(&self.mark_in_environment()).iter().map(u32::to_string).collect();
        if !left.is_empty() {
            problems.push(format!("processes were left: {}", left.join(" ")));
            // They may be gone by now.
            let _ = Command::new("kill").arg("-KILL").args(&left).stderr(Stdio::null()).status();
        }
        // It has ended, by itself or just now.
        let _ = self.guard.wait();
        problems
    }
}
