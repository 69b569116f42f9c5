use std::{cell::Cell, rc::Rc};

use super::{
    file::{check_remote, open_source},
    helper,
    meter::Meter,
    place::{self, Arrival},
    sum,
};
use crate::{
    Effect, ErrorKind, Failure, FileOperationResult,
    client::UploadBody,
    messages::{FileUpload, Placement, STREAM_NAME, UploadSource},
    protocol::UploadReply,
    workspace::{attendant, backoff::Retry, core::Core, shell},
};

/// From this size on the key is tried first: agent servers look at it when they have the whole file.
const LARGE: u64 = 8 << 20;

/// Writes a file of the sandbox.
pub(crate) async fn upload(core: &Rc<Core>, upload: FileUpload) -> Result<FileOperationResult, Failure> {
    check_remote(&upload.destination)?;
    // What can not be read here fails before anything is asked.
    let first = open(&upload.source).await?;
    let _turn = core.paths.turn(&upload.destination).await;
    let retry = Retry::new(core);
    let is_moved = is_moved(core, &retry, &upload).await.map_err(nothing_done)?;
    if first.size() >= LARGE {
        retry.until_answered(|| check_key(core)).await.map_err(nothing_done)?;
    }
    let meter = Meter::new(upload.progress.clone(), upload.sha256, &retry);
    let sending = Sending { core, upload: &upload, retry: &retry, meter };
    let Sent { size, sha256 } = sending.carry_out(first, is_moved).await?;
    Ok(FileOperationResult {
        success: true,
        source_path: match &upload.source {
            UploadSource::Path(path) => path.display().to_string(),
            UploadSource::Bytes(_) => "<bytes>".to_owned(),
            UploadSource::Stream(_) => STREAM_NAME.to_owned(),
        },
        destination_path: upload.destination,
        file_size: Some(size),
        files: None,
        sha256,
        error: None,
        trace: None,
    })
}

async fn open(source: &UploadSource) -> Result<UploadBody, Failure> {
    match source {
        UploadSource::Path(path) => open_source(path).await,
        UploadSource::Bytes(bytes) => Ok(UploadBody::bytes(bytes.clone())),
        UploadSource::Stream(stream) => {
            let pieces = stream.take().ok_or_else(|| Failure::invalid("the stream was sent already: make another"))?;
            Ok(UploadBody::pieces(pieces, stream.size(), STREAM_NAME))
        }
    }
}

/// Whether the file is sent to a temporary name and moved, in place of being written by the server.
async fn is_moved(core: &Rc<Core>, retry: &Retry, upload: &FileUpload) -> Result<bool, Failure> {
    if place::temporary_for(&upload.destination).is_none() {
        // The server has the words for what can only be a directory.
        return Ok(false);
    }
    match upload.placement {
        Placement::Moved => Ok(true),
        Placement::InPlace => Ok(false),
        // The sum is compared before the file that was there is given up.
        Placement::Whole if upload.sha256 => Ok(true),
        Placement::Whole => match retry.until_answered(|| attendant::places_uploads(core)).await {
            Ok(whole) => Ok(!whole),
            Err(failure) if failure.kind.is_transient() => Err(failure),
            Err(_) => Ok(true),
        },
    }
}

/// Tries the key with a request that costs nothing.
async fn check_key(core: &Rc<Core>) -> Result<(), Failure> {
    match core.client()?.home().await {
        Err(failure) if failure.kind.is_transient() || matches!(failure.kind, ErrorKind::Unauthorized { .. }) => {
            Err(failure)
        }
        // Older servers do not know what is asked.
        _ => Ok(()),
    }
}

/// What failed was asked before the upload.
fn nothing_done(failure: Failure) -> Failure {
    Failure::not_sent(failure.kind)
}

/// The failure of a try after others, by which the file may have been put in place.
fn after_others(failure: Failure, may_be_there: bool) -> Failure {
    if may_be_there && failure.effect == Effect::NotSent { Failure::maybe_sent(failure.kind) } else { failure }
}

/// An upload that arrived.
struct Sent {
    size: u64,
    sha256: Option<String>,
}

/// The tries of one upload.
struct Sending<'a> {
    core: &'a Rc<Core>,
    upload: &'a FileUpload,
    retry: &'a Retry,
    meter: Rc<Meter>,
}

