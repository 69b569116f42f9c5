use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use bytes::Bytes;
use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ask;
use crate::{CommandResult, Operation, OutputStream, protocol::EventId, workspace::optional_millis};

/// The default bound of a command's time, that of the Python class.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The default bound of collected output, for each stream.
const DEFAULT_MAX_OUTPUT: usize = 256 << 20;

/// Gives a message that waits for a command the methods that all such have.
macro_rules! waits_for_a_command {
    ($message:ty) => {
        impl $message {
            /// Sets how many bytes of each output stream are kept.
            #[must_use]
            pub const fn with_max_output(mut self, bytes: usize) -> Self {
                self.max_output = bytes;
                self
            }

            /// Sets what happens when nobody waits for it any more.
            #[must_use]
            pub const fn with_on_drop(mut self, on_drop: OnDrop) -> Self {
                self.on_drop = on_drop;
                self
            }
        }
    };
}

pub(crate) use waits_for_a_command;

/// Runs a command and waits for its end. Answer: [`CommandResult`].
///
/// Its start is a step; waiting for its end is not, unless [`hold_until`](Self::hold_until) says so.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExecuteCommand {
    /// The text for the sandbox's `/bin/sh`, at most 131,071 bytes with what is put before it.
    pub command: String,
    /// The directory to run in. Default: the workspace's `default_cwd`, else the server's choice.
    #[serde(default)]
    pub cwd: Option<String>,
    /// How long it may take, from the answer to its start. Default: 30 s. `None`: as long as it likes. Stored as
    /// `timeout_ms`, null for no bound.
    #[serde(default = "default_timeout", with = "optional_millis", rename = "timeout_ms")]
    pub timeout: Option<Duration>,
    /// Variables of its environment, put before the command in clear text.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables that must appear neither in the command's text nor in a log.
    #[serde(
        default,
        skip_deserializing,
        skip_serializing_if = "BTreeMap::is_empty",
        serialize_with = "refuse_secrets"
    )]
    pub secret_env: BTreeMap<String, SecretString>,
    /// What it reads from its standard input. Default: whatever the server gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Stdin>,
    /// How many bytes of each stream are kept, the first half and the last half of them. Default: 256 MiB.
    #[serde(default = "default_max_output")]
    pub max_output: usize,
    /// When the next step may begin. Default: when this command has started.
    #[serde(default)]
    pub hold_until: HoldUntil,
    /// What happens to the command when nobody waits for it any more. Default: it is stopped. Whether somebody waits is
    /// seen of handles and runs, not of a plain message to the actor.
    #[serde(default)]
    pub on_drop: OnDrop,
    /// The id that it is known by before it is started, to [resume](Self::resume) it by: a new one for each command. Its
    /// processes have it in `WSFLEET_COMMAND_ID`, or one that follows from it. Default: a random one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_id: Option<EventId>,
    /// Whether it may have been started before under its [`process_id`](Self::process_id), by a process that has ended. Then it
    /// is looked for first and taken over, with its output from the beginning; it is started only where it is certain that it
    /// never ran. Its time counts from its first start. Two processes must not resume it at once. It is found as long as its
    /// server lists it: one that forgets its commands when it ends, as the embedded agent server does, may run it again.
    /// Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resume: bool,
    /// The time that the server is given, in its own whole seconds, in place of one that follows from `timeout`.
    #[serde(skip)]
    pub(crate) server_timeout: Option<i64>,
}

/// When the step of an [`ExecuteCommand`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldUntil {
    /// When the command has started.
    #[default]
    Started,
    /// When the command has ended.
    Finished,
}

/// What happens to a command whose `execute_command` future was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDrop {
    /// It is stopped.
    #[default]
    Stop,
    /// It runs on, unwatched, bounded by the server's own timeout.
    Detach,
}

/// What a command reads from its standard input.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// These bytes.
    #[serde(skip_deserializing, serialize_with = "refuse_bytes")]
    Bytes(Bytes),
    /// The content of a file of this machine, read when the command is started.
    Path(PathBuf),
}

/// Bytes are not shown, only counted: stdin is where secrets are sent through.
impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
        }
    }
}

const fn default_timeout() -> Option<Duration> {
    Some(DEFAULT_TIMEOUT)
}

