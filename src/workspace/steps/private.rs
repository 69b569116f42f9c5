use std::rc::Rc;

use bytes::Bytes;
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use super::{helper, upload::deliver};
use crate::{
    ErrorKind, Failure,
    client::UploadBody,
    messages::{ExecuteCommand, Stdin},
    protocol::EventId,
    workspace::{backoff::Retry, core::Core, shell},
};

/// A folder of the sandbox that only the server's user can enter, with what must not stand in a command's text.
///
/// The command sources and redirects from it and removes it before anything else.
#[derive(Clone)]
pub(super) struct PrivateFolder {
    path: String,
    has_env: bool,
    has_stdin: bool,
}

impl PrivateFolder {
    /// Makes the folder for a command that needs one.
    pub(super) async fn for_command(
        core: &Rc<Core>,
        command: &ExecuteCommand,
        caller: &CancellationToken,
    ) -> Result<Option<Self>, Failure> {
        if command.secret_env.is_empty() && command.stdin.is_none() {
            return Ok(None);
        }
        // What can not be read here fails before anything is sent.
        let has_stdin = match &command.stdin {
            Some(stdin) => open(stdin).await.map(|_| true)?,
            None => false,
        };
        let folder = Self {
            path: format!("/tmp/.wsfleet-{}.d", EventId::random()),
            has_env: !command.secret_env.is_empty(),
            has_stdin,
        };
        match folder.fill(core, &Retry::for_caller(core, caller), command).await {
            Ok(()) => Ok(Some(folder)),
            Err(failure) => {
                folder.remove(core).await;
                // Whatever became of the folder, the command itself was not sent.
                Err(Failure::not_sent(failure.kind))
            }
        }
    }

    async fn fill(&self, core: &Rc<Core>, retry: &Retry, command: &ExecuteCommand) -> Result<(), Failure> {
        // A name that nobody can guess is a folder of ours.
        let make = format!("[ -d {0} ] || mkdir -m 700 {0}", self.path);
        let made = retry.until_answered(|| helper::run(core, make.clone())).await?;
        if made.exit_code != Some(0) {
            let reason = made.stderr.unwrap_or_default();
            let detail = format!("cannot make a private folder in /tmp of the sandbox: {}", reason.trim());
            return Err(Failure::not_sent(ErrorKind::Rejected { status: 200, detail }));
        }
        if self.has_env {
            let exports: String = command
                .secret_env
                .iter()
                .map(|(name, value)| format!("{}\n", shell::export(name, value.expose_secret())))
                .collect();
            let exports = Bytes::from(exports);
            let body = || async { Ok(UploadBody::bytes(exports.clone())) };
            deliver(core, retry, &format!("{}/env", self.path), body).await?;
        }
        if let Some(stdin) = &command.stdin {
            deliver(core, retry, &format!("{}/stdin", self.path), || open(stdin)).await?;
        }
        Ok(())
    }

    /// What the command does with the folder before anything else.
    pub(super) fn prelude(&self) -> String {
        let env = if self.has_env { format!(". {}/env; ", self.path) } else { String::new() };
        let stdin = if self.has_stdin { format!("exec <{}/stdin; ", self.path) } else { String::new() };
        format!("{env}{stdin}rm -rf {}; ", self.path)
    }

    /// Removes the folder while nobody waits for that.
    pub(super) fn remove_later(&self, core: &Rc<Core>) {
        let (folder, core) = (self.clone(), core.clone());
        let tasks = core.tasks.clone();
        tasks.spawn_local(async move { folder.remove(&core).await });
    }

    /// Removes the folder of a command that was never started. What cannot be removed stays behind a mode of 0700.
    async fn remove(&self, core: &Rc<Core>) {
        if let Err(failure) = helper::run(core, format!("rm -rf {}", self.path)).await {
            log::warn!("{}: {} could not be removed from the sandbox: {failure}", core.config.name, self.path);
        }
    }
}

async fn open(stdin: &Stdin) -> Result<UploadBody, Failure> {
    match stdin {
        Stdin::Bytes(bytes) => Ok(UploadBody::bytes(bytes.clone())),
        Stdin::Path(path) => super::file::open_source(path).await,
    }
}