impl Sending<'_> {
    async fn carry_out(&self, first: UploadBody, mut is_moved: bool) -> Result<Sent, Failure> {
        let (mut first, mut was_forbidden, mut may_be_there) = (Some(first), false, false);
        loop {
            let body = match first.take() {
                Some(body) => body,
                None => open(&self.upload.source).await.map_err(|failure| after_others(failure, may_be_there))?,
            };
            let sent = if is_moved { self.moved(body).await } else { self.in_place(body).await };
            match sent {
                // What was taken of it is gone.
                Err(failure) if matches!(self.upload.source, UploadSource::Stream(_)) => return Err(failure),
                Err(failure) if is_moved && self.upload.placement == Placement::Whole && is_forbidden(&failure) => {
                    // No file can be made beside it, but perhaps it can itself be written to.
                    (is_moved, was_forbidden) = (false, true);
                }
                Err(failure) => {
                    // Of tries that may yet arrive there is to be no second one that writes over what comes after this
                    // upload.
                    is_moved = is_moved || self.goes_on_moved(&failure, was_forbidden);
                    may_be_there |= failure.effect != Effect::NotSent;
                    self.retry.pause(failure).await.map_err(|failure| after_others(failure, may_be_there))?;
                }
                sent => return sent,
            }
        }
    }

    /// Whether the tries after one that the server was to put in place itself go to names of their own.
    fn goes_on_moved(&self, failure: &Failure, was_forbidden: bool) -> bool {
        self.upload.placement == Placement::Whole
            && failure.effect != Effect::NotSent
            && !was_forbidden
            && place::temporary_for(&self.upload.destination).is_some()
    }

    /// Sends it to a new name each time, which what is late of an earlier try can not touch, and then moves it.
    async fn moved(&self, body: UploadBody) -> Result<Sent, Failure> {
        let destination = self.upload.destination.trim_end_matches('/');
        let temporary = place::temporary_for(destination)
            .ok_or_else(|| Failure::invalid("the destination can only be a directory: name a file"))?;
        let mut arrival = Arrival { destination, temporary, size: body.size(), sum: None };
        if let Err(failure) = self.send(&arrival.temporary, body).await {
            if failure.effect != Effect::NotSent {
                arrival.remove_later(self.core);
            }
            return Err(nothing_done(renamed(failure, &arrival.temporary, destination)));
        }
        arrival.sum = self.meter.end();
        // A command to place it that is late finds nothing to place.
        match arrival.place(self.core, self.retry).await {
            Ok(()) => Ok(Sent { size: arrival.size, sha256: arrival.sum }),
            Err(failure) if failure.kind.is_transient() => {
                arrival.remove_later(self.core);
                Err(failure)
            }
            // The server answers, and nothing is left when the failure is told.
            Err(failure) => {
                arrival.remove(self.core).await;
                Err(failure)
            }
        }
    }

    /// Lets the server write it where it belongs.
    async fn in_place(&self, body: UploadBody) -> Result<Sent, Failure> {
        let (path, size) = (&self.upload.destination, body.size());
        let reply = self.send(path, body).await?;
        check_size(self.core, path, size, reply).await?;
        let sum = self.meter.end();
        if let Some(sum) = &sum
            && *sum != sum::of_remote(self.core, self.retry, path, size).await?
        {
            let reason = "what the server wrote has another SHA-256 than what was sent";
            return Err(Failure { effect: Effect::Done, ..Failure::cut_short(reason) });
        }
        Ok(Sent { size, sha256: sum })
    }

    async fn send(&self, path: &str, body: UploadBody) -> Result<UploadReply, Failure> {
        self.meter.begin(Some(body.size()));
        let meter = self.meter.clone();
        self.core.client()?.upload(path, body.each(move |bytes| meter.moved(bytes))).await
    }
}

/// A file that is whole at a path of its own.
pub(super) struct Delivered {
    pub(super) path: String,
    /// Whether there were tries before, of which one may still arrive.
    pub(super) is_repeated: bool,
}

/// Sends a file to a path that nobody else knows, as often as it takes, and compares its size. Each try goes to a name of
/// its own, so that one which arrives late does not touch what is already being read.
pub(super) async fn deliver<F: Future<Output = Result<UploadBody, Failure>>>(
    core: &Rc<Core>,
    retry: &Retry,
    path: &str,
    open: impl Fn() -> F,
) -> Result<Delivered, Failure> {
    let tries = Cell::new(0u32);
    let attempt = || async {
        let body = open().await?;
        let size = body.size();
        tries.set(tries.get() + 1);
        let path = format!("{path}.{}", tries.get());
        let reply = core.client()?.upload(&path, body).await?;
        check_size(core, &path, size, reply).await?;
        Ok(Delivered { path, is_repeated: tries.get() > 1 })
    };
    retry.until_answered(attempt).await
}

/// Compares the size of what was written. Servers up to 1.43 have to be asked for it.
async fn check_size(core: &Rc<Core>, path: &str, size: u64, reply: UploadReply) -> Result<(), Failure> {
    if reply.file_size.is_some() {
        // The client has compared it.
        return Ok(());
    }
    let counted = helper::run_within(core, format!("wc -c <{}", shell::quote(path)), sum::patience(size)).await?;
    let said = counted.stdout.as_deref().unwrap_or_default().trim();
    if counted.exit_code == Some(0) && said.parse() == Ok(size) {
        return Ok(());
    }
    let words = counted.stderr.as_deref().unwrap_or_default().trim();
    let reason = format!("the server wrote {said} bytes, but {size} were sent {words}");
    Err(Failure { effect: Effect::Done, ..Failure::cut_short(reason.trim_end()) })
}

/// Whether the server was not allowed to make a file, in its system's words.
fn is_forbidden(failure: &Failure) -> bool {
    let ErrorKind::ServerError { detail, .. } = &failure.kind else { return false };
    ["Permission denied", "Operation not permitted", "Read-only file system"].iter().any(|words| detail.contains(words))
}

/// A failure that names the destination, where the server named the temporary file.
fn renamed(mut failure: Failure, temporary: &str, destination: &str) -> Failure {
    if let ErrorKind::ServerError { detail, .. } | ErrorKind::Rejected { detail, .. } | ErrorKind::NotFound { detail } =
        &mut failure.kind
    {
        *detail = detail.replace(temporary, destination);
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_what_was_asked_for() {
        let detail = "500: [Errno 13] Permission denied: '/a/.wsfleet-upload-1'".to_owned();
        let failure = Failure::maybe_sent(ErrorKind::ServerError { status: 500, detail, retry_after: None });
        assert!(is_forbidden(&failure));
        let text = renamed(failure, "/a/.wsfleet-upload-1", "/a/file").to_string();
        assert!(text.contains("'/a/file'"), "{text}");
    }
}
