use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::ExitStatus,
    time::Duration,
};

use nix::{
    libc,
    spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn},
    sys::signal::{SigSet, Signal as NixSignal},
};
use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process_group, pidfd_open, waitpid},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    process::{ChildStderr, ChildStdout},
    time::sleep,
};

/// How often it is looked whether a child has ended where the system does not tell.
const LOOKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// What is to be run, all of it as the system takes it.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub(super) path: &'a CStr,
    /// With its name first.
    pub(super) arguments: &'a [CString],
    /// The whole environment.
    pub(super) environment: &'a [CString],
    pub(super) cwd: Option<&'a CStr>,
}

/// A process in a session of its own, with nothing to read and both its streams to be read.
///
/// The libraries for processes begin a session between fork and exec, and so copy the tables of all memory of this process for
/// each: half of what a short command costs, and more in a large program. `posix_spawn` does it without.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    /// Whether it has been waited for, so that its number may be another's.
    gone: bool,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

impl Child {
    /// Blocks until the program has taken the place of this one in the new process. To be called within a runtime.
    pub(super) fn spawn(program: &Program<'_>) -> io::Result<Self> {
        let nothing =
            File::open("/dev/null").map_err(|error| io::Error::new(error.kind(), format!("/dev/null: {error}")))?;
        let (stdout, its_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, its_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let stdout = ChildStdout::from_std(stdout.into())?;
        let stderr = ChildStderr::from_std(stderr.into())?;

        let mut actions = PosixSpawnFileActions::init()?;
        let given: [OwnedFd; 3] = [nothing.into(), its_stdout, its_stderr];
        for (fd, place) in given.iter().zip(0..) {
            actions.add_dup2(fd.as_raw_fd(), place)?;
        }
        if let Some(cwd) = program.cwd {
            add_chdir(&mut actions, cwd)?;
        }
        let pid = posix_spawn(program.path, &actions, &session()?, program.arguments, program.environment)?;
        let pid = Pid::from_raw(pid.as_raw()).ok_or_else(|| io::Error::other("a process without a number"))?;
        Ok(Self { pid, gone: false, stdout: Some(stdout), stderr: Some(stderr) })
    }

    /// Its number, until it has been waited for.
    pub(super) fn pid(&self) -> Option<Pid> {
        (!self.gone).then_some(self.pid)
    }

    /// Waits for its end. May be given up and begun again, until it has told the end.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.wait_for(told_of_end).await
    }

    async fn wait_for(&mut self, told: fn(Pid) -> io::Result<AsyncFd<OwnedFd>>) -> io::Result<ExitStatus> {
        // Most have ended by now, since their streams have, and need not be registered.
        if let Some(status) = self.look()? {
            return Ok(status);
        }
        if let Ok(end) = told(self.pid) {
            drop(end.readable().await?);
        }
        // An old system tells nothing, nor does one that is imitated; and of one that is traced the tracer is to hear first.
        let mut pause = LOOKS.0;
        loop {
            if let Some(status) = self.look()? {
                return Ok(status);
            }
            sleep(pause).await;
            pause = (2 * pause).min(LOOKS.1);
        }
    }

    fn look(&mut self) -> io::Result<Option<ExitStatus>> {
        let found = loop {
            match waitpid(Some(self.pid), WaitOptions::NOHANG) {
                Err(rustix::io::Errno::INTR) => {}
                found => break found,
            }
        };
        // It is not this one's child any more where the system was told to keep none that have ended.
        self.gone = !matches!(found, Ok(None));
        Ok(found?.map(|(_, status)| ExitStatus::from_raw(status.as_raw())))
    }
}

impl Drop for Child {
    /// Ends a process that nobody has waited for, with its group, which is all that can be reached from here. The system keeps
    /// it until it is waited for.
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        let _ = kill_process_group(self.pid, Signal::KILL);
        if matches!(self.look(), Ok(None)) {
            let pid = self.pid;
            let _ = std::thread::Builder::new().spawn(move || waitpid(Some(pid), WaitOptions::empty()));
        }
    }
}

