//! Receives files.

use std::{fmt, rc::Rc, time::Duration};

use awc::{
    ClientResponse,
    http::{
        StatusCode,
        header::{
            CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
            TRANSFER_ENCODING,
        },
    },
};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::{task::coop::consume_budget, time::timeout};

use super::{
    agent_client::AgentClient,
    body::{announced, check_encoding, header, truncated},
    broken,
    exchange::Call,
    watch::Watch,
};
use crate::{ErrorKind, Failure};

/// A file on its way. It comes whole, or with a failure.
pub struct Download {
    /// 200 for the whole file, 206 for the rest that was asked for.
    pub status: u16,
    /// How many bytes come.
    pub size: Option<u64>,
    /// How many bytes the whole file has.
    pub total: Option<u64>,
    /// The file's version, as the server names it.
    pub etag: Option<String>,
    /// When the file was last written, as the server says it.
    pub last_modified: Option<String>,
    answer: ClientResponse,
    name: String,
    idle: Duration,
    got: u64,
    watch: Rc<Watch>,
    /// How many connections of the pool had ended when the answer began.
    ends: u64,
    is_over: bool,
}

impl AgentClient {
    /// Reads a file of the sandbox, from the byte `range_from` on where one is given.
    ///
    /// With `if_range`, an [ETag](Download::etag) or date of an earlier answer, a file that has changed since comes
    /// whole, with status 200.
    ///
    /// # Errors
    /// As any request. A range that begins at the end of the file or after it is `Rejected` with status 416.
    pub async fn download(
        &self,
        path: &str,
        range_from: Option<u64>,
        if_range: Option<&str>,
    ) -> Result<Download, Failure> {
        let call = Call::get(self, self.api("/file/download").with("path", path));
        let mut call = call.long(self.limits().answer_timeout);
        // From the first byte on is the whole file; asked for as a range, an empty file would be refused.
        let from = range_from.filter(|&from| from > 0);
        if let Some(from) = from {
            call = call.header(RANGE, value(&format!("bytes={from}-"))?);
            if let Some(version) = if_range {
                call = call.header(IF_RANGE, value(version)?);
            }
        }
        self.receive(call, from).await
    }

    /// The body of an answer, to be read in pieces.
    pub(super) async fn receive(&self, call: Call, from: Option<u64>) -> Result<Download, Failure> {
        let name = call.name();
        let (mut answer, watch) = self.exchange(&call).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(&mut answer).await);
        }
        let ends = watch.ends();
        let range = check(&answer, from, &name)?;
        let headers = answer.headers();
        let text = |name| header(headers, name).map(str::to_owned);
        let size = announced(headers);
        Ok(Download {
            status: answer.status().as_u16(),
            size,
            total: range.map_or(size, |range| range.total),
            etag: text(ETAG),
            last_modified: text(LAST_MODIFIED),
            idle: self.limits().idle_timeout,
            got: 0,
            is_over: false,
            answer,
            name,
            watch,
            ends,
        })
    }
}

impl Download {
    /// The next piece, or `None` at the end of a whole file.
    ///
    /// # Errors
    /// The connection ended before all had come, or stood still for the
    /// [idle timeout](super::ClientLimits::idle_timeout). Nothing comes after a failure.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.is_over {
            return None;
        }
        // However small the pieces are, others have their turn.
        consume_budget().await;
        let result = match timeout(self.idle, self.answer.next()).await {
            Ok(Some(Ok(chunk))) => {
                self.got += chunk.len() as u64;
                return Some(Ok(chunk));
            }
            Ok(Some(Err(error))) => Some(Err(broken::body(&error))),
            Ok(None) => self.shortfall().map(Err),
            Err(_) => Some(Err(self.stalled())),
        };
        self.is_over = true;
        result
    }

    /// A header of the answer, such as `X-Archive-Head-Commit`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// What is missing at the end of the body. awc reports a connection that ended early as the end of the body.
    fn shortfall(&self) -> Option<Failure> {
        match self.size {
            Some(size) if size != self.got => Some(truncated(&self.name, self.got, size)),
            Some(_) => None,
            // Without a length the last chunk says that all has come, and the connection stays. Any connection of the
            // pool that ended meanwhile may have been this one.
            None if self.watch.ends() != self.ends => Some(Failure::cut_short(format!(
                "the answer to {} may be cut short: its connection ended after {} bytes, and it has no length",
                self.name, self.got
            ))),
            None => None,
        }
    }

    fn stalled(&self) -> Failure {
        let of = self.size.map_or_else(String::new, |size| format!(" of {size}"));
        Failure::maybe_sent(ErrorKind::Deadline {
            waiting_for: format!("reading the answer to {} ({}{of} bytes came)", self.name, self.got),
            limit: self.idle,
        })
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Download");
        shown.field("status", &self.status).field("size", &self.size).field("got", &self.got).finish_non_exhaustive()
    }
}

/// The range of a 206.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    from: u64,
    total: Option<u64>,
}

/// Checks that an answer is a file, from where it was asked for.
fn check(answer: &ClientResponse, from: Option<u64>, name: &str) -> Result<Option<ContentRange>, Failure> {
    let headers = answer.headers();
    check_encoding(headers, name)?;
    if headers.get(CONTENT_DISPOSITION).is_none()
        && let Some(kind) = header(headers, CONTENT_TYPE).filter(|kind| kind.starts_with("text/html"))
    {
        return Err(Failure::protocol(format!("this is not an agent server: it answered {name} with a page ({kind})")));
    }
    if announced(headers).is_none() && headers.get(TRANSFER_ENCODING).is_none() {
        return Err(Failure::protocol(format!("the answer to {name} does not say how long it is")));
    }
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(None);
    }
    let text = header(headers, CONTENT_RANGE).unwrap_or_default();
    match (content_range(text), from) {
        (Some(range), Some(from)) if range.from == from => Ok(Some(range)),
        (_, None) => Err(Failure::protocol(format!("the answer to {name} is a part, `{text}`, that nobody asked for"))),
        (_, Some(from)) => {
            Err(Failure::protocol(format!("the answer to {name} is `{text}`, asked for was all from byte {from} on")))
        }
    }
}

pub(super) fn content_range(text: &str) -> Option<ContentRange> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some(ContentRange { from: from.trim().parse().ok()?, total: total.trim().parse().ok() })
}

fn value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| Failure::invalid(format!("`{}` cannot be sent", text.escape_debug())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read() {
        assert_eq!(content_range("bytes 2-5/6"), Some(ContentRange { from: 2, total: Some(6) }));
        assert_eq!(content_range("bytes 2-5/*"), Some(ContentRange { from: 2, total: None }));
        assert_eq!(content_range("bytes */6"), None);
        assert_eq!(content_range(""), None);
    }
}
