//! Runs this program under valgrind, and reads what that counted.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::Result;

/// How many commands come before those that are counted, and how many those are.
const WARM: u64 = 128;
const COMMANDS: u64 = 256;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Collect {
    /// The whole process.
    All,
    /// The walks of a path.
    Walks,
}

/// Fails where there is no valgrind.
pub(crate) fn find() -> Result<()> {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => Ok(()),
        _ => Err("valgrind is needed to count instructions: install the package of that name".into()),
    }
}

/// Instructions of this program with these arguments.
pub(crate) fn instructions(arguments: &[&str], collect: Collect) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let written = folder.path().join("callgrind.out");
    let mut valgrind = valgrind("callgrind");
    valgrind.arg(format!("--callgrind-out-file={}", written.display()));
    if collect == Collect::Walks {
        valgrind.args(["--collect-atstart=no", "--toggle-collect=*counted_walks*"]);
    }
    run(&mut valgrind, arguments)?;
    let text = std::fs::read_to_string(&written)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.filter(|total| *total > 0).ok_or_else(|| format!("nothing was counted of {arguments:?}").into())
}

/// How often this program allocates with these arguments, and how many bytes.
pub(crate) fn allocated(arguments: &[&str]) -> Result<[u64; 2]> {
    let folder = tempfile::tempdir()?;
    let mut valgrind = valgrind("dhat");
    valgrind.arg(format!("--dhat-out-file={}", folder.path().join("dhat.out").display()));
    let text = run(&mut valgrind, arguments)?;
    read_total(&text).ok_or_else(|| format!("valgrind did not say what was allocated: {text}").into())
}

/// From a line like `Total:     1,234 bytes in 56 blocks`.
fn read_total(text: &str) -> Option<[u64; 2]> {
    let line = text.lines().find_map(|line| line.split_once("Total:"))?.1;
    let mut numbers = line.split(' ').filter_map(|word| word.replace(',', "").parse().ok());
    let (bytes, blocks) = (numbers.next()?, numbers.next()?);
    Some([blocks, bytes])
}

fn valgrind(tool: &str) -> Command {
    let mut command = Command::new("valgrind");
    // Threads take turns as they ask for them, which makes it the same each time.
    command.args([&format!("--tool={tool}"), "--fair-sched=yes"]);
    command
}

/// Returns what valgrind has to say.
fn run(valgrind: &mut Command, arguments: &[&str]) -> Result<String> {
    valgrind.arg(std::env::current_exe()?).args(arguments);
    // The environment lies on the stack and is searched: it is the same on all machines.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let output = valgrind.env_clear().env("PATH", path).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(text) } else { Err(format!("{valgrind:?} failed: {text}").into()) }
}

/// The server of the commands, in a process of its own.
pub(crate) struct Stub {
    process: Child,
    url: String,
}

impl Stub {
    pub(crate) fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.arg("--stub").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { process, url: format!("http://127.0.0.1:{}", line.trim()) })
    }

    /// What one command takes of each thing that is counted, with so many at once.
    pub(crate) fn each_command<const N: usize>(
        &self,
        at_once: u64,
        count: impl Fn(&[&str]) -> Result<[u64; N]>,
    ) -> Result<[u64; N]> {
        let commands = |many: u64| {
            let (at_once, many) = (at_once.to_string(), many.to_string());
            count(&["--commands", &self.url, &at_once, &many])
        };
        let (few, many) = (commands(WARM)?, commands(WARM + COMMANDS)?);
        Ok(std::array::from_fn(|at| many[at].saturating_sub(few[at]) / COMMANDS))
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
