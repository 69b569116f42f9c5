use std::rc::Rc;

use bytes::Bytes;

use super::{meter::Meter, sum};
use crate::{
    ErrorKind, Failure,
    client::Download,
    workspace::{backoff::Retry, core::Core},
};

/// A file of the sandbox that is read over as many requests as it takes.
///
/// One that is cut goes on where it was, as long as the server says that the file is the same. Otherwise it begins again.
/// What came last before the cut is not trusted, for it may be the words of whatever did the cutting, and is read again.
pub(super) struct Fetch<'a> {
    core: &'a Rc<Core>,
    retry: &'a Retry,
    source: &'a str,
    meter: Rc<Meter>,
    answer: Option<Download>,
    /// The version that came so far, where the server names one that can be gone on with.
    version: Option<String>,
    /// How much was handed on.
    got: u64,
    /// What came last, until something comes after it.
    held: Option<Bytes>,
    total: Option<u64>,
}

/// What comes next of a file.
pub(super) enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// The file from its beginning: what came before is to be thrown away.
    Again,
}

impl<'a> Fetch<'a> {
    /// Asks for a file. When this returns, there is one.
    pub(super) async fn open(
        core: &'a Rc<Core>,
        retry: &'a Retry,
        source: &'a str,
        meter: Rc<Meter>,
    ) -> Result<Self, Failure> {
        let mut fetch =
            Self { core, retry, source, meter, answer: None, version: None, got: 0, held: None, total: None };
        while let Err(failure) = fetch.ask().await {
            retry.pause(failure).await?;
        }
        Ok(fetch)
    }

    /// How many bytes the file has, where the server says so.
    pub(super) const fn total(&self) -> Option<u64> {
        self.total
    }

    /// The server's name for this version of the file, where it has one that can be gone on with.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The next piece; `None` when the file is whole.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        loop {
            let failure = match &mut self.answer {
                None => match self.ask().await {
                    Ok(true) => return Ok(Some(Piece::Again)),
                    Ok(false) => continue,
                    Err(failure) => failure,
                },
                Some(answer) => match answer.chunk().await {
                    Some(Ok(bytes)) => match self.held.replace(bytes) {
                        Some(bytes) => return Ok(Some(self.hand_on(bytes))),
                        None => continue,
                    },
                    None => return Ok(self.held.take().map(|bytes| self.hand_on(bytes))),
                    Some(Err(failure)) => failure,
                },
            };
            (self.answer, self.held) = (None, None);
            self.retry.pause(failure).await?;
        }
    }

    /// Whether the file that is there has this SHA-256 still. If not, it is read from its beginning after a pause.
    pub(super) async fn is_there(&mut self, sum: &str, size: u64) -> Result<bool, Failure> {
        let there = sum::of_remote(self.core, self.retry, self.source, size).await?;
        if there == sum {
            return Ok(true);
        }
        let reason =
            format!("what came has another SHA-256 ({sum}) than the remote file ({there}): it may have changed");
        self.retry.pause(Failure::cut_short(reason)).await?;
        self.begin_again();
        Ok(false)
    }

    fn hand_on(&mut self, bytes: Bytes) -> Piece {
        self.got += bytes.len() as u64;
        self.meter.moved(&bytes);
        Piece::Bytes(bytes)
    }

    /// Throws away what came. The next piece is told to be the first.
    fn begin_again(&mut self) {
        (self.answer, self.version, self.held) = (None, None, None);
    }

    /// Asks for what is missing. Returns whether it begins from the first byte although others had come.
    async fn ask(&mut self) -> Result<bool, Failure> {
        let from = self.version.as_ref().map(|_| self.got).filter(|&got| got > 0);
        let answer = self.core.client()?.download(self.source, from, self.version.as_deref()).await;
        let answer = match answer {
            Ok(answer) if answer.status == 206 && self.goes_on(&answer) => {
                self.answer = Some(answer);
                return Ok(false);
            }
            Ok(answer) if answer.status != 206 => answer,
            // A part of another file, or no such part any more.
            Ok(_) | Err(Failure { kind: ErrorKind::Rejected { status: 416, .. }, .. }) if from.is_some() => {
                self.core.client()?.download(self.source, None, None).await?
            }
            Ok(answer) => answer,
            Err(failure) => return Err(failure),
        };
        let had_some = self.got > 0;
        (self.got, self.total) = (0, answer.total);
        // A weak one stands for content that is as good, not for the same bytes.
        self.version = answer.etag.clone().filter(|etag| etag.starts_with('"'));
        self.meter.begin(answer.total);
        self.answer = Some(answer);
        Ok(had_some)
    }

    /// Whether a part is one of the file that was begun.
    fn goes_on(&self, part: &Download) -> bool {
        (part.etag.is_none() || part.etag == self.version) && (part.total.is_none() || part.total == self.total)
    }
}
