//! An agent server in a process of its own, so that what the process of the tests holds is the runtime's.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

pub(crate) struct Agent {
    process: Child,
    pub(crate) port: u16,
}

impl Agent {
    /// Starts one whose commands run in `root`, and which accepts these keys, or everybody where there are none.
    pub(crate) fn start(root: &Path, keys: &[&str]) -> Self {
        Self::begin(root, 0, keys)
    }

    /// Starts one on this port.
    #[allow(dead_code)]
    pub(crate) fn start_at(root: &Path, port: u16, keys: &[&str]) -> Self {
        Self::begin(root, port, keys)
    }

    fn begin(root: &Path, port: u16, keys: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsfleet"));
        command.args(["agent", "--port", &port.to_string(), "--root"]).arg(root);
        command.env_remove("SESSION_API_KEY");
        for (number, key) in keys.iter().enumerate() {
            command.env(format!("OH_SESSION_API_KEYS_{number}"), key);
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
        Self { process, port }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Whether it has commands left that a kill would orphan, the tests have looked at.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
