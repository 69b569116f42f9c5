//! Those who have shown no key.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::scene::{FULL_KEY, PATIENCE, Scene};

/// Asks for a socket without a key, and returns the head of the answer.
async fn open(scene: &Scene) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(scene.address()).await.unwrap();
    let head = "GET /workspaces/w%201/sockets/bash-events HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\n\
                upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("it is answered").unwrap();
        answer.push(byte);
    }
    (stream, String::from_utf8(answer).unwrap())
}

/// A text as a client sends it, masked with zeros.
fn text(payload: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0xfe];
    frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload.as_bytes());
    frame
}

#[actix_rt::test]
async fn a_long_message_is_not_waited_for_before_a_key_has_come() {
    let scene = Scene::start().await;
    let (mut stream, answer) = open(&scene).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let mut begun = vec![0x81, 0xff];
    begun.extend((16_u64 << 20).to_be_bytes());
    begun.extend([0; 4]);
    begun.extend([b'x'; 8 << 10]);
    stream.write_all(&begun).await.unwrap();
    let mut close = [0; 4];
    // Its key would have 10 s.
    let told = timeout(Duration::from_secs(8), stream.read_exact(&mut close)).await;
    told.expect("it is refused at once").unwrap();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 4001));
}

#[actix_rt::test]
async fn what_is_sent_behind_the_key_is_read_when_that_is_accepted() {
    let scene = Scene::start().await;
    let (mut stream, _) = open(&scene).await;
    let auth = json!({ "type": "auth", "session_api_key": FULL_KEY, "more": " ".repeat(200) });
    let start = json!({ "command": format!("echo read; : {}", "x".repeat(20_000)), "timeout": 20 });
    stream.write_all(&[text(&auth.to_string()), text(&start.to_string())].concat()).await.unwrap();
    let mut told = Vec::new();
    while !told.windows(6).any(|window| window == b"read\\n") {
        let count = timeout(PATIENCE, stream.read_buf(&mut told)).await.expect("it goes on").unwrap();
        assert!(count > 0, "it is closed: {}", String::from_utf8_lossy(&told));
    }
}

#[actix_rt::test]
async fn there_are_never_many_of_them() {
    let scene = Scene::start().await;
    let mut waiting = Vec::new();
    let refused = loop {
        let (stream, answer) = open(&scene).await;
        if !answer.starts_with("HTTP/1.1 101") {
            break answer;
        }
        waiting.push(stream);
        assert!(waiting.len() < 400, "as many as want to wait");
    };
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: "), "{refused}");
    drop(waiting);
    // There is room again when they are gone.
    let until = tokio::time::Instant::now() + Duration::from_secs(8);
    while !open(&scene).await.1.starts_with("HTTP/1.1 101") {
        assert!(tokio::time::Instant::now() < until, "they are still counted");
    }
}
