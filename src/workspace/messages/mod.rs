//! What a workspace can be asked: one message a type, named as the methods of the Python class are.
//!
//! The messages are serde types. A secret or bytes in memory do not leave the process: a message that holds one
//! refuses to be serialised and says what to use instead.

mod command;
mod control;
mod file;
mod git;

pub use command::{
    CommandEvent, CommandOutput, ExecuteCommand, GetCommandOutput, HoldUntil, OnDrop, StartCommand, Stdin, StopCommand,
};
pub(crate) use command::{Execute, Spec};
pub use control::{Alive, GetServerInfo, Observe, ResetClient, Shutdown, UpdateConnection};
pub use file::{FileDownload, FileUpload, UploadSource};
pub use git::{DiffBase, GitChanges, GitCommits, GitDiff};
