//! Where the bytes of an upload come from.

use std::{fmt, io::Read as _};

use bytes::Bytes;
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, LocalBoxStream},
};
use tokio::{
    sync::mpsc,
    task::{JoinError, spawn_blocking},
};

use crate::{ErrorKind, Failure};

/// How much is sent, and read ahead, at a time.
const CHUNK: usize = 256 << 10;

/// What to upload.
pub struct UploadBody {
    kind: Kind,
    each: Option<Each>,
}

/// Somebody who sees each piece when it is sent.
type Each = Box<dyn Fn(&Bytes)>;

#[derive(Debug)]
enum Kind {
    Bytes(Bytes),
    File { file: tokio::fs::File, size: u64, name: String },
    Pieces { pieces: mpsc::Receiver<Result<Bytes, Failure>>, size: u64, name: String },
}

impl UploadBody {
    const fn of(kind: Kind) -> Self {
        Self { kind, each: None }
    }

    /// The same, with somebody who sees each piece when it is sent.
    pub(crate) fn each(self, each: impl Fn(&Bytes) + 'static) -> Self {
        Self { each: Some(Box::new(each)), ..self }
    }

    /// Bytes in memory.
    #[must_use]
    pub const fn bytes(bytes: Bytes) -> Self {
        Self::of(Kind::Bytes(bytes))
    }

    /// The next `size` bytes of a file, which must be all that it has left when they are read. `name` is what a failure
    /// calls it.
    #[must_use]
    pub fn file(file: tokio::fs::File, size: u64, name: impl Into<String>) -> Self {
        Self::of(Kind::File { file, size, name: name.into() })
    }

    /// Pieces as they come, `size` bytes together. `name` is what a failure calls them.
    pub(crate) fn pieces(pieces: mpsc::Receiver<Result<Bytes, Failure>>, size: u64, name: impl Into<String>) -> Self {
        Self::of(Kind::Pieces { pieces, size, name: name.into() })
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.len() as u64,
            Kind::File { size, .. } | Kind::Pieces { size, .. } => *size,
        }
    }

    /// The bytes in pieces. For a file, the next piece is read while one is sent.
    pub(super) async fn into_chunks(self) -> LocalBoxStream<'static, Result<Bytes, Failure>> {
        let chunks = self.kind.into_chunks().await;
        match self.each {
            Some(each) => chunks.inspect_ok(move |bytes| each(bytes)).boxed_local(),
            None => chunks,
        }
    }
}

impl fmt::Debug for UploadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Kind {
    async fn into_chunks(self) -> LocalBoxStream<'static, Result<Bytes, Failure>> {
        match self {
            Self::Bytes(bytes) => stream::iter(pieces(bytes)).map(Ok).boxed_local(),
            Self::File { file, size, name } => {
                let reader = Reader { file: file.into_std().await, size, left: size, name };
                let first = Some(spawn_blocking(move || reader.read()));
                stream::try_unfold(first, |read| async move {
                    let Some(read) = read else { return Ok(None) };
                    let (chunk, reader) = read.await.map_err(|error| lost(&error))??;
                    let next = (reader.left > 0).then(|| spawn_blocking(move || reader.read()));
                    Ok(Some((chunk, next)))
                })
                .boxed_local()
            }
            Self::Pieces { pieces, size, name } => stream::try_unfold((pieces, size), move |(mut pieces, left)| {
                let reason = "it changed while it was sent; try again when nothing writes to it".to_owned();
                let changed = Failure::not_sent(ErrorKind::Local { path: name.clone(), reason });
                async move {
                    match pieces.recv().await {
                        Some(piece) => {
                            let piece = piece?;
                            let left = left.checked_sub(piece.len() as u64).ok_or(changed)?;
                            Ok(Some((piece, (pieces, left))))
                        }
                        None if left == 0 => Ok(None),
                        None => Err(changed),
                    }
                }
            })
            .boxed_local(),
        }
    }
}

fn pieces(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = bytes.split_to(bytes.len().min(CHUNK));
        (!piece.is_empty()).then_some(piece)
    })
}

struct Reader {
    file: std::fs::File,
    size: u64,
    left: u64,
    name: String,
}

impl Reader {
    /// Reads the next piece, and with the last one looks whether the file ends where it should.
    fn read(mut self) -> Result<(Bytes, Self), Failure> {
        let wanted = self.left.min(CHUNK as u64);
        let is_last = wanted == self.left;
        let limit = wanted + u64::from(is_last);
        let mut chunk = Vec::with_capacity(CHUNK.min(limit as usize));
        let result = (&self.file).take(limit).read_to_end(&mut chunk);
        let got = result.map_err(|error| self.failure(error.to_string()))? as u64;
        if got < wanted {
            let sent = self.size - self.left + got;
            return Err(self.failure(format!("it ended after {sent} of {} bytes: it shrank meanwhile", self.size)));
        }
        if got > wanted {
            return Err(self.failure(format!("it has more than {} bytes: it grew meanwhile", self.size)));
        }
        self.left -= wanted;
        Ok((Bytes::from(chunk), self))
    }

    fn failure(&self, reason: String) -> Failure {
        Failure::not_sent(ErrorKind::Local { path: self.name.clone(), reason })
    }
}

fn lost(error: &JoinError) -> Failure {
    Failure::not_sent(ErrorKind::Local { path: "(upload)".to_owned(), reason: format!("reading it failed: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content: usize, size: usize) -> Result<Vec<usize>, Failure> {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &vec![7; content]).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let body = UploadBody::file(tokio::fs::File::from_std(file), size as u64, "some.file");
        body.into_chunks().await.map_ok(|chunk| chunk.len()).try_collect().await
    }

    #[actix_rt::test]
    async fn a_file_is_read_to_its_end_or_it_is_a_failure() {
        assert_eq!(read(CHUNK + 1, CHUNK + 1).await.unwrap(), [CHUNK, 1]);
        assert_eq!(read(CHUNK, CHUNK).await.unwrap(), [CHUNK]);
        assert_eq!(read(0, 0).await.unwrap(), [0]);
        for (content, size) in [(CHUNK, CHUNK + 1), (CHUNK + 1, CHUNK), (1, 0), (0, 1)] {
            let failure = read(content, size).await.unwrap_err();
            assert_eq!(failure.kind.name(), "local");
            assert!(failure.to_string().contains("some.file"), "{failure}");
        }
    }

    #[actix_rt::test]
    async fn bytes_come_in_pieces() {
        let chunks = UploadBody::bytes(Bytes::from(vec![7; CHUNK + 1])).into_chunks().await;
        let sizes: Vec<usize> = chunks.map_ok(|chunk| chunk.len()).try_collect().await.unwrap();
        assert_eq!(sizes, [CHUNK, 1]);
    }
}
