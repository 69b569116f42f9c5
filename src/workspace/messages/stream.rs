use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use serde::{Serializer, ser::Error as _};
use tokio::sync::mpsc;

use crate::{ErrorKind, Failure, WorkspaceError};

/// How many pieces may wait between those who hand them over and those who take them.
const PIECES: usize = 4;

/// What failures call a stream.
pub(crate) const STREAM_NAME: &str = "<stream>";

type Pieces = mpsc::Receiver<Result<Bytes, Failure>>;

/// Bytes to upload that come while they are sent. Clones are the same bytes, which can be sent once.
#[derive(Clone)]
pub struct UploadStream {
    size: u64,
    pieces: Arc<Mutex<Option<Pieces>>>,
}

/// Hands over the bytes of an [`UploadStream`]. Dropping it before all have come fails the upload.
#[derive(Debug)]
pub struct UploadSender(mpsc::Sender<Result<Bytes, Failure>>);

/// Nobody takes the bytes any more: the upload has ended, and its result says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upload has ended")]
pub struct UploadEnded;

impl UploadStream {
    /// A stream of so many bytes, and the way to hand them over. A few pieces are held at once; who hands over more waits.
    ///
    /// ```no_run
    /// # use workspace_fleet::{Workspace, messages::UploadStream};
    /// # async fn example(workspace: Workspace) -> Result<(), Box<dyn std::error::Error>> {
    /// let (sender, stream) = UploadStream::new(10);
    /// let upload = workspace.file_upload(stream, "/workspace/file");
    /// let send = async move {
    ///     sender.send("hello").await?;
    ///     sender.send("world").await
    /// };
    /// let (result, _) = futures::join!(upload, send);
    /// assert_eq!(result?.file_size, Some(10));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn new(size: u64) -> (UploadSender, Self) {
        let (sender, pieces) = mpsc::channel(PIECES);
        (UploadSender(sender), Self { size, pieces: Arc::new(Mutex::new(Some(pieces))) })
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The pieces, for whoever asks first.
    pub(crate) fn take(&self) -> Option<Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for UploadStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadStream({} bytes)", self.size)
    }
}

impl UploadSender {
    /// Hands over the next bytes, when there is room for them.
    ///
    /// # Errors
    /// The upload has ended before all were sent.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), UploadEnded> {
        self.0.send(Ok(bytes.into())).await.map_err(|_| UploadEnded)
    }

    /// Says that the rest does not come. The upload fails with this reason.
    pub async fn fail(self, reason: impl Into<String>) {
        let kind = ErrorKind::Local { path: STREAM_NAME.to_owned(), reason: reason.into() };
        // An upload that has ended already has another failure to tell.
        let _ = self.0.send(Err(Failure::not_sent(kind))).await;
    }
}

pub(super) fn refuse_stream<S: Serializer>(_: &UploadStream, _: S) -> Result<S::Ok, S::Error> {
    Err(S::Error::custom("a stream is not stored: write it to a file and name its path"))
}

/// A file of the sandbox that is being read. Dropping it ends the transfer.
#[derive(Debug)]
pub struct FileStream {
    /// How many bytes it has, where the server says so.
    pub size: Option<u64>,
    /// The server's name for this version of the file, where it has one: the text of a strong `ETag`.
    pub etag: Option<String>,
    pieces: mpsc::Receiver<Result<Bytes, WorkspaceError>>,
}

impl FileStream {
    pub(crate) fn new(size: Option<u64>, etag: Option<String>) -> (mpsc::Sender<Result<Bytes, WorkspaceError>>, Self) {
        let (sender, pieces) = mpsc::channel(PIECES);
        (sender, Self { size, etag, pieces })
    }

    /// The next piece; `None` when the file is whole.
    ///
    /// # Errors
    /// The transfer failed, or the reader took nothing for the
    /// [idle timeout](crate::client::ClientLimits::idle_timeout). Nothing comes after a failure.
    pub async fn next(&mut self) -> Option<Result<Bytes, WorkspaceError>> {
        self.pieces.recv().await
    }
}
