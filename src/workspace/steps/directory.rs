use std::{
    io,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use tokio::{sync::mpsc, task::spawn_blocking};

use super::{file::check_remote, helper};
use crate::{
    Effect, ErrorKind, Failure, FileOperationResult,
    client::UploadBody,
    messages::{DirectoryDownload, DirectoryUpload},
    protocol::{BashOutput, EventId},
    workspace::{
        core::Core,
        directory::{FromPieces, IntoPieces, Packed, Unpacked, measure, pack, unpack},
        shell,
    },
};

/// How many pieces may wait between the network and the disk.
const PIECES: usize = 4;

/// How long packing a directory in the sandbox may take.
const PACKING: Duration = Duration::from_secs(600);

/// The slowest that a sandbox is expected to unpack.
const UNPACKED_PER_SECOND: u64 = 2 << 20;

/// What the scripts exit with when the sandbox has no `tar`.
const NO_TAR: i32 = 97;
/// What the scripts exit with when there is no such directory.
const NO_DIRECTORY: i32 = 96;

/// Copies a directory into the sandbox.
pub(crate) async fn upload(core: &Rc<Core>, upload: DirectoryUpload) -> Result<FileOperationResult, Failure> {
    check_remote(&upload.destination)?;
    let source = upload.source.clone();
    let planned = blocking(&upload.source, move || measure(&source)).await?;
    let folder = Folder::new();
    let made = helper::run(core, format!("{}{}", folder.needs_tar(), folder.make())).await?;
    check(&made, "make a folder in /tmp of the sandbox", &upload.destination)?;
    let sent = send(core, &folder, &upload, planned).await;
    folder.remove(core).await;
    sent?;
    Ok(FileOperationResult {
        success: true,
        source_path: upload.source.display().to_string(),
        destination_path: upload.destination,
        file_size: Some(planned.bytes),
        files: Some(planned.files),
        error: None,
        trace: None,
    })
}

async fn send(core: &Rc<Core>, folder: &Folder, upload: &DirectoryUpload, planned: Packed) -> Result<(), Failure> {
    let (pieces, taken) = mpsc::channel(PIECES);
    let source = upload.source.clone();
    let packing = spawn_blocking(move || {
        let mut into = IntoPieces::new(pieces);
        if let Err(failure) = pack(&source, &mut into) {
            into.fail(failure);
        }
    });
    let body = UploadBody::pieces(taken, planned.size, upload.source.display().to_string());
    let uploaded = core.client()?.upload(&folder.archive(), body).await;
    // It ends with the upload: nobody takes its pieces any more.
    let _ = packing.await;
    uploaded?;
    let destination = shell::quote(&upload.destination);
    let script = format!("mkdir -p {destination} && tar -xpof {} -C {destination}", folder.archive());
    let patience = helper::PATIENCE + Duration::from_secs(planned.size / UNPACKED_PER_SECOND);
    let unpacked = helper::run_within(core, script, patience).await?;
    check(&unpacked, "unpack the directory", &upload.destination)
        .map_err(|failure| Failure { effect: Effect::MaybeSent, ..failure })
}

/// Copies a directory out of the sandbox.
pub(crate) async fn download(core: &Rc<Core>, download: DirectoryDownload) -> Result<FileOperationResult, Failure> {
    check_remote(&download.source)?;
    let destination = download.destination.clone();
    blocking(&download.destination, move || check_free(&destination)).await?;
    let folder = Folder::new();
    let source = shell::quote(&download.source);
    let script = format!(
        "{}[ -d {source} ] || exit {NO_DIRECTORY}; {} && tar -C {source} -cf {} .",
        folder.needs_tar(),
        folder.make(),
        folder.archive()
    );
    let received = match helper::run_within(core, script, PACKING).await {
        Ok(packed) => match check_packed(&packed, &download.source) {
            Ok(()) => receive(core, &folder, &download.destination).await,
            Err(failure) => Err(failure),
        },
        Err(failure) => return Err(failure),
    };
    folder.remove(core).await;
    let unpacked = received?;
    let (files, bytes) = (unpacked.files, unpacked.bytes);
    let destination = download.destination.clone();
    blocking(&download.destination, move || {
        check_free(&destination)?;
        unpacked.place(&destination)
    })
    .await?;
    Ok(FileOperationResult {
        success: true,
        source_path: download.source,
        destination_path: download.destination.display().to_string(),
        file_size: Some(bytes),
        files: Some(files),
        error: None,
        trace: None,
    })
}

async fn receive(core: &Rc<Core>, folder: &Folder, destination: &Path) -> Result<Unpacked, Failure> {
    let mut answer = core.client()?.download(&folder.archive(), None, None).await?;
    let (pieces, taken) = mpsc::channel(PIECES);
    let target = destination.to_owned();
    let unpacking = spawn_blocking(move || unpack(FromPieces::new(taken), &target));
    let mut fetched = Ok(());
    while let Some(piece) = answer.chunk().await {
        match piece {
            // After its end mark an archive is filled up with zeros, which nobody takes.
            Ok(piece) => {
                if pieces.send(piece).await.is_err() {
                    break;
                }
            }
            Err(failure) => {
                fetched = Err(failure);
                break;
            }
        }
    }
    drop(pieces);
    let unpacked = unpacking.await.map_err(|error| broken(destination, &error))?;
    // What was unpacked of a stream that ended early is removed here.
    fetched?;
    unpacked
}

/// A folder of the sandbox for the archive, which only the server's user can enter.
struct Folder(String);

impl Folder {
    fn new() -> Self {
        Self(format!("/tmp/.wsfleet-{}.d", EventId::random()))
    }

    fn needs_tar(&self) -> String {
        format!("command -v tar >/dev/null 2>&1 || exit {NO_TAR}; ")
    }

    fn make(&self) -> String {
        format!("mkdir -m 700 {}", self.0)
    }

    fn archive(&self) -> String {
        format!("{}/directory.tar", self.0)
    }

    async fn remove(&self, core: &Rc<Core>) {
        if let Err(failure) = helper::run(core, format!("rm -rf {}", self.0)).await {
            log::warn!("{}: {} could not be removed from the sandbox: {failure}", core.config.name, self.0);
        }
    }
}

/// Refuses a destination that is there, unless it is an empty directory: a whole directory takes its place.
fn check_free(destination: &Path) -> Result<(), Failure> {
    let refuse = |reason: &str| {
        let path = destination.display().to_string();
        Err(Failure::not_sent(ErrorKind::Local { path, reason: reason.to_owned() }))
    };
    match destination.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => refuse(&error.to_string()),
        Ok(found) if !found.is_dir() => refuse("it is there already and is no directory; name another"),
        Ok(_) => match std::fs::read_dir(destination).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(()),
            Ok(false) => refuse("there is a directory with something in it already; name another, or remove it first"),
            Err(error) => refuse(&error.to_string()),
        },
    }
}

