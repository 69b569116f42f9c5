//! Tunnels through an HTTP proxy.

use std::rc::Rc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use url::Url;

use super::key::SessionKey;
use crate::{ErrorKind, Failure};

/// The most bytes of a proxy's answer.
const MAX_HEAD: usize = 16 * 1024;

/// A proxy that tunnels with CONNECT.
pub(super) struct Proxy {
    host: Rc<str>,
    port: u16,
    credentials: Option<SessionKey>,
}

impl Proxy {
    /// The proxy at `url`, with the credentials in it.
    pub(super) fn new(url: &Url) -> Self {
        Self {
            host: Rc::from(url.host_str().unwrap_or_default()),
            port: url.port_or_known_default().unwrap_or(80),
            credentials: credentials(url),
        }
    }

    pub(super) const fn host(&self) -> &Rc<str> {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Says that it was the proxy that could not be reached.
    pub(super) fn blame(&self, failure: Failure) -> Failure {
        match failure.kind {
            ErrorKind::Unreachable { reason } => {
                Failure::not_sent(ErrorKind::Unreachable { reason: format!("the proxy: {reason}") })
            }
            kind => Failure { kind, effect: failure.effect },
        }
    }

    /// Asks the proxy for a tunnel to the server.
    pub(super) async fn tunnel(&self, mut tcp: TcpStream, host: &str, port: u16) -> Result<TcpStream, Failure> {
        let broken = |error: std::io::Error| self.refused(&format!("the connection broke: {error}"));
        tcp.write_all(self.request(host, port).as_bytes()).await.map_err(broken)?;
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            // Byte by byte, so that nothing of what follows the head is taken from the tunnel.
            match tcp.read_u8().await {
                Ok(byte) if head.len() < MAX_HEAD => head.push(byte),
                Ok(_) => return Err(self.refused("its answer is too long")),
                Err(error) => return Err(broken(error)),
            }
        }
        match status(&head) {
            Some(200..=299) => Ok(tcp),
            Some(407) => Err(self.refused("it asks for credentials (407); put user:password@ before its host")),
            Some(status) => Err(self.refused(&format!("it answered {status} when asked for {host}:{port}"))),
            None => Err(self.refused("its answer is not HTTP")),
        }
    }

    fn request(&self, host: &str, port: u16) -> String {
        let authorization = self
            .credentials
            .as_ref()
            .map_or_else(String::new, |credentials| format!("Proxy-Authorization: Basic {}\r\n", credentials.expose()));
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n")
    }

    fn refused(&self, why: &str) -> Failure {
        let reason = format!("the proxy {}:{} gives no tunnel: {why}", self.host, self.port);
        Failure::not_sent(ErrorKind::Unreachable { reason })
    }
}

fn credentials(url: &Url) -> Option<SessionKey> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut text = percent_decode_str(url.username()).collect::<Vec<u8>>();
    text.push(b':');
    text.extend(percent_decode_str(url.password().unwrap_or_default()));
    Some(BASE64_STANDARD.encode(text).into())
}

fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|&byte| byte == b'\r').next()?).ok()?;
    let mut words = line.split(' ');
    words.next()?.starts_with("HTTP/1.").then_some(())?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_decoded_before_they_are_sent() {
        let proxy = Proxy::new(&Url::parse("http://me:p%40ss@p:3128").unwrap());
        let request = proxy.request("h", 443);
        assert!(request.contains(&BASE64_STANDARD.encode("me:p@ss")), "{request}");
        assert!(request.starts_with("CONNECT h:443 HTTP/1.1\r\n") && request.ends_with("\r\n\r\n"));
    }

    #[test]
    fn only_http_has_a_status() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n\r\n"), Some(200));
        assert_eq!(status(b"SSH-2.0 200\r\n\r\n"), None);
    }
}
