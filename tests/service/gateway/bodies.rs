use std::{fs, time::Duration};

use awc::http::StatusCode;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::scene::{FULL_KEY, Scene};

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
