use std::{
    cell::RefCell,
    ffi::{CStr, CString, OsStr},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use rustix::fs::{Access, access};
use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    CommandEnvironment,
    child::{Child, Program},
    event::CommandRecord,
};
use crate::{agent::http::os_error_text, protocol::EventId};

const SHELL: &CStr = c"/bin/sh";

/// Starts shells.
///
/// A thread that starts a process stands still in a directory that does not answer, for ever. So it is done on threads for
/// blocking work, on as many as can run at once and a few more that stand still.
#[derive(Debug)]
pub(super) struct Spawner {
    root: Option<PathBuf>,
    environment: CommandEnvironment,
    places: Semaphore,
    /// The directories in which starts stand still, each with something that lives as long as the start.
    standing: RefCell<Vec<(Option<PathBuf>, Weak<()>)>>,
}

const MOST_PLACES: usize = 4;

/// How long a start keeps others from its place.
const IN_PLACE: Duration = Duration::from_secs(1);

/// How many starts may stand still for longer than that in one directory, and in all: half of the threads for blocking work that a
/// runtime has if nothing else is said, since files need them as well.
const MOST_STANDING: (usize, usize) = (16, 256);

/// The least time that a start has.
const SHORTEST_START: Duration = Duration::from_secs(10);

/// How long a start is waited for that is not wanted any more: a shell that is there can be ended with all that it began.
const UNWANTED: Duration = Duration::from_secs(1);

const STOPPED: &str = "it was stopped before its shell had started";

impl Spawner {
    pub(super) fn new(root: Option<PathBuf>, environment: CommandEnvironment) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let places = Semaphore::new(processors.min(MOST_PLACES));
        Self { root, environment, places, standing: RefCell::default() }
    }

    /// Starts the shell of a command in a session of its own. Says what was wrong as the real server says it.
    ///
    /// A start that takes longer than the command may run and than 10 s is given up, and one that is stopped soon after. It does not
    /// begin any more what it has not begun, and a shell that is there after all is ended.
    pub(super) async fn spawn(&self, command: &CommandRecord, stop: &CancellationToken) -> Result<Child, String> {
        let plan = Plan {
            id: command.id,
            text: command.command.to_string(),
            asked: command.cwd.as_deref().map(str::to_owned),
            cwd: working_directory(self.root.as_deref(), command.cwd.as_deref()),
            environment: self.environment.clone(),
        };
        self.check_standing(plan.cwd.as_deref())?;
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(STOPPED.to_owned()),
            place = self.places.acquire() => place,
        };
        self.check_standing(plan.cwd.as_deref())?;
        let (cwd, start, wish) = (plan.cwd.clone(), Arc::new(()), Arc::new(()));
        let (stands, wanted) = (Arc::downgrade(&start), Arc::downgrade(&wish));
        // One that has not begun when it is given up does not begin.
        let mut starting = AbortOnDropHandle::new(spawn_blocking(move || {
            let started = plan.carry_out(&wanted);
            drop(start);
            started
        }));
        let started = match timeout(IN_PLACE, &mut starting).await {
            Ok(started) => started,
            Err(_) => {
                self.standing.borrow_mut().push((cwd, stands));
                drop(place);
                wait_for(starting, command.time().max(SHORTEST_START) - IN_PLACE, stop).await?
            }
        };
        started.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Refuses to start more shells where, or while, too many starts stand still.
    fn check_standing(&self, cwd: Option<&Path>) -> Result<(), String> {
        let mut standing = self.standing.borrow_mut();
        standing.retain(|(_, start)| start.strong_count() > 0);
        let (here, all) = (standing.iter().filter(|(at, _)| at.as_deref() == cwd).count(), standing.len());
        let (most_here, most) = MOST_STANDING;
        if here < most_here && all < most {
            return Ok(());
        }
        let (many, whose) = if here < most_here { (all, "their directories") } else { (here, "their directory") };
        Err(format!(
            "{many} shells before it have not started: {whose}, or this machine, may not answer; try again later"
        ))
    }
}

