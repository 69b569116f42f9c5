use std::{sync::Arc, time::Duration};

use super::{Engine, EngineError};
use crate::{
    CommandResult, FileOperationResult, Workspace,
    messages::{ExecuteCommand, FileStream, FileUpload, UploadSource},
    protocol::EventId,
    workspace::quote,
};

/// How long packing or unpacking a directory may take.
const PACKING: Duration = Duration::from_secs(600);

/// What the scripts exit with when the sandbox has no `tar`, and when there is no such directory.
const NO_TAR: i32 = 97;
const NO_DIRECTORY: i32 = 96;

/// A folder of the sandbox for an archive, which only its server's user can enter. It is removed when this is dropped.
pub(crate) struct Folder {
    engine: Arc<Engine>,
    workspace: Workspace,
    path: String,
}

impl Folder {
    fn archive(&self) -> String {
        format!("{}/directory.tar", self.path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let removed = self.workspace.execute_command(script(format!("rm -rf {}", self.path)));
        self.engine.spawn(async move {
            if let Err(error) = removed.await {
                log::warn!("an archive could not be removed from the sandbox: {error}");
            }
        });
    }
}

impl Engine {
    /// Writes a file of a workspace.
    pub(crate) async fn upload(
        &self,
        workspace: &str,
        source: UploadSource,
        path: String,
        sha256: bool,
    ) -> Result<FileOperationResult, EngineError> {
        let mut upload = FileUpload::new(source, path);
        upload.sha256 = sha256;
        Ok(self.workspace(workspace).await?.ask(upload).await?)
    }

    /// Reads a file of a workspace.
    pub(crate) async fn download(&self, workspace: &str, path: String) -> Result<FileStream, EngineError> {
        Ok(self.workspace(workspace).await?.file_read(path).await?)
    }

    /// Unpacks a tar stream into a directory of a workspace, which is made when it is missing.
    pub(crate) async fn upload_directory(
        self: &Arc<Self>,
        workspace: &str,
        archive: UploadSource,
        path: &str,
    ) -> Result<FileOperationResult, EngineError> {
        check_absolute(path)?;
        let folder = self.folder(workspace, "").await?;
        let mut result = folder.workspace.file_upload(archive, folder.archive()).await?;
        let target = quote(path);
        let text = format!("mkdir -p {target} && tar -xpof {} -C {target}", folder.archive());
        let unpacked = folder.workspace.execute_command(script(text)).await?;
        check(&unpacked, "unpack the archive into", path)?;
        path.clone_into(&mut result.destination_path);
        Ok(result)
    }

    /// Packs a directory of a workspace. The folder is to be kept until the stream was read.
    pub(crate) async fn download_directory(
        self: &Arc<Self>,
        workspace: &str,
        path: &str,
    ) -> Result<(FileStream, Folder), EngineError> {
        check_absolute(path)?;
        let source = quote(path);
        let folder = self.folder(workspace, &format!("[ -d {source} ] || exit {NO_DIRECTORY}; ")).await?;
        let text = format!("tar -C {source} -cf {} .", folder.archive());
        let packed = folder.workspace.execute_command(script(text)).await?;
        // With 1 GNU tar says that files were written meanwhile: the archive is sound all the same.
        if packed.exit_code != 1 {
            check(&packed, "pack the directory", path)?;
        }
        let stream = folder.workspace.file_read(folder.archive()).await?;
        Ok((stream, folder))
    }

    async fn folder(self: &Arc<Self>, workspace: &str, first: &str) -> Result<Folder, EngineError> {
        let workspace = self.workspace(workspace).await?;
        let path = format!("/tmp/.wsfleet-{}.d", EventId::random());
        let text = format!("{first}command -v tar >/dev/null 2>&1 || exit {NO_TAR}; mkdir -m 700 {path}");
        let made = workspace.execute_command(script(text)).await?;
        check(&made, "make a folder for", "the archive")?;
        Ok(Folder { engine: Arc::clone(self), workspace, path })
    }
}

fn script(text: String) -> ExecuteCommand {
    ExecuteCommand::new(text).with_timeout(PACKING).with_max_output(4096)
}

fn check_absolute(path: &str) -> Result<(), EngineError> {
    if path.starts_with('/') && !path.contains('\0') {
        return Ok(());
    }
    let shown: String = path.chars().take(200).collect();
    Err(EngineError::Invalid(format!(
        "the path `{}` is not absolute: give one that begins with /",
        shown.escape_debug()
    )))
}

fn check(result: &CommandResult, what: &str, path: &str) -> Result<(), EngineError> {
    match result.exit_code {
        0 => Ok(()),
        NO_DIRECTORY => Err(EngineError::NotFound { what: "directory", name: path.to_owned() }),
        NO_TAR => Err(EngineError::Conflict("the sandbox has no `tar`, which directories are moved with".to_owned())),
        code => {
            Err(EngineError::Invalid(format!("can not {what} {path} (exit code {code}): {}", result.stderr.trim())))
        }
    }
}
