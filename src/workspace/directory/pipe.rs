use std::io::{self, Read, Write};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use crate::Failure;

/// How much is handed over at a time.
const PIECE: usize = 256 << 10;

/// Hands what is written to it over in pieces. It waits while they are not taken, and fails when nobody takes them any more.
pub(in crate::workspace) struct IntoPieces {
    pieces: mpsc::Sender<Result<Bytes, Failure>>,
    piece: Vec<u8>,
}

impl IntoPieces {
    pub(in crate::workspace) fn new(pieces: mpsc::Sender<Result<Bytes, Failure>>) -> Self {
        Self { pieces, piece: Vec::new() }
    }

    /// Ends with a failure in place of the rest.
    pub(in crate::workspace) fn fail(self, failure: Failure) {
        // Nobody may be waiting any more.
        let _ = self.pieces.blocking_send(Err(failure));
    }
}

impl Write for &mut IntoPieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() + bytes.len() > PIECE {
            self.flush()?;
        }
        self.piece.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Reads pieces as they come, and ends when no more can come.
pub(in crate::workspace) struct FromPieces {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl FromPieces {
    pub(in crate::workspace) fn new(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self { pieces, piece: Bytes::new() }
    }
}

impl Read for FromPieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
