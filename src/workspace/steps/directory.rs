use std::{cell::Cell, io, path::Path, rc::Rc, time::Duration};

use bytes::Bytes;
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{
    command::run_own,
    fetch::{Fetch, Piece},
    file::check_remote,
    helper,
    meter::Meter,
    upload::deliver,
};
use crate::{
    CommandResult, Effect, ErrorKind, Failure, FileOperationResult,
    client::UploadBody,
    messages::{DirectoryDownload, DirectoryUpload},
    protocol::EventId,
    workspace::{
        backoff::Retry,
        core::Core,
        directory::{FromPieces, IntoPieces, Packed, Unpacked, measure, pack, unpack},
        local_files::{blocking, broken},
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
/// What they exit with when an earlier try of the same ended without leaving its exit code.
const CUT_OFF: i32 = 98;

/// Copies a directory into the sandbox.
pub(crate) async fn upload(core: &Rc<Core>, upload: DirectoryUpload) -> Result<FileOperationResult, Failure> {
    check_remote(&upload.destination)?;
    // What can not be read here fails before anything is sent.
    plan(&upload.source).await?;
    let retry = Retry::new(core);
    let folder = Folder::new();
    let make = format!("{}{}", folder.needs_tar(), folder.make());
    let made = retry.until_answered(|| helper::run(core, make.clone())).await;
    // A folder of which nobody was told may have been made all the same.
    let made = made.inspect_err(|_| folder.remove_later(core))?;
    let said = made.stderr.as_deref().unwrap_or_default();
    check(made.exit_code, said, "make a folder in /tmp of the sandbox", &upload.destination)?;
    let sent = send(core, &retry, &folder, &upload).await;
    folder.remove(core).await;
    let planned = sent?;
    Ok(FileOperationResult {
        success: true,
        source_path: upload.source.display().to_string(),
        destination_path: upload.destination,
        file_size: Some(planned.bytes),
        files: Some(planned.files),
        sha256: None,
        error: None,
        trace: None,
    })
}

async fn plan(source: &Path) -> Result<Packed, Failure> {
    let measured = source.to_owned();
    blocking(source, move || measure(&measured)).await
}

async fn send(core: &Rc<Core>, retry: &Retry, folder: &Folder, upload: &DirectoryUpload) -> Result<Packed, Failure> {
    let meter = Meter::new(upload.progress.clone(), false, retry);
    let planned = Cell::new(Packed::default());
    let body = || async {
        planned.set(plan(&upload.source).await?);
        let (size, meter) = (planned.get().size, meter.clone());
        meter.begin(Some(size));
        let body = UploadBody::pieces(packing(&upload.source), size, upload.source.display().to_string());
        Ok(body.each(move |bytes| meter.moved(bytes)))
    };
    let archive = deliver(core, retry, &folder.archive(), body).await?.path;
    meter.end();
    let planned = planned.get();
    let destination = shell::quote(&upload.destination);
    let script = folder.once("unpack", &format!("mkdir -p {destination} && tar -xpof {archive} -C {destination}"));
    let patience = helper::PATIENCE + Duration::from_secs(planned.size / UNPACKED_PER_SECOND);
    let unpacked = retry.until_answered(|| run_own(core, script.clone(), patience)).await?;
    check(unpacked.raw_exit_code, &unpacked.stderr, "unpack the directory", &upload.destination)
        .map_err(|failure| Failure { effect: Effect::MaybeSent, ..failure })?;
    Ok(planned)
}

/// Packs a directory as fast as it is taken. It ends when nobody takes it any more.
fn packing(source: &Path) -> mpsc::Receiver<Result<Bytes, Failure>> {
    let (pieces, taken) = mpsc::channel(PIECES);
    let source = source.to_owned();
    spawn_blocking(move || {
        let mut into = IntoPieces::new(pieces);
        if let Err(failure) = pack(&source, &mut into) {
            into.fail(failure);
        }
    });
    taken
}

/// Copies a directory out of the sandbox.
pub(crate) async fn download(core: &Rc<Core>, download: DirectoryDownload) -> Result<FileOperationResult, Failure> {
    check_remote(&download.source)?;
    let destination = download.destination.clone();
    blocking(&download.destination, move || check_free(&destination)).await?;
    let folder = Folder::new();
    let source = shell::quote(&download.source);
    let script = format!(
        "{}[ -d {source} ] || exit {NO_DIRECTORY}; {} || exit; {}",
        folder.needs_tar(),
        folder.make(),
        folder.once("pack", &format!("tar -C {source} -cf {} .", folder.archive()))
    );
    let received = match Retry::new(core).until_answered(|| run_own(core, script.clone(), PACKING)).await {
        Ok(packed) => match check_packed(&packed, &download.source) {
            Ok(()) => receive(core, &Retry::new(core), &folder, &download).await,
            Err(failure) => Err(failure),
        },
        Err(failure) => {
            // A server that does not answer is not waited for; but it may have made the archive all the same.
            folder.remove_later(core);
            return Err(failure);
        }
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
        sha256: None,
        error: None,
        trace: None,
    })
}

async fn receive(
    core: &Rc<Core>,
    retry: &Retry,
    folder: &Folder,
    download: &DirectoryDownload,
) -> Result<Unpacked, Failure> {
    let archive = folder.archive();
    let meter = Meter::new(download.progress.clone(), false, retry);
    let mut fetch = Fetch::open(core, retry, &archive, meter.clone()).await?;
    loop {
        let (pieces, taken) = mpsc::channel(PIECES);
        let target = download.destination.clone();
        let unpacking = spawn_blocking(move || unpack(FromPieces::new(taken), &target));
        let fetched = hand_on(&mut fetch, pieces).await;
        let unpacked = unpacking.await.map_err(|error| broken(&download.destination, &error))?;
        // What was unpacked of a stream that ended early is removed here.
        if fetched? {
            meter.end();
            return unpacked;
        }
    }
}

/// Hands on what comes until it is whole. Returns whether it is, and not to be begun again.
async fn hand_on(fetch: &mut Fetch<'_>, pieces: mpsc::Sender<Bytes>) -> Result<bool, Failure> {
    while let Some(piece) = fetch.next().await? {
        match piece {
            Piece::Bytes(bytes) => {
                // After its end mark an archive is filled up with zeros, which nobody takes.
                if pieces.send(bytes).await.is_err() {
                    return Ok(true);
                }
            }
            Piece::Again => return Ok(false),
        }
    }
    Ok(true)
}

/// A folder of the sandbox for the archive, which only the server's user can enter.
#[derive(Clone)]
struct Folder(String);

impl Folder {
    fn new() -> Self {
        Self(format!("/tmp/.wsfleet-{}.d", EventId::random()))
    }

    fn needs_tar(&self) -> String {
        format!("command -v tar >/dev/null 2>&1 || exit {NO_TAR}; ")
    }

    fn make(&self) -> String {
        // A name that nobody can guess is a folder of ours, made by an earlier try.
        format!("{{ [ -d {0} ] || mkdir -m 700 {0}; }}", self.0)
    }

    /// A script that is carried out once, however often it is sent; the others wait for its end and say the same.
    ///
    /// On a full disk nothing can be noted, so that the code of its own try is kept in the shell, and no code is a failure.
    fn once(&self, name: &str, script: &str) -> String {
        format!(
            "b={0}/{name}; c=; if mkdir $b; then echo $$ >$b/pid; {{ {script}; }} 2>$b/said; c=$?; \
             echo $c >$b/code; mv $b/code $b/ended; \
             else while [ -d $b ] && [ ! -e $b/ended ] && {{ [ ! -s $b/pid ] || kill -0 $(cat $b/pid); }}; \
             do sleep 0.1; done; fi 2>/dev/null; \
             : ${{c:=$(cat $b/ended 2>/dev/null)}}; cat $b/said >&2; exit ${{c:-{CUT_OFF}}}",
            self.0
        )
    }

    fn archive(&self) -> String {
        format!("{}/directory.tar", self.0)
    }

    /// Removes it while nobody waits for that.
    fn remove_later(&self, core: &Rc<Core>) {
        let (folder, core) = (self.clone(), core.clone());
        let tasks = core.tasks.clone();
        tasks.spawn_local(async move { folder.remove(&core).await });
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
fn check_packed(packed: &CommandResult, source: &str) -> Result<(), Failure> {
    let said = &packed.stderr;
    let is_harmless =
        |line: &str| line.ends_with("file changed as we read it") || line.ends_with("File removed before we read it");
    if packed.raw_exit_code == Some(1) && !said.trim().is_empty() && said.lines().all(is_harmless) {
        return Ok(());
    }
    check(packed.raw_exit_code, said, "pack the directory", source)
}

fn check(exit_code: Option<i32>, said: &str, what: &str, path: &str) -> Result<(), Failure> {
    let kind = match exit_code {
        Some(0) => return Ok(()),
        Some(NO_DIRECTORY) => ErrorKind::NotFound { detail: format!("the sandbox has no directory {path}") },
        Some(NO_TAR) => ErrorKind::Rejected {
            status: 200,
            detail:
                "the sandbox has no `tar`, which directories are moved with: install it there, or move single files"
                    .to_owned(),
        },
        Some(CUT_OFF) => ErrorKind::Rejected {
            status: 200,
            detail: format!(
                "can not {what} {path}: an earlier try of it ended and left no exit code, since the sandbox was restarted or \
                 its /tmp is full; try again when it has room"
            ),
        },
        code => {
            let said = said.trim();
            let code = code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
            ErrorKind::Rejected { status: 200, detail: format!("can not {what} {path} ({code}): {said}") }
        }
    };
    Err(Failure::not_sent(kind))
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// Carries a script out once in this folder; returns the exit code and what was said.
    fn once(folder: &Path, script: &str) -> (Option<i32>, String) {
        let script = Folder(folder.display().to_string()).once("work", script);
        let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    #[test]
    fn a_script_is_carried_out_once_and_says_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let script = format!("echo x >>{}/log; echo words >&2; (exit 3)", folder.path().display());
        for _ in 0..2 {
            assert_eq!(once(folder.path(), &script), (Some(3), "words\n".to_owned()));
        }
        assert_eq!(fs::read_to_string(folder.path().join("log")).unwrap(), "x\n");
    }

    #[test]
    fn a_failure_that_can_not_be_noted_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        // As on a full disk, the code can not be written.
        let full = format!("mkdir {}/code; (exit 2)", work.display());
        assert_eq!(once(folder.path(), &full).0, Some(2));
        fs::remove_dir_all(&work).unwrap();
        fs::create_dir(&work).unwrap();
        for name in ["ended", "said"] {
            fs::write(work.join(name), "").unwrap();
        }
        assert_eq!(once(folder.path(), "true").0, Some(CUT_OFF), "an empty note");
        assert_eq!(once(&folder.path().join("none"), "true").0, Some(CUT_OFF), "no folder");
    }

    #[test]
    fn a_try_that_is_no_more_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        fs::write(work.join("pid"), gone.id().to_string()).unwrap();
        assert_eq!(once(folder.path(), "true").0, Some(CUT_OFF));
    }
}
