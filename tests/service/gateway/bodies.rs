use std::{fs, time::Duration};

use awc::http::StatusCode;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::scene::{FULL_KEY, Scene, to_agent};

/// How large the files are.
const SIZE: usize = 48 << 20;
const PIECE: usize = 64 << 10;

fn pieces() -> impl Iterator<Item = Vec<u8>> {
    (0..SIZE / PIECE).map(|number| vec![(number % 251) as u8; PIECE])
}

#[actix_rt::test]
async fn files_are_streamed_both_ways() {
    let scene = Scene::start().await;
    let path = scene.root.path().join("made/file");
    let head = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    let body = stream::iter([head.as_bytes().to_vec()].into_iter().chain(pieces()).chain([b"\r\n--B--\r\n".to_vec()]));
    let upload = scene
        .client
        .post(scene.url(&format!("/api/file/upload?path={}", path.display())))
        .insert_header(("x-session-api-key", FULL_KEY))
        .insert_header(("content-type", "multipart/form-data; boundary=B"))
        .send_stream(body.map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece))));
    let mut answer = upload.await.unwrap();
    let reply: Value = serde_json::from_slice(&answer.body().await.unwrap()).unwrap();
    assert_eq!((answer.status(), &reply["file_size"]), (StatusCode::OK, &json!(SIZE)), "{reply}");
    assert!(fs::read(&path).unwrap() == pieces().flatten().collect::<Vec<u8>>(), "the file is another");
    let url = scene.url(&format!("/api/file/download?path={}", path.display()));
    let key = ("x-session-api-key", FULL_KEY);
    let mut answer = scene.client.get(&url).insert_header(key).send().await.unwrap();
    assert_eq!(answer.headers().get("content-length").unwrap().to_str().unwrap(), SIZE.to_string());
    let (mut got, mut expected) = (0, pieces().flatten());
    while let Some(piece) = answer.next().await {
        let piece = piece.unwrap();
        got += piece.len();
        assert!(piece.iter().all(|byte| Some(*byte) == expected.next()), "other bytes before {got}");
    }
    assert_eq!(got, SIZE);
    let range = scene.client.get(&url).insert_header(key).insert_header(("range", "bytes=2-5")).send().await.unwrap();
    assert_eq!(range.status(), StatusCode::PARTIAL_CONTENT);
}

#[actix_rt::test]
async fn clients_that_do_not_read_hold_up_nobody() {
    let scene = Scene::start().await;
    let path = scene.root.path().join("file");
    fs::write(&path, vec![7; SIZE]).unwrap();
    let url = scene.url(&format!("/api/file/download?path={}", path.display()));
    let mut stalled = Vec::new();
    for _ in 0..16 {
        let answer = scene.client.get(&url).insert_header(("x-session-api-key", FULL_KEY)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        stalled.push(answer);
    }
    let others = async {
        for _ in 0..10 {
            scene.get("/api/file/home").await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), others).await.expect("others go on");
    drop(stalled);
}

#[actix_rt::test]
async fn a_body_that_does_not_go_on_is_not_waited_for() {
    let scene = Scene::configured(to_agent, |config| config.body_idle = Duration::from_millis(200)).await;
    let file = "multipart/form-data; boundary=B";
    let head = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nsome";
    for (path, kind, begun) in [
        ("/api/bash/start_bash_command", "application/json", "{\"comm"),
        ("/api/bash/execute_bash_command", "application/json", "{\"comm"),
        ("/api/file/upload?path=/tmp/never", file, "--B\r\n"),
        ("/api/file/upload?path=/tmp/never", file, head),
        ("/api/file/upload", file, head),
        ("/api/elsewhere", "application/json", "{\"comm"),
    ] {
        let mut stream = TcpStream::connect(scene.address()).await.unwrap();
        let request = format!(
            "POST /workspaces/w%201{path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-session-api-key: {FULL_KEY}\r\n\
             content-type: {kind}\r\ncontent-length: 1000\r\nconnection: close\r\n\r\n{begun}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let told = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut answer)).await;
        let count = told.unwrap_or_else(|_| panic!("{path} is waited for")).unwrap();
        let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
    }
}
