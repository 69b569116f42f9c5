use std::{
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Inventory, InventoryError};

/// The most bytes that a program may print: more than a million workspaces.
const MOST_BYTES: u64 = 512 << 20;

/// How often the program's end is looked for once it has closed its output.
const LOOK: Duration = Duration::from_millis(5);

/// A program that prints an inventory, as JSON or as TOML. What it writes to its stderr goes to this process's.
#[derive(Debug)]
pub struct InventoryProgram {
    /// What messages call it.
    name: PathBuf,
    command: Command,
    timeout: Duration,
}

/// Whether a file is a program to be run for the inventory that it prints: it can be executed, and its name does not end in
/// `.toml` or `.json`. On some file systems every file can be executed.
#[must_use]
pub fn is_program(file: &Path) -> bool {
    let is_text = file.extension().is_some_and(|extension| extension == "toml" || extension == "json");
    !is_text && file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

impl InventoryProgram {
    /// A command line for `/bin/sh`.
    #[must_use]
    pub fn shell(line: &str, timeout: Duration) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]);
        Self { name: line.into(), command, timeout }
    }

    /// A program file.
    #[must_use]
    pub fn file(file: &Path, timeout: Duration) -> Self {
        // A name without a slash would be looked for in the PATH.
        let path = if file.components().count() == 1 { Path::new(".").join(file) } else { file.to_owned() };
        Self { name: file.to_owned(), command: Command::new(path), timeout }
    }

    /// Runs it and reads what it prints. `running` is told its process group when it begins, and `None` when it has ended.
    ///
    /// # Errors
    /// It can not be started, fails, takes longer than its timeout (it is then killed, with its children), or prints no
    /// inventory.
    pub fn run(mut self, running: &dyn Fn(Option<Pid>)) -> Result<Inventory, InventoryError> {
        // A group of its own, so that it ends with all that it started.
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = self.command.spawn().map_err(|error| self.failed(format!("can not be run: {error}")))?;
        let group = Pid::from_child(&child);
        running(Some(group));
        let printed = self.read(&mut child);
        // Also what it left behind: nobody reads from it any more.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait();
        running(None);
        Inventory::from_bytes(&self.name, printed?)
    }

    fn read(&self, child: &mut Child) -> Result<Vec<u8>, InventoryError> {
        let began = Instant::now();
        let Some(stdout) = child.stdout.take() else { return Err(self.failed("has no output".to_owned())) };
        let (done, end) = mpsc::channel();
        let reader = move || {
            let mut bytes = Vec::new();
            let read = stdout.take(MOST_BYTES + 1).read_to_end(&mut bytes);
            // Nobody waits any more when it took too long.
            let _ = done.send(read.map(|_| bytes));
        };
        let spawned = thread::Builder::new().name("wsfleet-inventory".to_owned()).spawn(reader);
        spawned.map_err(|error| self.failed(format!("can not be read: {error}")))?;
        let bytes = match end.recv_timeout(self.timeout) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(self.failed(format!("can not be read: {error}"))),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Err(self.late()),
        };
        if bytes.len() as u64 > MOST_BYTES {
            return Err(self.failed(format!("printed more than {} MiB", MOST_BYTES >> 20)));
        }
        let status = loop {
            match child.try_wait().map_err(|error| self.failed(error.to_string()))? {
                Some(status) => break status,
                None if began.elapsed() >= self.timeout => return Err(self.late()),
                None => thread::sleep(LOOK),
            }
        };
        if status.success() { Ok(bytes) } else { Err(self.failed(ended(status))) }
    }

    fn late(&self) -> InventoryError {
        self.failed(format!(
            "took longer than {:?} and was killed; give it more with --inventory-timeout",
            self.timeout
        ))
    }

    fn failed(&self, reason: String) -> InventoryError {
        InventoryError::Program { program: self.name.clone(), reason }
    }
}

fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("failed with exit code {code}; what it says is above, if it says anything"),
        None => format!("was ended: {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, timeout: Duration) -> Result<Inventory, String> {
        InventoryProgram::shell(line, timeout).run(&|_| ()).map_err(|error| error.to_string())
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn what_it_prints_is_the_inventory() {
        let json = r#"echo '{"workspace":[{"name":"a","host":"http://h:1"}]}'"#;
        assert_eq!(run(json, PATIENCE).unwrap().len(), 1);
        assert!(
            run("printf '[[workspace]]\nname = \"a\"\nhost = \"http://h\"\n'", PATIENCE).unwrap().get("a").is_some()
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        let message = |line| run(line, PATIENCE).unwrap_err();
        assert!(message("echo '{}'; exit 3").contains("exit code 3"));
        assert!(message("kill -9 $$").contains("was ended"));
        assert!(message("printf '{\n\"hosts\": 1}'").contains(":2: "));
        let gone = InventoryProgram::file(Path::new("no-such-program"), PATIENCE).run(&|_| ());
        assert!(gone.unwrap_err().to_string().contains("no-such-program can not be run"));
    }

    #[test]
    fn one_that_takes_too_long_is_killed_with_its_children() {
        let began = Instant::now();
        let message = run("sleep 1000 & sleep 1000", Duration::from_millis(200)).unwrap_err();
        assert!(message.contains("200ms") && message.contains("killed"), "{message}");
        assert!(began.elapsed() < PATIENCE);
    }

    #[test]
    fn a_file_that_can_be_executed_is_a_program() {
        let place = tempfile::tempdir().unwrap();
        for (name, mode, expected) in [("inv", 0o755, true), ("inv2", 0o644, false), ("inv.toml", 0o755, false)] {
            let file = place.path().join(name);
            std::fs::write(&file, "#!/bin/sh\necho '{}'\n").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_program(&file), expected, "{name}");
        }
        assert!(!is_program(place.path()));
    }
}