/// What becomes readable when a process ends.
fn told_of_end(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    #[allow(deprecated, reason = "an owned descriptor does not lie about which it is, and the successor is unsafe")]
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// A session of its own, and signals as a program expects them: none held back, and the one of a broken pipe not ignored, as
/// it is in this process.
fn session() -> nix::Result<PosixSpawnAttr> {
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::from(NixSignal::SIGPIPE))?;
    let own_session = PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID.into());
    attributes
        .set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | own_session)?;
    Ok(attributes)
}

/// The directory to begin in.
fn add_chdir(actions: &mut PosixSpawnFileActions, cwd: &CStr) -> io::Result<()> {
    let actions: *mut PosixSpawnFileActions = actions;
    // SAFETY: the wrapper is `repr(transparent)` over what the function takes, it is initialised and borrowed for this call, and
    // the path, which is copied, ends with a null byte.
    #[expect(unsafe_code, reason = "the library for posix_spawn lacks this action")]
    let result = unsafe {
        libc::posix_spawn_file_actions_addchdir_np(actions.cast::<libc::posix_spawn_file_actions_t>(), cwd.as_ptr())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn shell(text: &str, cwd: Option<&CStr>) -> io::Result<Child> {
        let arguments = [c"/bin/sh".to_owned(), c"-c".to_owned(), CString::new(text).unwrap()];
        let environment = [c"WORD=kept".to_owned()];
        Child::spawn(&Program { path: c"/bin/sh", arguments: &arguments, environment: &environment, cwd })
    }

    async fn output(child: &mut Child) -> String {
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn it_has_its_directory_environment_and_empty_input() {
        let mut child = shell("pwd; echo $WORD; cat; exit 7", Some(c"/usr/..")).unwrap();
        assert_eq!(output(&mut child).await, "/\nkept\n");
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        assert_eq!(child.pid(), None);
    }

    #[tokio::test]
    async fn it_leads_a_session_and_dies_of_a_broken_pipe() {
        // The fields of its line: number, name, state, parent, group, session.
        let mut child = shell("read pid name state parent group session rest < /proc/self/stat; echo $pid $group $session; grep SigIgn /proc/self/status", None).unwrap();
        let pid = child.pid().unwrap().as_raw_pid();
        let told = output(&mut child).await;
        let (line, ignored) = told.split_once('\n').unwrap();
        assert_eq!(line, format!("{pid} {pid} {pid}"));
        let ignored = u64::from_str_radix(ignored.trim().rsplit('\t').next().unwrap(), 16).unwrap();
        assert_eq!(ignored & 1 << (NixSignal::SIGPIPE as u64 - 1), 0, "{told}");
    }

    #[tokio::test]
    async fn what_is_wrong_is_told() {
        let missing = shell("true", Some(c"/not/there")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let no_directory = shell("true", Some(c"/dev/null")).unwrap_err();
        assert_eq!(no_directory.kind(), io::ErrorKind::NotADirectory);
    }

    #[tokio::test]
    async fn its_end_is_seen_with_and_without_the_system_telling_it() {
        for told in [told_of_end, |_| Err(io::ErrorKind::Unsupported.into())] {
            // Its streams end long before it does.
            let mut child = shell("exec >&- 2>&-; sleep 0.3; kill -9 $$", None).unwrap();
            assert_eq!(output(&mut child).await, "");
            assert!(child.look().unwrap().is_none());
            assert_eq!(child.wait_for(told).await.unwrap().signal(), Some(9));
        }
    }

    #[tokio::test]
    async fn one_that_is_dropped_is_ended_and_waited_for() {
        let child = shell("sleep 60 & sleep 60", None).unwrap();
        let pid = child.pid().unwrap();
        drop(child);
        // Its number is free only when it has been waited for.
        let began = Instant::now();
        while rustix::process::test_kill_process(pid).is_ok() {
            assert!(began.elapsed() < Duration::from_secs(10), "it is still there");
            sleep(LOOKS.0).await;
        }
    }
}