const fn default_max_output() -> usize {
    DEFAULT_MAX_OUTPUT
}

fn refuse_secrets<S: Serializer>(_: &BTreeMap<String, SecretString>, _: S) -> Result<S::Ok, S::Error> {
    Err(S::Error::custom(
        "a command with secret variables is not stored: leave `secret_env` empty and set it again on use",
    ))
}

pub(super) fn refuse_bytes<S: Serializer>(_: &Bytes, _: S) -> Result<S::Ok, S::Error> {
    Err(S::Error::custom("bytes in memory are not stored: write them to a file and name its path"))
}

impl ExecuteCommand {
    /// This command, all else at its default.
    #[must_use]
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            cwd: None,
            timeout: default_timeout(),
            env: BTreeMap::new(),
            secret_env: BTreeMap::new(),
            stdin: None,
            max_output: DEFAULT_MAX_OUTPUT,
            hold_until: HoldUntil::default(),
            on_drop: OnDrop::default(),
            process_id: None,
            resume: false,
            server_timeout: None,
        }
    }

    /// Sets the directory to run in.
    #[must_use]
    pub fn with_cwd(mut self, directory: impl Into<String>) -> Self {
        self.cwd = Some(directory.into());
        self
    }

    /// Sets how long it may take; `None` takes the bound away.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Sets a variable that appears neither in the command's text nor in a log.
    #[must_use]
    pub fn with_secret_env(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.secret_env.insert(name.into(), value.into());
        self
    }

    /// Sets what it reads from its standard input.
    #[must_use]
    pub fn with_stdin(mut self, bytes: impl Into<Bytes>) -> Self {
        self.stdin = Some(Stdin::Bytes(bytes.into()));
        self
    }

    /// Sets when the next step may begin.
    #[must_use]
    pub const fn with_hold_until(mut self, hold_until: HoldUntil) -> Self {
        self.hold_until = hold_until;
        self
    }

    /// Sets the id that it is known by before it is started.
    #[must_use]
    pub fn with_process_id(mut self, id: impl Into<Option<EventId>>) -> Self {
        self.process_id = id.into();
        self
    }

    /// Sets whether it may have been started before, by a process that has ended.
    #[must_use]
    pub const fn with_resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }
}

impl From<&str> for ExecuteCommand {
    fn from(command: &str) -> Self {
        Self::new(command)
    }
}

impl From<String> for ExecuteCommand {
    fn from(command: String) -> Self {
        Self::new(command)
    }
}

waits_for_a_command!(ExecuteCommand);
ask!(ExecuteCommand => CommandResult, Operation::ExecuteCommand, traced);

/// Starts a command and does not wait for its end. Answer: the id that the server gave it.
///
/// Its output is read with [`GetCommandOutput`], and [`AttachCommand`] follows it, from here or from another process. When its
/// time is up it is stopped, as with [`ExecuteCommand`]. With [`OnDrop::Detach`] it goes on when the workspace or the whole
/// fleet ends, and the server alone holds to its time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartCommand(pub ExecuteCommand);

impl<T: Into<ExecuteCommand>> From<T> for StartCommand {
    fn from(command: T) -> Self {
        Self(command.into())
    }
}

ask!(StartCommand => EventId, Operation::StartCommand);

/// Follows a command that was started before, from this process or from any other, to its end. Not a step. Answer:
/// [`CommandResult`], with the output from the positions on that were asked for; its `stdout_bytes` and `stderr_bytes` count
/// from the command's beginning, and so are the positions to go on from.
///
/// An unknown id is [`NotFound`](crate::ErrorKind::NotFound). Of a command that has ended everything is there at once. The
/// command's own time, which its server holds to, is not changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AttachCommand {
    /// The id that the server gave the command.
    pub command_id: EventId,
    /// From which byte of its standard output on. Within a character, from the beginning of that. Default: 0, all of it.
    #[serde(default)]
    pub stdout_from: u64,
    /// From which byte of its standard error on. Default: 0, all of it.
    #[serde(default)]
    pub stderr_from: u64,
    /// How many bytes of each stream are kept, the first half and the last half of them. Default: 256 MiB.
    #[serde(default = "default_max_output")]
    pub max_output: usize,
    /// How long the command may take, counted from its own beginning. What takes longer is stopped, and what had taken longer
    /// before anybody could stop it counts as ended by its time. Default: as long as it takes. Stored as `timeout_ms`.
    #[serde(default, with = "optional_millis", rename = "timeout_ms")]
    pub timeout: Option<Duration>,
    /// What happens to the command when nobody waits for it here any more. Default: it runs on.
    #[serde(default = "runs_on")]
    pub on_drop: OnDrop,
}

