//! A client's connection to its server.

use std::{
    fmt, io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_rt::net::{ActixStream, Ready};
use actix_tls::connect::rustls_0_23::reexports::AsyncTlsStream;
use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{turns::Taken, watch::Watch};

/// How much of an answer is kept that came while the request was still being sent.
const EARLY_BYTES: usize = 64 * 1024;

/// Who has room for fewer bytes looks whether a connection is still there, and is told at once.
const BULK: usize = 1024;

/// The bytes of a status line up to its status.
const STATUS_LINE: usize = "HTTP/1.1 200".len();

/// A TCP connection, with or without TLS.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<AsyncTlsStream<TcpStream>>),
}

/// A connection that hears an answer while it is still sending.
///
/// awc does not read before it has written a request to its end. A server or gateway that refuses an upload halfway and
/// closes would be seen as a reset connection. So when a write cannot go on, this stream looks whether an answer has
/// come. If it is a refusal, the rest of the request is thrown away, and awc reads the refusal. Such a connection is out
/// of step: it taints its pool.
pub(super) struct ClientStream {
    wire: Wire,
    watch: Rc<Watch>,
    duplex: bool,
    early: BytesMut,
    refused: bool,
    taken: Taken,
}

impl ClientStream {
    pub(super) fn new(wire: Wire, watch: Rc<Watch>, duplex: bool) -> Self {
        if matches!(wire, Wire::Tls(_)) {
            watch.encrypted();
        }
        Self { wire, watch, duplex, early: BytesMut::new(), refused: false, taken: Taken::default() }
    }

    /// Looks for an answer, without waiting for one.
    fn look_for_refusal(&mut self, cx: &mut Context<'_>) -> bool {
        if self.duplex {
            return false;
        }
        while self.early.len() < EARLY_BYTES {
            let mut space = [0; 4096];
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.wire).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.watch.heard(buffer.filled());
                    self.early.extend_from_slice(buffer.filled());
                }
                _ => break,
            }
        }
        if is_refusal(&self.early) {
            self.refused = true;
            self.watch.taint();
        }
        self.refused
    }
}

const fn is_done<T>(result: &Poll<io::Result<T>>) -> bool {
    matches!(result, Poll::Ready(Ok(_)))
}

/// Whether an answer says that the request will not be carried out.
fn is_refusal(answer: &[u8]) -> bool {
    let Some(line) = answer.get(..STATUS_LINE) else { return false };
    line.starts_with(b"HTTP/1.") && matches!(line[9], b'3'..=b'5')
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..length]);
            self.early.advance(length);
            return Poll::Ready(Ok(()));
        }
        if buf.remaining() >= BULK {
            ready!(self.taken.poll_turn(cx));
        }
        let before = buf.filled().len();
        let Poll::Ready(result) = Pin::new(&mut self.wire).poll_read(cx, buf) else {
            self.taken.pause();
            return Poll::Pending;
        };
        self.taken.add(buf.filled().len() - before);
        self.watch.heard(&buf.filled()[before..]);
        if result.is_ok() && buf.filled().len() == before && buf.remaining() > 0 {
            self.watch.ended();
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.refused {
            return Poll::Ready(Ok(data.len()));
        }
        if !self.duplex {
            // The answer to come has brought nothing yet.
            self.taken.pause();
        }
        let written = Pin::new(&mut self.wire).poll_write(cx, data);
        if !is_done(&written) && self.look_for_refusal(cx) {
            return Poll::Ready(Ok(data.len()));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refused {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.wire).poll_flush(cx);
        if !is_done(&flushed) && self.look_for_refusal(cx) {
            return Poll::Ready(Ok(()));
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl ActixStream for ClientStream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.wire {
            Wire::Plain(stream) => ActixStream::poll_read_ready(stream, cx),
            Wire::Tls(stream) => ActixStream::poll_read_ready(stream.get_ref().0, cx),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        match &self.wire {
            Wire::Plain(stream) => ActixStream::poll_write_ready(stream, cx),
            Wire::Tls(stream) => ActixStream::poll_write_ready(stream.get_ref().0, cx),
        }
    }
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientStream")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_above_299_is_a_refusal() {
        assert!(is_refusal(b"HTTP/1.1 413 Payload Too Large\r\n"));
        assert!(is_refusal(b"HTTP/1.0 302 Found\r\n"));
        assert!(!is_refusal(b"HTTP/1.1 200 OK\r\n"));
        assert!(!is_refusal(b"HTTP/1.1 100 Continue\r\n"));
        assert!(!is_refusal(b"HTTP/1.1 4"));
        assert!(!is_refusal(b"\x81\x05hello"));
    }
}
