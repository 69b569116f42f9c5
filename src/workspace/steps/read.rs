use std::rc::Rc;

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    fetch::{Fetch, Piece},
    file::check_remote,
    meter::Meter,
};
use crate::{
    ErrorKind, Failure, Operation, WorkspaceError,
    messages::{FileRead, FileStream},
    workspace::{backoff::Retry, core::Core},
};

/// Begins to read a file of the sandbox. What comes of it is handed over in the background, as fast as it is taken.
pub(crate) async fn read(core: &Rc<Core>, read: FileRead) -> Result<FileStream, Failure> {
    check_remote(&read.source)?;
    let (head, begun) = oneshot::channel();
    let task = carry_out(core.clone(), read.source, head);
    actix_rt::spawn(task);
    begun.await.unwrap_or_else(|_| Err(Failure::not_sent(ErrorKind::Stopped { reason: "the workspace ends".into() })))
}

async fn carry_out(core: Rc<Core>, source: String, head: oneshot::Sender<Result<FileStream, Failure>>) {
    let retry = Retry::new(&core);
    let meter = Meter::new(None, false, &retry);
    let mut head = head;
    let opened = tokio::select! {
        opened = Fetch::open(&core, &retry, &source, meter) => opened,
        // Nobody waits for it any more.
        () = head.closed() => return,
    };
    let mut fetch = match opened {
        Ok(fetch) => fetch,
        Err(failure) => return drop(head.send(Err(failure))),
    };
    let (pieces, stream) = FileStream::new(fetch.total(), fetch.version().map(str::to_owned));
    if head.send(Ok(stream)).is_err() {
        return;
    }
    let ended = tokio::select! {
        ended = hand_on(&core, &mut fetch, &pieces) => ended,
        () = pieces.closed() => return,
        () = core.closing.cancelled() => Err(Failure::maybe_sent(ErrorKind::Stopped { reason: "the workspace ends".into() })),
    };
    if let Err(failure) = ended {
        let failure = failure.on(&core.config.name, Operation::FileDownload);
        // A reader that takes nothing is not waited for.
        let _ = timeout(core.config.limits.idle_timeout, pieces.send(Err(failure))).await;
    }
}

/// Hands on what comes until the file is whole.
async fn hand_on(
    core: &Core,
    fetch: &mut Fetch<'_>,
    pieces: &mpsc::Sender<Result<Bytes, WorkspaceError>>,
) -> Result<(), Failure> {
    let idle = core.config.limits.idle_timeout;
    while let Some(piece) = fetch.next().await? {
        let Piece::Bytes(bytes) = piece else {
            return Err(Failure::cut_short(
                "the file changed while it was read, and what came before cannot be called back",
            ));
        };
        match timeout(idle, pieces.send(Ok(bytes))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(()),
            Err(_) => {
                let waiting_for = "the reader of the file to take the next piece".to_owned();
                return Err(Failure::maybe_sent(ErrorKind::Deadline { waiting_for, limit: idle }));
            }
        }
    }
    Ok(())
}
