//! Files that come: whole, or with a failure.

use workspace_fleet::{Failure, client::Download};

use crate::server::*;

async fn collect(download: &mut Download) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    while let Some(chunk) = download.chunk().await {
        all.extend_from_slice(&chunk?);
    }
    assert!(download.chunk().await.is_none());
    Ok(all)
}

async fn get(bytes: &str) -> Result<Vec<u8>, Failure> {
    let (address, _) = serve_bytes(bytes);
    collect(&mut client(address).download("/f", None, None).await?).await
}

#[actix_rt::test]
async fn a_whole_file_comes_with_its_size_and_version() {
    let head = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nLast-Modified: Sun, 22 Nov 2026 18:54:38 GMT\r\n";
    let (address, seen) = serve_bytes(format!("{head}Content-Length: 5\r\n\r\nhello"));
    let mut download = client(address).download("/a b", None, None).await.unwrap();
    assert_eq!((download.status, download.size, download.total), (200, Some(5), Some(5)));
    assert_eq!(download.etag.as_deref(), Some("\"v1\""));
    assert_eq!(download.last_modified.as_deref(), Some("Sun, 22 Nov 2026 18:54:38 GMT"));
    assert_eq!(collect(&mut download).await.unwrap(), b"hello");
    assert_eq!(seen.borrow()[0].line(), "GET /api/file/download?path=/a%20b HTTP/1.1");
}

#[actix_rt::test]
async fn an_empty_file_comes() {
    assert_eq!(get("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap(), b"");
}

#[actix_rt::test]
async fn a_file_cut_short_is_a_failure_that_names_both_numbers() {
    let (kind, _, text) = told(&get("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await.unwrap_err());
    assert_eq!(kind, "protocol");
    assert!(text.contains("5 of 10 bytes"), "{text}");
}

#[actix_rt::test]
async fn a_file_without_a_length_comes_whole_or_is_a_failure() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    assert_eq!(get(&format!("{chunked}0\r\n\r\n")).await.unwrap(), b"hello");
    let (kind, _, text) = told(&get(chunked).await.unwrap_err());
    assert_eq!(kind, "protocol");
    assert!(text.contains("cut short"), "{text}");
    let failure = get("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello").await.unwrap_err();
    assert!(failure.to_string().contains("how long"), "{failure}");
    let failure = get("HTTP/1.0 200 OK\r\n\r\nhello").await.unwrap_err();
    assert!(failure.to_string().contains("how long"), "{failure}");
}

#[actix_rt::test]
async fn a_file_that_stands_still_is_given_up() {
    let (address, _) = serve(|_, mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
        peer.hang().await;
    });
    let mut download = client_with(&connection(address), short()).download("/f", None, None).await.unwrap();
    let (kind, _, text) = told(&collect(&mut download).await.unwrap_err());
    assert_eq!(kind, "deadline");
    assert!(text.contains("5 of 10 bytes"), "{text}");
}

#[actix_rt::test]
async fn the_rest_of_a_file_is_asked_for_and_checked() {
    let part = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/5\r\nContent-Length: 3\r\n\r\nllo";
    let (address, seen) = serve_bytes(part);
    let mut download = client(address).download("/f", Some(2), Some("\"v1\"")).await.unwrap();
    assert_eq!((download.status, download.size, download.total), (206, Some(3), Some(5)));
    assert_eq!(collect(&mut download).await.unwrap(), b"llo");
    assert_eq!(seen.borrow()[0].header("range"), Some("bytes=2-"));
    assert_eq!(seen.borrow()[0].header("if-range"), Some("\"v1\""));

    for from in [Some(3), None] {
        let (address, _) = serve_bytes(part);
        let failure = client(address).download("/f", from, None).await.unwrap_err();
        assert_eq!(failure.kind.name(), "protocol", "{failure}");
    }
}

#[actix_rt::test]
async fn all_from_the_first_byte_on_is_no_range() {
    let (address, seen) = serve_bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client(address).download("/f", Some(0), None).await.unwrap();
    assert_eq!(seen.borrow()[0].header("range"), None);
}

#[actix_rt::test]
async fn a_page_is_not_a_file() {
    let failure = get(&answer("200 OK", "text/html; charset=utf-8", "<title>Sign in</title>")).await.unwrap_err();
    assert!(failure.to_string().contains("not an agent server"), "{failure}");
}

#[actix_rt::test]
async fn a_missing_file_is_not_found() {
    let failure = get(&answer("404 Not Found", "application/json", r#"{"detail":"File not found"}"#)).await;
    assert_eq!(failure.unwrap_err().to_string(), "not found: File not found");
}
