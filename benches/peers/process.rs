//! Processes that are measured: each contender runs in one of its own.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What one contender did in one round.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// How many units it did: commands, bytes, workspaces.
    pub(crate) done: f64,
    /// How long that took.
    pub(crate) seconds: f64,
    /// How much processor time the process took for it.
    #[serde(default)]
    pub(crate) cpu: f64,
    /// The most memory that the process took, in bytes.
    #[serde(default)]
    pub(crate) peak: f64,
    /// What a contender of more than one kind of time found of the other one: the median and the 99th percentile, in seconds.
    #[serde(default)]
    pub(crate) other: [f64; 2],
    /// The 99th percentile of round trips beside the work, in seconds.
    #[serde(default)]
    pub(crate) round_trip: f64,
}

impl Sample {
    pub(crate) fn per_second(&self) -> f64 {
        self.done / self.seconds
    }

    pub(crate) fn cpu_each(&self) -> f64 {
        self.cpu / self.done
    }
}

/// Measures what this process does from here on.
pub(crate) struct Stopwatch {
    began: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), cpu: cpu_time() }
    }

    /// So many units were done since.
    pub(crate) fn sample(&self, done: usize) -> Sample {
        Sample {
            done: done as f64,
            seconds: self.began.elapsed().as_secs_f64(),
            cpu: (cpu_time() - self.cpu).as_secs_f64(),
            peak: own_memory("VmHWM:"),
            ..Sample::default()
        }
    }
}

/// A process that serves until this is dropped.
pub(crate) struct Served {
    process: Child,
    printed: BufReader<ChildStdout>,
    pub(crate) port: u16,
}

impl Served {
    /// Starts this program once more in one of its server modes.
    pub(crate) fn start(mode: &[&str]) -> Result<Self> {
        Self::run(Command::new(std::env::current_exe()?).args(mode))
    }

    /// Starts a program that prints a line which ends with its port.
    pub(crate) fn run(command: &mut Command) -> Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut printed = BufReader::new(process.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        printed.read_line(&mut line)?;
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        Ok(Self { process, printed, port: port.ok_or_else(|| format!("no port in `{line}`"))? })
    }

    /// How many requests a stub has answered so far.
    pub(crate) fn requests(&mut self) -> Result<f64> {
        self.process.stdin.as_mut().ok_or("no input")?.write_all(b"?")?;
        let mut line = String::new();
        self.printed.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs this program once more as a contender, and returns what it measured.
pub(crate) fn work(worker: &str, arguments: &[String]) -> Result<Sample> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(format!("--worker={worker}")).args(arguments);
    measured(&mut command)
}

/// Runs a program that prints a sample as JSON in its last line.
pub(crate) fn measured(command: &mut Command) -> Result<Sample> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().ok_or_else(|| format!("{command:?} printed nothing ({})", output.status))?;
    serde_json::from_str(line).map_err(|error| format!("{command:?} printed `{line}`: {error}").into())
}

/// Processor time that this process has taken so far.
pub(crate) fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A number of bytes from the status of a process, as in `VmHWM:`.
pub(crate) fn memory(process: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0
}

/// The same of this process.
pub(crate) fn own_memory(field: &str) -> f64 {
    memory(std::process::id(), field)
}