/// What GNU tar says with exit code 1 of files that were written meanwhile: the archive is sound all the same.
fn check_packed(packed: &BashOutput, source: &str) -> Result<(), Failure> {
    let said = packed.stderr.as_deref().unwrap_or_default();
    let is_harmless =
        |line: &str| line.ends_with("file changed as we read it") || line.ends_with("File removed before we read it");
    if packed.exit_code == Some(1) && !said.trim().is_empty() && said.lines().all(is_harmless) {
        return Ok(());
    }
    check(packed, "pack the directory", source)
}

fn check(output: &BashOutput, what: &str, path: &str) -> Result<(), Failure> {
    let kind = match output.exit_code {
        Some(0) => return Ok(()),
        Some(NO_DIRECTORY) => ErrorKind::NotFound { detail: format!("the sandbox has no directory {path}") },
        Some(NO_TAR) => ErrorKind::Rejected {
            status: 200,
            detail:
                "the sandbox has no `tar`, which directories are moved with: install it there, or move single files"
                    .to_owned(),
        },
        code => {
            let said = output.stderr.as_deref().unwrap_or_default().trim();
            let code = code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
            ErrorKind::Rejected { status: 200, detail: format!("can not {what} {path} ({code}): {said}") }
        }
    };
    Err(Failure::not_sent(kind))
}

/// Does something with files on a thread that may wait for them.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.map_err(|error| broken(path, &error))?
}

fn broken(path: &Path, error: &tokio::task::JoinError) -> Failure {
    let path: PathBuf = path.to_owned();
    Failure::not_sent(ErrorKind::Local { path: path.display().to_string(), reason: format!("its files: {error}") })
}
