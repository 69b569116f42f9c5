//! Event sockets that are not what they should be: searches bring what they do not.

use std::time::Duration;

use futures::StreamExt as _;
use workspace_fleet::{Push, protocol::EventId};

use crate::{
    server::{Say, Server, events, output, page},
    support::memory::Peak,
};

/// A frame: its first byte, and a payload of the length that is said.
fn frame(first: u8, length: u64, payload: &[u8]) -> Vec<u8> {
    [&[first, 127], length.to_be_bytes().as_slice(), payload].concat()
}

fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.len() as u64, payload.as_bytes())
}

/// What a server does with the request for a socket.
type Opening = Box<dyn Fn() -> Say + Send + Sync>;

fn sockets() -> Vec<(&'static str, Opening)> {
    let stranger = || output(&EventId::random().to_string(), 0, Some(1), "not yours\n").to_string();
    let sends = |bytes: Vec<u8>| -> Opening { Box::new(move || Say::Socket(bytes.clone())) };
    let answers = |bytes: Vec<u8>| -> Opening { Box::new(move || Say::Bytes(bytes.clone())) };
    vec![
        ("nothing", sends(Vec::new())),
        ("a frame of 2^63 bytes", sends(frame(0x81, 1 << 63, b"x"))),
        ("a frame of 100 MB", sends(frame(0x81, 100 << 20, &vec![b' '; 20 << 20]))),
        (
            "continuations without end",
            sends([frame(0x01, 1, b"{"), frame(0x00, 1 << 20, &vec![b' '; 1 << 20]).repeat(40)].concat()),
        ),
        ("a message within a message", sends([frame(0x01, 1, b"{"), frame(0x01, 1, b"{")].concat())),
        ("the rest of nothing", sends(frame(0x80, 1, b"}"))),
        ("binary", sends(frame(0x82, 2, b"{}"))),
        ("reserved bits and codes", sends(vec![0xff; 64])),
        ("a masked frame", sends([&[0x81, 0x82][..], &[1, 2, 3, 4, b'{', b'}']].concat())),
        ("no JSON", sends(text("{"))),
        ("no UTF-8", sends(frame(0x81, 2, b"\xff\xfe"))),
        ("no event", sends(text("[]"))),
        ("kinds that nobody knows", sends(text(r#"{"kind":"x"}"#).repeat(1000))),
        ("strangers", sends((0..1000).flat_map(|_| text(&stranger())).collect())),
        ("half a frame", sends(frame(0x81, 1000, b"{"))),
        ("pings", sends(frame(0x89, 4, b"ping").repeat(1000))),
        ("a long ping", sends(frame(0x89, 1 << 20, &vec![0; 1 << 20]))),
        ("a close with a long reason", sends(frame(0x88, 1 << 16, &vec![b'x'; 1 << 16]))),
        ("1013", sends(frame(0x88, 2, &1013u16.to_be_bytes()))),
        ("4001", sends(frame(0x88, 2, &4001u16.to_be_bytes()))),
        ("403", answers(page("403 Forbidden", "text/plain", ""))),
        ("404", answers(page("404 Not Found", "application/json", r#"{"detail":"Not Found"}"#))),
        ("a page", answers(page("200 OK", "text/html", "<html>"))),
        (
            "an answer without a key",
            answers(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_vec()),
        ),
        ("a head without end", Box::new(|| Say::Endless(b"HTTP/1.1 101 X\r\n".to_vec(), b"X: y\r\n".repeat(100)))),
        ("silence", answers(Vec::new())),
    ]
}

#[tokio::test]
async fn whatever_comes_over_a_socket_the_result_is_right() {
    let peak = Peak::begin();
    let checks = sockets().into_iter().map(|(name, opening)| async move {
        let server = Server::start(move |ask, commands| {
            if ask.path == "/sockets/bash-events" {
                return opening();
            }
            if !ask.is_search() {
                return Say::Honest;
            }
            // So long that a socket is opened.
            let ended = commands.age() > Duration::from_millis(1200);
            let last = output(&commands.id(0), 0, Some(7), "right\n");
            events(if ended { vec![last] } else { Vec::new() }, None)
        })
        .await;
        let (fleet, workspace) = server.workspace(|config| config.with_push(Push::Always)).await;
        let result = tokio::time::timeout(Duration::from_secs(20), workspace.execute_command("sleep 1")).await;
        let result = result.unwrap_or_else(|_| panic!("{name}: it does not end")).unwrap();
        assert_eq!((result.stdout.as_str(), result.exit_code), ("right\n", 7), "{name}");
        assert!(server.heads().contains("/sockets/bash-events"), "{name}: it was opened");
        fleet.shutdown().await;
    });
    // A few at a time, so that it is not this machine that is slow.
    futures::stream::iter(checks).buffer_unordered(6).collect::<Vec<()>>().await;
    assert!(peak.bytes() < crate::MOST_MEMORY, "{} bytes", peak.bytes());
}

#[tokio::test]
async fn what_a_socket_and_a_search_tell_both_is_taken_once() {
    let server = Server::start(|ask, commands| {
        let id = commands.id(0);
        let event = |order: u64, exit_code, text: &str| {
            let mut event = output(&id, order, exit_code, text);
            event["id"] = serde_json::json!(format!("{order:032x}"));
            event
        };
        let all =
            || vec![event(1, None, "b\n"), event(0, None, "a\n"), event(0, None, "a\n"), event(2, Some(0), "c\n")];
        if ask.path == "/sockets/bash-events" {
            return Say::Socket(all()[..3].iter().flat_map(|event| text(&event.to_string())).collect());
        }
        match ask.is_search() {
            true if commands.age() > Duration::from_millis(900) => events(all(), None),
            true => events(Vec::new(), None),
            false => Say::Honest,
        }
    })
    .await;
    let (fleet, workspace) = server.workspace(|config| config.with_push(Push::Always)).await;
    let result = workspace.execute_command("sleep 1").await.unwrap();
    assert_eq!((result.stdout.as_str(), result.exit_code), ("a\nb\nc\n", 0));
    assert!(workspace.observe().await.unwrap().pushed_events >= 3);
    fleet.shutdown().await;
}

#[tokio::test]
async fn one_socket_serves_all_commands_of_a_workspace_and_carries_no_key_in_its_request() {
    let server = Server::start(|ask, commands| match ask.path.as_str() {
        "/sockets/bash-events" if ask.head.contains("hush-session-key") => Say::Bytes(Vec::new()),
        "/sockets/bash-events" => Say::Socket(Vec::new()),
        _ if ask.is_search() => {
            let ids = (0..10).map(|number| commands.id(number)).filter(|id| !id.is_empty());
            let ended = commands.age() > Duration::from_secs(2);
            events(ids.filter(|_| ended).map(|id| output(&id, 0, Some(0), "")).collect(), None)
        }
        _ => Say::Honest,
    })
    .await;
    let (fleet, workspace) = server.workspace(|config| config.with_push(Push::Always)).await;
    let running = futures::future::join_all((0..10).map(|_| workspace.execute_command("sleep 2")));
    let opened = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(workspace.observe().await.unwrap().pushed);
    };
    let (results, ()) = tokio::join!(running, opened);
    assert!(results.into_iter().all(|result| result.unwrap().success()));
    assert_eq!(server.heads().matches("GET /sockets/bash-events").count(), 1);
    fleet.shutdown().await;
}
