//! As much of HTTP/1.1 as the tests speak themselves.

use std::io;

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// The first line and the headers of a message, as they came.
pub(crate) struct Head {
    pub(crate) bytes: Vec<u8>,
}

/// How long a message's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Bytes(u64),
    Chunked,
}

impl Head {
    /// Reads the next head; `None` when the connection ends before it.
    pub(crate) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        loop {
            let line = bytes.len();
            if from.read_until(b'\n', &mut bytes).await? == 0 {
                return Ok(None);
            }
            if matches!(&bytes[line..], b"\r\n" | b"\n") {
                return Ok(Some(Self { bytes }));
            }
        }
    }

    /// The path of a request, its query included.
    pub(crate) fn path(&self) -> String {
        self.first_line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    pub(crate) fn status(&self) -> u16 {
        self.first_line().split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// How long the body is. A message that does not say has none.
    pub(crate) fn length(&self) -> Length {
        if self.header("transfer-encoding").is_some() {
            return Length::Chunked;
        }
        Length::Bytes(self.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0))
    }

    /// Whether the client waits for leave before it sends its body.
    pub(crate) fn expects_continue(&self) -> bool {
        self.header("expect").is_some()
    }

    /// How a request for a socket is answered that is granted; `None` when this is none.
    pub(crate) fn socket_answer(&self) -> Option<Vec<u8>> {
        let key = self.header("sec-websocket-key")?;
        let head =
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
        Some([head.as_slice(), actix_http::ws::hash_key(key.as_bytes()).as_slice(), b"\r\n\r\n"].concat())
    }

    fn first_line(&self) -> String {
        let line = self.bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        String::from_utf8_lossy(line).trim().to_owned()
    }

    fn header(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        text.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// Passes a body on as it is. Returns whether all of it came.
pub(crate) async fn copy_body(
    length: Length,
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<bool> {
    match length {
        Length::Bytes(bytes) => {
            let copied = tokio::io::copy(&mut from.take(bytes), to).await?;
            to.flush().await?;
            Ok(copied == bytes)
        }
        Length::Chunked => copy_chunks(from, to).await,
    }
}

async fn copy_chunks(from: &mut (impl AsyncBufRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<bool> {
    loop {
        let mut line = Vec::new();
        if from.read_until(b'\n', &mut line).await? == 0 {
            return Ok(false);
        }
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        let size = u64::from_str_radix(&text, 16).map_err(io::Error::other)?;
        to.write_all(&line).await?;
        // The chunk and the line break after it.
        tokio::io::copy(&mut from.take(size + 2), to).await?;
        to.flush().await?;
        if size == 0 {
            return Ok(true);
        }
    }
}

/// Sends a request without a body to the server at `host:port`, and returns the status and the body of its answer.
pub(crate) async fn request(method: &str, address: &str, path: &str, key: &str) -> io::Result<(u16, String)> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nX-Session-API-Key: {key}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let Some(head) = Head::read(&mut stream).await? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let mut body = Vec::new();
    copy_body(head.length(), &mut stream, &mut body).await?;
    Ok((head.status(), String::from_utf8_lossy(&body).into_owned()))
}
