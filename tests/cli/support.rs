use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// How long the program may take before a test gives it up.
const PATIENCE: Duration = Duration::from_secs(60);

/// An empty directory to run in, without inventory.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// The program, started here, untouched by the environment of the test.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsfleet"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("WSFLEET_") || name.starts_with("OH_") {
                command.env_remove(&*name);
            }
        }
        command.env_remove("RUST_LOG").env_remove("SESSION_API_KEY").env_remove("NO_COLOR");
        command.env("XDG_CONFIG_HOME", self.path().join("config")).env("TMPDIR", self.temporary());
        command.current_dir(self.path()).args(args).stdin(Stdio::null());
        command
    }

    /// Where the program makes its temporary directories.
    pub(crate) fn temporary(&self) -> PathBuf {
        let path = self.path().join("tmp");
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args))
    }

    pub(crate) fn run_with_stdin(&self, args: &[&str], input: &str) -> Ended {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let feed = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let ended = Ended::wait(child);
        feed.join().unwrap();
        ended
    }
}

/// What the program left behind.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(mut command: Command) -> Self {
        Self::wait(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for the end, but not for ever.
    pub(crate) fn wait(child: Child) -> Self {
        let pid = Pid::from_child(&child);
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(child.wait_with_output()));
        let Ok(output) = end.recv_timeout(PATIENCE) else {
            let _ = kill_process(pid, Signal::KILL);
            panic!("the program does not end");
        };
        let Output { status, stdout, stderr } = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Asserts the exit code, and shows everything when it is another.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts what stderr says.
    #[track_caller]
    pub(crate) fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not in stderr:\n{}", self.stderr);
        }
        self
    }
}

/// A `wsfleet agent` of its own process.
pub(crate) struct Agent {
    child: Child,
    pub(crate) url: String,
}

impl Agent {
    pub(crate) fn start(place: &Place, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = place.command(&["agent"]);
        command.args(args).envs(environment.iter().copied());
        Self::of(command)
    }

    /// One that a shell starts after it has carried this out. Not `sh`, which may be one that never ignores the signal of ended
    /// children.
    pub(crate) fn start_after(place: &Place, words: &str) -> Self {
        let program = place.command(&[]);
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{words}; exec \"$0\" agent")]).arg(program.get_program());
        command.current_dir(place.path()).stdin(Stdio::null());
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{line}");
        Self { child, url }
    }

    /// Its name as a workspace.
    pub(crate) fn name(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.signal(Signal::TERM);
            self.child.wait().unwrap();
        }
    }
}

/// Whether a process other than the program itself has this in its command line: a shell that was given a script with
/// it, or what that shell started.
pub(crate) fn is_running(mark: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let mut lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.any(|line| line.contains(mark) && !line.starts_with(env!("CARGO_BIN_EXE_wsfleet")))
}