/// Waits for a start that takes long, until it is given up.
async fn wait_for<T>(
    starting: AbortOnDropHandle<T>,
    limit: Duration,
    stop: &CancellationToken,
) -> Result<Result<T, JoinError>, String> {
    let unwanted = async {
        stop.cancelled().await;
        sleep(UNWANTED).await;
    };
    tokio::select! {
        biased;
        started = starting => Ok(started),
        () = unwanted => Err(STOPPED.to_owned()),
        () = sleep(limit) => {
            Err(format!("its shell did not start within {:?}; the directory may not answer", limit + IN_PLACE))
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
    fn carry_out(self, wanted: &Weak<()>) -> Result<Child, String> {
        if self.text.contains('\0') || self.asked.as_ref().is_some_and(|cwd| cwd.contains('\0')) {
            return Err("embedded null byte".to_owned());
        }
        // A directory that does not answer is met here and not by the new process, which has all files of this one open until it has
        // its program: the ends of other commands' pipes, and the port. What is wrong with it the start tells.
        // With a slash behind it one that is mounted when it is used is met as well.
        if let Some(cwd) = &self.cwd {
            let _ = access(cwd.join(""), Access::EXEC_OK);
        }
        if wanted.strong_count() == 0 {
            return Err("nobody waits for it any more".to_owned());
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
    access(path, Access::EXEC_OK).is_ok() && path.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::bash::timestamp;

    #[tokio::test]
    async fn a_start_that_takes_long_is_given_up_in_the_end_and_one_that_is_stopped_is_waited_for_a_little() {
        let (never, now) = (CancellationToken::new(), CancellationToken::new());
        now.cancel();
        let slow = || AbortOnDropHandle::new(tokio::spawn(sleep(UNWANTED / 4)));
        let stuck = || AbortOnDropHandle::new(tokio::spawn(std::future::pending::<()>()));
        let long = Duration::from_secs(60);
        assert!(wait_for(slow(), long, &never).await.is_ok());
        assert!(wait_for(slow(), long, &now).await.is_ok());
        assert!(wait_for(stuck(), long, &now).await.unwrap_err().starts_with("it was stopped"));
        assert!(wait_for(stuck(), UNWANTED / 4, &never).await.unwrap_err().contains("did not start within 1.25s"));
    }

    #[tokio::test]
    async fn no_more_than_some_starts_stand_still_and_one_that_waits_can_be_stopped() {
        let spawner = Spawner::new(None, CommandEnvironment::capture(1));
        let command = |cwd: &str| CommandRecord {
            id: EventId::random(),
            at: timestamp::now(),
            command: "true".into(),
            cwd: Some(cwd.into()),
            timeout: 1,
        };
        let (never, now) = (CancellationToken::new(), CancellationToken::new());
        now.cancel();
        let start = Arc::new(());
        let stand = |at: &str, many: usize| {
            spawner.standing.borrow_mut().extend(vec![(Some(at.into()), Arc::downgrade(&start)); many]);
        };
        stand("/tmp", 15);
        spawner.spawn(&command("/tmp"), &never).await.unwrap();
        stand("/tmp", 1);
        let refused = spawner.spawn(&command("/tmp"), &never).await.unwrap_err();
        assert_eq!(
            refused,
            "16 shells before it have not started: their directory, or this machine, may not answer; try again later"
        );
        spawner.spawn(&command("/"), &never).await.unwrap();
        stand("/elsewhere", 240);
        assert!(spawner.spawn(&command("/"), &never).await.unwrap_err().starts_with("256 shells before it"));
        drop(start);
        spawner.spawn(&command("/tmp"), &never).await.unwrap();

        let places = spawner.places.available_permits();
        let taken = spawner.places.acquire_many(places as u32).await.unwrap();
        assert!(spawner.spawn(&command("/"), &now).await.unwrap_err().starts_with("it was stopped before"));
        drop(taken);
        spawner.spawn(&command("/"), &never).await.unwrap();
        assert_eq!(spawner.places.available_permits(), places);
    }

    #[tokio::test]
    async fn a_start_that_nobody_waits_for_any_more_does_not_begin() {
        let folder = tempfile::tempdir().unwrap();
        let plan = |text: &str| Plan {
            id: EventId::random(),
            text: text.to_owned(),
            asked: None,
            cwd: Some(folder.path().to_owned()),
            environment: CommandEnvironment::capture(1),
        };
        let wish = Arc::new(());
        let wanted = Arc::downgrade(&wish);
        assert!(plan("touch wanted").carry_out(&wanted).unwrap().wait().await.unwrap().success());
        drop(wish);
        assert_eq!(plan("touch unwanted").carry_out(&wanted).unwrap_err(), "nobody waits for it any more");
        let made: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(made, ["wanted"]);
    }

    #[test]
    fn a_relative_directory_is_below_the_root() {
        let root = Path::new("/r");
        assert_eq!(working_directory(Some(root), None), Some("/r".into()));
        assert_eq!(working_directory(Some(root), Some("a")), Some("/r/a".into()));
        assert_eq!(working_directory(Some(root), Some("/a")), Some("/a".into()));
        assert_eq!(working_directory(None, None), None);
    }
}