const fn runs_on() -> OnDrop {
    OnDrop::Detach
}

impl AttachCommand {
    /// Follows this command from its beginning.
    #[must_use]
    pub const fn new(command_id: EventId) -> Self {
        let max_output = DEFAULT_MAX_OUTPUT;
        Self { command_id, stdout_from: 0, stderr_from: 0, max_output, timeout: None, on_drop: runs_on() }
    }

    /// Leaves out the output before these bytes of the two streams.
    #[must_use]
    pub const fn from_position(mut self, stdout: u64, stderr: u64) -> Self {
        (self.stdout_from, self.stderr_from) = (stdout, stderr);
        self
    }

    /// Bounds how long the command may take, counted from its own beginning; `None` for no bound.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }
}

impl From<EventId> for AttachCommand {
    fn from(command_id: EventId) -> Self {
        Self::new(command_id)
    }
}

waits_for_a_command!(AttachCommand);
ask!(AttachCommand => CommandResult, Operation::AttachCommand, traced);

/// Reads what a command has written so far, whoever started it. Answer: [`CommandOutput`]. Not a step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct GetCommandOutput {
    /// The id that the server gave the command.
    pub command_id: EventId,
}

ask!(GetCommandOutput => CommandOutput, Operation::GetCommandOutput);

/// What a command has written so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutput {
    /// Its standard output so far.
    pub stdout: String,
    /// Its standard error so far.
    pub stderr: String,
    /// The exit code, when it has ended.
    pub exit_code: Option<i32>,
}

/// Ends a command with all its processes. Not a step. A command that has ended already is left as it is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct StopCommand {
    /// The id that the server gave the command.
    pub command_id: EventId,
}

ask!(StopCommand => (), Operation::StopCommand);

/// One thing that happened to a command, for those who follow it while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum CommandEvent {
    /// It was started.
    Started {
        /// The id that the server gave it.
        command_id: EventId,
    },
    /// It wrote output.
    Output {
        /// To which stream.
        stream: OutputStream,
        /// The new text.
        text: String,
    },
}

/// An [`ExecuteCommand`] with what only this process can give: a way to follow it, and the sight of its caller.
pub(crate) struct Execute {
    pub(crate) command: ExecuteCommand,
    /// Cancelled when the caller wants it stopped or has gone.
    pub(crate) caller: CancellationToken,
    /// Cancelled when it is not to be started any more, where it was not. One that was is left alone.
    pub(crate) called_off: CancellationToken,
    /// Takes the events.
    pub(crate) events: Option<mpsc::Sender<CommandEvent>>,
    /// Whether output is among them. It is held back while there is no room for it.
    pub(crate) follow_output: bool,
    /// The command, where it is known to have been started.
    pub(crate) known: Option<Known>,
}

/// A command that was started before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// The id that the server gave it.
    pub(crate) command_id: EventId,
    /// How many bytes of its two streams are not to be sent to the follower again.
    pub(crate) told: [u64; 2],
}

ask!(Execute => CommandResult, Operation::ExecuteCommand, traced);

/// An [`AttachCommand`] with what only this process can give.
pub(crate) struct Attach {
    pub(crate) attach: AttachCommand,
    pub(crate) caller: CancellationToken,
    pub(crate) events: Option<mpsc::Sender<CommandEvent>>,
    /// Whether output is among them. It is held back while there is no room for it.
    pub(crate) follow_output: bool,
    /// How many bytes of its two streams are not to be sent to the follower again.
    pub(crate) told: [u64; 2],
}

ask!(Attach => CommandResult, Operation::AttachCommand, traced);

/// What a started command is watched by.
pub(crate) struct Spec {
    pub(crate) command: String,
    pub(crate) timeout: Option<Duration>,
    pub(crate) max_output: usize,
}
