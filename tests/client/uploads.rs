//! Files that go.

use std::io::{Seek as _, Write as _};

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use workspace_fleet::{Effect, client::UploadBody};

use crate::server::*;

fn file(content: &[u8], size: usize) -> UploadBody {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    UploadBody::file(tokio::fs::File::from_std(file), size as u64, "some.file")
}

fn reply(size: usize) -> String {
    json(&format!(r#"{{"success":true,"file_size":{size}}}"#))
}

#[actix_rt::test]
async fn a_file_goes_as_one_part_of_a_form() {
    let content: Vec<u8> = (0..700_000_u32).map(|i| (i % 251) as u8).collect();
    for body in [UploadBody::bytes(Bytes::from(content.clone())), file(&content, content.len())] {
        let (address, seen) = serve_bytes(reply(content.len()));
        client(address).upload("/tmp/ü", body).await.unwrap();
        let request = seen.borrow()[0].clone();
        assert_eq!(request.line(), "POST /api/file/upload?path=/tmp/%C3%BC HTTP/1.1");
        let kind = request.header("content-type").unwrap();
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
        let end = format!("\r\n--{boundary}--\r\n");
        let start = request.body.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert!(String::from_utf8_lossy(&request.body[..start]).contains("name=\"file\"; filename="));
        assert!(request.body[start..] == [content.as_slice(), end.as_bytes()].concat());
    }
}

#[actix_rt::test]
async fn an_empty_file_goes() {
    for body in [UploadBody::bytes(Bytes::new()), file(b"", 0)] {
        let (address, _) = serve_bytes(reply(0));
        assert_eq!(client(address).upload("/f", body).await.unwrap().file_size, Some(0));
    }
}

#[actix_rt::test]
async fn a_file_that_shrank_or_grew_is_a_local_failure() {
    let content = vec![7; 600_000];
    for size in [content.len() + 1, content.len() - 1] {
        let (address, seen) = serve_bytes(reply(size));
        let failure = client(address).upload("/f", file(&content, size)).await.unwrap_err();
        let (kind, effect, text) = told(&failure);
        assert_eq!((kind, effect), ("local", Effect::NotSent));
        assert!(text.contains("some.file"), "{text}");
        // The server has no whole request.
        assert!(seen.borrow().is_empty());
    }
}

#[actix_rt::test]
async fn a_refusal_is_heard_while_bytes_are_still_being_sent() {
    let (address, _) = serve(|number, mut peer| async move {
        if number == 0 {
            peer.head().await;
            peer.write(answer("413 Payload Too Large", "text/html", "<title>413 too large</title>")).await;
            // Closed with bytes unread, which resets the connection.
            return;
        }
        peer.request().await;
        peer.write(reply(1)).await;
    });
    let client = client(address);
    let large = UploadBody::bytes(Bytes::from(vec![7; 64 << 20]));
    let (kind, effect, text) = told(&client.upload("/f", large).await.unwrap_err());
    assert_eq!((kind, effect), ("rejected", Effect::NotSent), "{text}");
    assert!(text.contains("413 too large"), "{text}");
    client.upload("/f", UploadBody::bytes(Bytes::from_static(b"x"))).await.unwrap();
}

#[actix_rt::test]
async fn a_connection_that_was_refused_halfway_is_not_used_again() {
    // The server goes on listening on the connection; what it would hear there is the middle of a file.
    let (address, _) = serve(|number, mut peer| async move {
        if number == 0 {
            peer.head().await;
            peer.write(answer("401 Unauthorized", "application/json", r#"{"detail":"Unauthorized"}"#)).await;
            std::future::pending::<()>().await;
        }
        peer.request().await;
        peer.write(reply(1)).await;
    });
    let client = client(address);
    let large = UploadBody::bytes(Bytes::from(vec![7; 64 << 20]));
    assert_eq!(client.upload("/f", large).await.unwrap_err().kind.name(), "unauthorized");
    client.upload("/f", UploadBody::bytes(Bytes::from_static(b"x"))).await.unwrap();
}

#[actix_rt::test]
async fn an_upload_that_stands_still_is_given_up() {
    let (address, _) = serve(|_, mut peer| async move {
        peer.head().await;
        std::future::pending::<()>().await;
    });
    let client = client_with(&connection(address), short());
    let large = UploadBody::bytes(Bytes::from(vec![7; 64 << 20]));
    let failure = client.upload("/f", large).await.unwrap_err();
    assert_eq!((failure.kind.name(), failure.effect), ("deadline", Effect::NotSent), "{failure}");
}

#[actix_rt::test]
async fn a_slow_upload_that_goes_on_is_not_given_up() {
    let (address, _) = serve(|_, mut peer| async move {
        let head = peer.head().await.unwrap();
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        let mut left = length - peer.buffered();
        let mut space = vec![0; 1 << 20];
        while left > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            left -= peer.stream.read(&mut space).await.unwrap();
        }
        peer.write(reply(24 << 20)).await;
        peer.hang().await;
    });
    let started = std::time::Instant::now();
    let client = client_with(&connection(address), short());
    client.upload("/f", UploadBody::bytes(Bytes::from(vec![7; 24 << 20]))).await.unwrap();
    assert!(started.elapsed() > short().idle_timeout + short().answer_timeout);
}

#[actix_rt::test]
async fn an_upload_whose_connection_breaks_halfway_did_nothing() {
    let (address, _) = serve(|_, mut peer| async move {
        peer.head().await;
        peer.stream.set_zero_linger().unwrap();
    });
    let large = UploadBody::bytes(Bytes::from(vec![7; 64 << 20]));
    let failure = client(address).upload("/f", large).await.unwrap_err();
    assert_eq!((failure.kind.name(), failure.effect), ("unreachable", Effect::NotSent), "{failure}");
}
