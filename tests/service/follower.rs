//! A reader of server-sent events on a plain socket, so that a thousand of them cost little and one can stand still.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: String,
}

impl Event {
    /// The output in it, where it is output.
    pub(crate) fn output(&self) -> Option<String> {
        let is_output = self.name == "stdout" || self.name == "stderr";
        is_output.then(|| serde_json::from_str(&self.data).unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// A connection over which events come.
pub(crate) struct Follower {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Follower {
    /// Asks for the events of a path, after the one of this id or from the first one.
    pub(crate) async fn start(port: u16, path: &str, after: Option<&str>) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Self::ask(stream, path, after).await
    }

    /// The same with a socket that takes very little ahead of its reader.
    pub(crate) async fn narrow(port: u16, path: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
        Self::ask(stream, path, None).await
    }

    /// Lets the socket take as much ahead of its reader as others do.
    pub(crate) fn widen(&self) {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.stream, 4 << 20).unwrap();
    }

    async fn ask(mut stream: TcpStream, path: &str, after: Option<&str>) -> Self {
        let after = after.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        // In this version the end of the body is that of the connection, and nothing is between its pieces.
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{after}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// The next event; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|end| end == b"\n\n") {
                let text = String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap();
                if let Some(event) = read(&text) {
                    return Some(event);
                }
            }
            let mut piece = vec![0; 64 << 10];
            // A killed service resets the connection.
            let taken = self.stream.read(&mut piece).await.unwrap_or(0);
            if taken == 0 {
                return None;
            }
            self.buffer.extend(&piece[..taken]);
            self.skip_head();
        }
    }

    fn skip_head(&mut self) {
        if self.buffer.starts_with(b"HTTP/")
            && let Some(end) = self.buffer.windows(4).position(|end| end == b"\r\n\r\n")
        {
            let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
            assert!(head.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&head));
        }
    }
}

/// Reads an event; `None` of a comment.
fn read(text: &str) -> Option<Event> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    Some(Event { id: field("id: ")?, name: field("event: ")?, data: field("data: ")? })
}
