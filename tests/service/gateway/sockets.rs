use std::time::{Duration, Instant};

use actix_codec::Framed;
use actix_http::ws::{Codec, Frame, Item, Message};
use awc::{BoxedSocket, error::WsClientError};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};

use super::scene::{FULL_KEY, LOOKING_KEY, PATIENCE, Scene};
use crate::support::eventually;

type Socket = Framed<BoxedSocket, Codec>;

/// How many connections a server on this machine has.
fn connections_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let place = format!(":{port:04X}");
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&place)) && fields.nth(1) == Some("01")
    };
    table.lines().filter(is_one).count()
}

async fn connect(scene: &Scene, query: &str, header: Option<&str>) -> Result<Socket, WsClientError> {
    open(scene, &format!("/sockets/bash-events{query}"), header).await
}

async fn open(scene: &Scene, path: &str, header: Option<&str>) -> Result<Socket, WsClientError> {
    let mut request = scene.client.ws(scene.url(path)).max_frame_size(16 << 20);
    if let Some(key) = header {
        request = request.header("x-session-api-key", key);
    }
    request.connect().await.map(|(_, socket)| socket)
}

async fn with_first_message(scene: &Scene, key: &str) -> Socket {
    let mut socket = connect(scene, "", None).await.unwrap();
    send(&mut socket, &json!({ "type": "auth", "session_api_key": key })).await;
    socket
}

async fn send(socket: &mut Socket, message: &Value) {
    socket.send(Message::Text(message.to_string().into())).await.unwrap();
}

