use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use awc::http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service in a process of its own, with a state directory that outlives the process.
pub(crate) struct Served {
    state: TempDir,
    arguments: Vec<String>,
    process: Child,
    pub(crate) port: u16,
}

impl Served {
    /// Starts one with these arguments besides those for its port and its state.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let state = TempDir::new().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let (process, port) = begin(state.path(), &arguments, 0);
        Self { state, arguments, process, port }
    }

    /// Where its store is.
    pub(crate) fn state(&self) -> PathBuf {
        self.state.path().to_owned()
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it without a warning, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Ends it as a system does that wants it to end, and returns its exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.tell_to_end();
        self.wait_for_end()
    }

    /// Tells it to end, and does not wait for that.
    pub(crate) fn tell_to_end(&self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
    }

    /// Waits until it has ended, and returns its exit code.
    pub(crate) fn wait_for_end(&mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }

    /// Starts it again on the same port, with the same state.
    pub(crate) fn start_again(&mut self) {
        (self.process, self.port) = begin(self.state.path(), &self.arguments, self.port);
    }

    /// The same with other arguments.
    pub(crate) fn start_again_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.start_again();
    }

    /// Starts another one on the same state with these arguments, which does not come up, and returns what it says.
    pub(crate) fn cannot_start_with(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsfleet"));
        command.args(["serve", "--state-dir"]).arg(self.state.path()).args(["--port", "0"]).args(arguments);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if !line.is_empty() {
            kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
        }
        let output = process.wait_with_output().unwrap();
        assert!(line.is_empty() && !output.status.success(), "it starts: {line}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Gives another value to one of its arguments, or adds it, for the next start.
    pub(crate) fn pass(&mut self, name: &str, value: &str) {
        match self.arguments.iter().position(|argument| argument == name) {
            Some(index) => value.clone_into(&mut self.arguments[index + 1]),
            None => self.arguments.extend([name.to_owned(), value.to_owned()]),
        }
    }

    /// Tries to start it again, and returns what it says when that fails.
    pub(crate) fn fails_to_start(&self) -> String {
        let output = command(self.state.path(), &self.arguments, self.port).output().unwrap();
        assert!(!output.status.success(), "it starts");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Sends a request with a JSON body, or none, and returns the status and the JSON of the answer; null where there is none.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let client = awc::Client::builder().timeout(PATIENCE).disable_redirects().finish();
        let request = client.request(method, self.url(path));
        let answer = match body {
            Some(body) => request.send_json(body).await,
            None => request.send().await,
        };
        let mut answer = answer.unwrap();
        let body = answer.body().limit(64 << 20).await.unwrap();
        (answer.status(), if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, body) = self.ask(Method::POST, path, Some(body)).await;
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }
}

fn command(state: &Path, arguments: &[String], port: u16) -> Command {
    // A file that may not grow is an error to the service, and not its end.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_wsfleet")]);
    command.args(["serve", "--state-dir"]).arg(state).args(["--port", &port.to_string()]).args(arguments);
    command.stdin(Stdio::null());
    command
}

fn begin(state: &Path, arguments: &[String], port: u16) -> (Child, u16) {
    let mut process = command(state, arguments, port).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim().trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    (process, port.unwrap_or_else(|| panic!("the service does not start: {line}")))
}

impl Drop for Served {
    fn drop(&mut self) {
        // Where the test has not ended it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
