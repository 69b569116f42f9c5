use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};

use super::{
    CommandEnvironment,
    child::{Child, Program},
    event::CommandRecord,
};
use crate::{agent::http::os_error_text, protocol::EventId};

const SHELL: &CStr = c"/bin/sh";

/// Starts shells.
///
/// A thread that starts a process stands still until the new one has its program. So it is done on threads for blocking work,
/// on as many as can run at once and no more.
#[derive(Debug)]
pub(super) struct Spawner {
    root: Option<PathBuf>,
    environment: CommandEnvironment,
    places: Semaphore,
}

const MOST_PLACES: usize = 4;

/// The least time that a start has.
const SHORTEST_START: Duration = Duration::from_secs(10);

impl Spawner {
    pub(super) fn new(root: Option<PathBuf>, environment: CommandEnvironment) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { root, environment, places: Semaphore::new(processors.min(MOST_PLACES)) }
    }

    /// Starts the shell of a command in a session of its own. Says what was wrong as the real server says it.
    ///
    /// A start that is given up, or takes longer than the command may run and than 10 s, leaves its place to others: in a directory that does
    /// not answer it may stand still for ever. A shell that starts after all is ended.
    pub(super) async fn spawn(&self, command: &CommandRecord) -> Result<Child, String> {
        let plan = Plan {
            id: command.id,
            text: command.command.to_string(),
            asked: command.cwd.as_deref().map(str::to_owned),
            cwd: working_directory(self.root.as_deref(), command.cwd.as_deref()),
            environment: self.environment.clone(),
        };
        let _place = self.places.acquire().await;
        let limit = command.time().max(SHORTEST_START);
        match timeout(limit, tokio::task::spawn_blocking(move || plan.carry_out())).await {
            Ok(spawned) => spawned.unwrap_or_else(|error| Err(error.to_string())),
            Err(_) => Err(format!("its shell did not start within {limit:?}; the directory may not answer")),
        }
    }
}

/// What it takes to start a command.
struct Plan {
    id: EventId,
    text: String,
    /// The directory as it was asked for.
    asked: Option<String>,
    /// The directory to run in.
    cwd: Option<PathBuf>,
    environment: CommandEnvironment,
}

impl Plan {
    /// Blocks.
    fn carry_out(self) -> Result<Child, String> {
        if self.text.contains('\0') || self.asked.as_ref().is_some_and(|cwd| cwd.contains('\0')) {
            return Err("embedded null byte".to_owned());
        }
        self.start().map_err(|error| self.problem(&error))
    }

    fn start(&self) -> io::Result<Child> {
        let arguments = [SHELL.to_owned(), c"-c".to_owned(), CString::new(self.text.as_str())?];
        let cwd = self.cwd.as_deref().map(|cwd| CString::new(cwd.as_os_str().as_bytes())).transpose()?;
        let environment = self.environment.marked(self.id)?;
        Child::spawn(&Program { path: SHELL, arguments: &arguments, environment: &environment, cwd: cwd.as_deref() })
    }

    /// Words a failed start as Python does: it names the directory when that was the problem, else the shell.
    fn problem(&self, error: &io::Error) -> String {
        let cwd = self.cwd.as_deref();
        let unusable = cwd.is_some_and(|cwd| error.kind() != io::ErrorKind::ArgumentListTooLong && !is_enterable(cwd));
        match (unusable, &self.asked, cwd) {
            (true, Some(asked), _) => os_error_text(error, Path::new(asked)),
            (true, None, Some(cwd)) => os_error_text(error, cwd),
            _ => os_error_text(error, Path::new(OsStr::from_bytes(SHELL.to_bytes()))),
        }
    }
}

/// Where a command runs. A relative directory is one below the root.
fn working_directory(root: Option<&Path>, asked: Option<&str>) -> Option<PathBuf> {
    match (root, asked) {
        (Some(root), asked) => Some(asked.map_or_else(|| root.to_owned(), |cwd| root.join(cwd))),
        (None, asked) => asked.map(PathBuf::from),
    }
}

fn is_enterable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_directory_is_below_the_root() {
        let root = Path::new("/r");
        assert_eq!(working_directory(Some(root), None), Some("/r".into()));
        assert_eq!(working_directory(Some(root), Some("a")), Some("/r/a".into()));
        assert_eq!(working_directory(Some(root), Some("/a")), Some("/a".into()));
        assert_eq!(working_directory(None, None), None);
    }
}