/// The next event, or the code of the close.
async fn next(socket: &mut Socket) -> Result<Value, u16> {
    let mut message = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("it says something") {
            Some(Ok(Frame::Text(text))) => return Ok(serde_json::from_slice(&text).unwrap()),
            Some(Ok(Frame::Continuation(Item::FirstText(piece) | Item::Continue(piece)))) => message.extend(piece),
            Some(Ok(Frame::Continuation(Item::Last(piece)))) => {
                message.extend(piece);
                return Ok(serde_json::from_slice(&message).unwrap());
            }
            Some(Ok(Frame::Close(reason))) => return Err(reason.map_or(0, |reason| reason.code.into())),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Starts a command by a message, and returns its events.
async fn run(socket: &mut Socket, command: &str) -> Vec<Value> {
    send(socket, &json!({ "command": command, "timeout": 20 })).await;
    let mut events = Vec::new();
    loop {
        let event = next(socket).await.unwrap();
        let is_last = event["exit_code"].is_i64();
        events.push(event);
        if is_last {
            return events;
        }
    }
}

#[actix_rt::test]
async fn events_come_without_the_head_whichever_way_the_key_is_given() {
    let scene = Scene::start().await;
    let query = format!("?session_api_key={FULL_KEY}");
    for way in 0..3 {
        let mut socket = match way {
            0 => with_first_message(&scene, FULL_KEY).await,
            1 => connect(&scene, "", Some(FULL_KEY)).await.unwrap(),
            _ => connect(&scene, &query, None).await.unwrap(),
        };
        let socket = &mut socket;
        let events = run(socket, "echo \"$WSFLEET_COMMAND_ID\"; exit 3").await;
        assert_eq!(events[0]["command"], json!("echo \"$WSFLEET_COMMAND_ID\"; exit 3"), "{events:?}");
        let text: String = events.iter().filter_map(|event| event["stdout"].as_str()).collect();
        assert_eq!(text.trim().len(), 32, "the head was put before it: {text}");
        assert_eq!(events.last().unwrap()["exit_code"], json!(3));
        socket.send(Message::Close(None)).await.unwrap();
    }
}

#[actix_rt::test]
async fn a_wrong_key_gets_no_event() {
    let scene = Scene::start().await;
    assert_eq!(next(&mut with_first_message(&scene, "wrong").await).await, Err(4001));
    let mut other = connect(&scene, "", None).await.unwrap();
    send(&mut other, &json!({ "command": "true" })).await;
    assert_eq!(next(&mut other).await, Err(4001));
    match connect(&scene, "", Some("wrong")).await {
        Err(WsClientError::InvalidResponseStatus(status)) => assert_eq!(status.as_u16(), 403),
        other => panic!("{:?}", other.err()),
    }
}

#[actix_rt::test]
async fn a_key_to_look_with_sees_events_and_starts_nothing() {
    let scene = Scene::start().await;
    let mut looker = with_first_message(&scene, LOOKING_KEY).await;
    let mut other = with_first_message(&scene, FULL_KEY).await;
    // Its socket may still be on its way to the agent when the first command runs.
    let sees = async { while next(&mut looker).await.unwrap()["command"] != json!("true") {} };
    let runs = async {
        loop {
            run(&mut other, "true").await;
        }
    };
    tokio::select! {
        () = sees => {}
        () = runs => {}
    }
    send(&mut looker, &json!({ "command": "echo never" })).await;
    loop {
        match next(&mut looker).await {
            Ok(event) => assert_ne!(event["command"], json!("echo never")),
            Err(code) => break assert_eq!(code, 1008),
        }
    }
}

#[actix_rt::test]
async fn a_key_to_look_with_opens_no_other_socket() {
    let scene = Scene::start().await;
    let conversation = "/sockets/events/7f6f9d6e-0d0f-4b62-9a5e-0a3f1f0b7f11";
    for path in [conversation, "/api/settings/secrets/TOKEN"] {
        match open(&scene, path, Some(LOOKING_KEY)).await {
            Err(WsClientError::InvalidResponseStatus(status)) => assert_eq!(status.as_u16(), 403, "{path}"),
            other => panic!("{path}: {:?}", other.err()),
        }
    }
    let mut later = open(&scene, conversation, None).await.unwrap();
    send(&mut later, &json!({ "type": "auth", "session_api_key": LOOKING_KEY })).await;
    assert_eq!(next(&mut later).await, Err(1008));
}

#[actix_rt::test]
async fn long_messages_come_whole_and_a_start_that_makes_no_sense_is_told() {
    let scene = Scene::start().await;
    let mut socket = with_first_message(&scene, FULL_KEY).await;
    let events = run(&mut socket, "head -c 3000000 /dev/zero | tr '\\0' x").await;
    let got: usize = events.iter().filter_map(|event| event["stdout"].as_str()).map(str::len).sum();
    assert_eq!(got, 3_000_000);
    send(&mut socket, &json!({ "command": 7 })).await;
    assert_eq!(next(&mut socket).await.unwrap()["kind"], json!("BashError"));
}

#[actix_rt::test]
async fn a_key_that_is_sent_again_does_not_go_on() {
    let scene = Scene::start().await;
    let mut socket = with_first_message(&scene, FULL_KEY).await;
    // The agent would say that this starts nothing.
    for _ in 0..2 {
        send(&mut socket, &json!({ "type": "auth", "session_api_key": FULL_KEY })).await;
    }
    let events = run(&mut socket, "true").await;
    assert_eq!((&events[0]["kind"], &events[0]["command"]), (&json!("BashCommand"), &json!("true")), "{events:?}");
}

#[actix_rt::test]
async fn a_client_that_reads_nothing_is_closed_and_freezes_no_command() {
    let scene = Scene::start().await;
    let stalled = with_first_message(&scene, FULL_KEY).await;
    let flood = scene.start_command("head -c 90000000 /dev/zero | tr '\\0' x").await;
    let began = Instant::now();
    scene.ended(flood["id"].as_str().unwrap()).await;
    assert!(began.elapsed() < PATIENCE);
    // All else between the service and the agent is closed when it was idle for long enough. Until then nothing is read, for the
    // rest of the flood may be on its way still.
    assert!(eventually(PATIENCE, || connections_to(scene.agent.port) == 0).await, "its socket is open");
    // It has lost its socket before all of that came.
    let mut stalled = stalled;
    let mut got = 0;
    let end = loop {
        match tokio::time::timeout(Duration::from_secs(20), stalled.next()).await.expect("it ends") {
            Some(Ok(Frame::Close(_)) | Err(_)) | None => break true,
            Some(Ok(Frame::Text(bytes))) => got += bytes.len(),
            Some(Ok(Frame::Continuation(Item::FirstText(piece) | Item::Continue(piece) | Item::Last(piece)))) => {
                got += piece.len()
            }
            Some(Ok(_)) => {}
        }
    };
    assert!(end && got < 90_000_000, "{got} bytes waited for it");
}
