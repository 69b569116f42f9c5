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
    /// The file with the variables.
    env: Option<String>,
    /// The file with the command's stdin.
    stdin: Option<String>,
    /// Whether something was sent more than once. What arrives late makes the folder again, which the command has removed.
    is_repeated: bool,
}

impl PrivateFolder {
    /// Whether a command has anything that must not stand in its text.
    pub(super) fn is_needed(command: &ExecuteCommand) -> bool {
        !command.secret_env.is_empty() || command.stdin.is_some()
    }

    /// Makes the folder for a command that needs one.
    pub(super) async fn for_command(
        core: &Rc<Core>,
        command: &ExecuteCommand,
        caller: &CancellationToken,
    ) -> Result<Self, Failure> {
        // What can not be read here fails before anything is sent.
        if let Some(stdin) = &command.stdin {
            open(stdin).await?;
        }
        let path = format!("/tmp/.wsfleet-{}.d", EventId::random());
        let mut folder = Self { path, env: None, stdin: None, is_repeated: false };
        match folder.fill(core, &Retry::for_caller(core, caller), command).await {
            Ok(()) => Ok(folder),
            Err(failure) => {
                folder.remove(core).await;
                // Whatever became of the folder, the command itself was not sent.
                Err(Failure::not_sent(failure.kind))
            }
        }
    }

    async fn fill(&mut self, core: &Rc<Core>, retry: &Retry, command: &ExecuteCommand) -> Result<(), Failure> {
        // A name that nobody can guess is a folder of ours.
        let make = format!("[ -d {0} ] || mkdir -m 700 {0}", self.path);
        let made = retry.until_answered(|| helper::run(core, make.clone())).await?;
        if made.exit_code != Some(0) {
            let reason = made.stderr.unwrap_or_default();
            let detail = format!("cannot make a private folder in /tmp of the sandbox: {}", reason.trim());
            return Err(Failure::not_sent(ErrorKind::Rejected { status: 200, detail }));
        }
        if !command.secret_env.is_empty() {
            let exports: String = command
                .secret_env
                .iter()
                .map(|(name, value)| format!("{}\n", shell::export(name, value.expose_secret())))
                .collect();
            let exports = Bytes::from(exports);
            let body = || async { Ok(UploadBody::bytes(exports.clone())) };
            let env = deliver(core, retry, &format!("{}/env", self.path), body).await?;
            self.is_repeated |= env.is_repeated;
            self.env = Some(env.path);
        }
        if let Some(stdin) = &command.stdin {
            let stdin = deliver(core, retry, &format!("{}/stdin", self.path), || open(stdin)).await?;
            self.is_repeated |= stdin.is_repeated;
            self.stdin = Some(stdin.path);
        }
        Ok(())
    }

    /// What the command does with the folder before anything else.
    ///
    /// A late copy of an upload may arrive while the folder is being removed, which then fails and is made up for when the
    /// command has ended. The command's own stderr does not tell of it.
    pub(super) fn prelude(&self) -> String {
        let env = self.env.as_ref().map_or_else(String::new, |env| format!(". {env}; "));
        let stdin = self.stdin.as_ref().map_or_else(String::new, |stdin| format!("exec <{stdin}; "));
        format!("{env}{stdin}rm -rf {} 2>/dev/null; ", self.path)
    }

    /// Whether the folder may be there again although the command has removed it.
    pub(super) const fn may_come_again(&self) -> bool {
        self.is_repeated
    }

    /// Removes the folder while nobody waits for that.
    pub(super) fn remove_later(&self, core: &Rc<Core>) {
        let (folder, core) = (self.clone(), core.clone());
        let tasks = core.tasks.clone();
        tasks.spawn_local(async move { folder.remove(&core).await });
    }

    /// Removes the folder of a command that was never started. What cannot be removed stays behind a mode of 0700.
    async fn remove(&self, core: &Rc<Core>) {
        helper::tidy(core, &self.path, format!("rm -rf {}", self.path)).await;
    }
}

async fn open(stdin: &Stdin) -> Result<UploadBody, Failure> {
    match stdin {
        Stdin::Bytes(bytes) => Ok(UploadBody::bytes(bytes.clone())),
        Stdin::Path(path) => super::file::open_source(path).await,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_folder_that_cannot_be_removed_yet_is_not_the_commands_affair() {
        let folder =
            PrivateFolder { path: "/tmp/.wsfleet-none.d".to_owned(), env: None, stdin: None, is_repeated: true };
        let script = format!("rm() {{ echo 'Directory not empty' >&2; return 1; }}; {}echo ran", folder.prelude());
        let ended = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ended.stdout), "ran\n");
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    }
}
