//! The event socket.

use tokio::io::AsyncReadExt as _;
use workspace_fleet::{
    Effect, ErrorKind, Failure,
    client::{ClientLimits, EventSocket},
    protocol::BashEvent,
};

use crate::server::*;

const TEXT: u8 = 0x1;
const REST: u8 = 0x0;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// The end of a message.
const FIN: u8 = 0x80;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(length as u8),
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn close(code: u16) -> Vec<u8> {
    frame(FIN | CLOSE, &code.to_be_bytes())
}

/// Accepts a socket and answers its request.
async fn accept(peer: &mut Peer) -> Request {
    let request = peer.request().await.unwrap();
    let key = request.header("sec-websocket-key").unwrap();
    let accept = actix_http::ws::hash_key(key.as_bytes());
    peer.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n").await;
    peer.write([b"Sec-WebSocket-Accept: ", accept.as_slice(), b"\r\n\r\n"].concat()).await;
    request
}

/// Reads a frame of the client: its first byte and its text.
async fn read_frame(peer: &mut Peer) -> Option<(u8, String)> {
    let first = peer.stream.read_u8().await.ok()?;
    let length = peer.stream.read_u8().await.ok()?;
    assert!(length & 0x80 != 0, "a client must mask its frames");
    let length = match length & 0x7f {
        126 => usize::from(peer.stream.read_u16().await.ok()?),
        length => usize::from(length),
    };
    let mut mask = [0; 4];
    peer.stream.read_exact(&mut mask).await.ok()?;
    let mut payload = vec![0; length];
    peer.stream.read_exact(&mut payload).await.ok()?;
    payload.iter_mut().enumerate().for_each(|(index, byte)| *byte ^= mask[index % 4]);
    Some((first, String::from_utf8(payload).ok()?))
}

/// Opens a socket to a server that sends `bytes` once it has the key.
async fn socket_with(bytes: Vec<u8>, limits: ClientLimits) -> EventSocket {
    let (address, _) = serve(move |_, mut peer| {
        let bytes = bytes.clone();
        async move {
            accept(&mut peer).await;
            read_frame(&mut peer).await;
            peer.write(bytes).await;
            peer.hang().await;
        }
    });
    client_with(&connection(address), limits).event_socket(false).await.unwrap()
}

async fn socket(bytes: Vec<u8>) -> EventSocket {
    socket_with(bytes, ClientLimits::default()).await
}

async fn failure(mut socket: EventSocket) -> Failure {
    let failure = socket.next().await.unwrap().unwrap_err();
    assert!(socket.next().await.is_none());
    failure
}

fn assert_started(event: Option<Result<BashEvent, Failure>>) {
    assert!(matches!(event, Some(Ok(BashEvent::Command(_)))), "{event:?}");
}

#[actix_rt::test]
async fn the_key_is_in_the_first_message_and_nowhere_else() {
    let (address, seen) = serve(|_, mut peer| async move {
        let request = accept(&mut peer).await;
        assert_eq!(request.line(), "GET /sockets/bash-events?resend_mode=all HTTP/1.1");
        let (first, text) = read_frame(&mut peer).await.unwrap();
        assert_eq!(first, FIN | TEXT);
        assert_eq!(text, r#"{"type":"auth","session_api_key":"hush"}"#);
        peer.write(frame(FIN | TEXT, STARTED.as_bytes())).await;
        peer.hang().await;
    });
    let mut socket = client(address).event_socket(true).await.unwrap();
    assert_started(socket.next().await);
    assert!(!seen.borrow()[0].head.contains("hush"));
}

#[actix_rt::test]
async fn a_message_in_pieces_with_a_ping_between_is_one_event() {
    let (head, tail) = STARTED.as_bytes().split_at(40);
    let (middle, tail) = tail.split_at(40);
    let bytes =
        [frame(TEXT, head), frame(FIN | PING, b"are you there"), frame(REST, middle), frame(FIN | REST, tail)].concat();
    let (address, _) = serve(move |_, mut peer| {
        let bytes = bytes.clone();
        async move {
            accept(&mut peer).await;
            read_frame(&mut peer).await;
            peer.write(bytes).await;
            // The farewell depends on the answer, so that the client can tell.
            let pong = read_frame(&mut peer).await;
            let is_pong = pong == Some((FIN | PONG, "are you there".to_owned()));
            peer.write(close(if is_pong { 1000 } else { 1002 })).await;
            peer.hang().await;
        }
    });
    let mut socket = client(address).event_socket(false).await.unwrap();
    assert_started(socket.next().await);
    assert!(socket.next().await.is_none());
}

#[actix_rt::test]
async fn an_event_larger_than_awcs_own_bound_comes() {
    let large = STARTED.replace(r#""true""#, &format!("\"{}\"", "x".repeat(2 << 20)));
    let mut socket = socket(frame(FIN | TEXT, large.as_bytes())).await;
    let Some(Ok(BashEvent::Command(command))) = socket.next().await else { panic!() };
    assert_eq!(command.command.len(), 2 << 20);
}

#[actix_rt::test]
async fn a_message_larger_than_the_bound_is_refused_whole_or_in_pieces() {
    let limits = ClientLimits { max_socket_frame: 1000, ..ClientLimits::default() };
    let whole = frame(FIN | TEXT, &[b' '; 1001]);
    let pieces = [frame(TEXT, &[b' '; 600]), frame(FIN | REST, &[b' '; 600])].concat();
    for bytes in [whole, pieces] {
        let (kind, _, text) = told(&failure(socket_with(bytes, limits).await).await);
        assert_eq!(kind, "protocol");
        assert!(text.contains("larger than 1000 bytes"), "{text}");
    }
}

#[actix_rt::test]
async fn a_message_larger_than_the_bound_is_refused_before_it_comes() {
    let limits = ClientLimits { max_socket_frame: 1000, ..ClientLimits::default() };
    let endless = [&[FIN | TEXT, 127][..], &(1_u64 << 40).to_be_bytes()].concat();
    let (kind, _, text) = told(&failure(socket_with(endless, limits).await).await);
    assert_eq!(kind, "protocol");
    assert!(text.contains("larger than 1000 bytes"), "{text}");
}

#[actix_rt::test]
async fn a_farewell_says_why() {
    assert!(matches!(failure(socket(close(4001)).await).await.kind, ErrorKind::Unauthorized { .. }));
    let busy = failure(socket(close(1013)).await).await;
    assert!(matches!(busy.kind, ErrorKind::ServerError { status: 1013, .. }), "{busy:?}");
    assert_eq!(failure(socket(close(1002)).await).await.kind.name(), "protocol");
    for bytes in [close(1000), close(1001), frame(FIN | CLOSE, b"")] {
        assert!(socket(bytes).await.next().await.is_none());
    }
}

#[actix_rt::test]
async fn a_socket_that_ends_without_farewell_broke() {
    let (address, _) = serve(|_, mut peer| async move {
        accept(&mut peer).await;
        read_frame(&mut peer).await;
    });
    let socket = client(address).event_socket(false).await.unwrap();
    assert_eq!(failure(socket).await.kind.name(), "unreachable");
}

#[actix_rt::test]
async fn a_server_that_falls_silent_is_asked_and_then_given_up() {
    let socket = socket_with(Vec::new(), short()).await;
    assert_eq!(failure(socket).await.kind.name(), "deadline");
}

#[actix_rt::test]
async fn a_silent_server_that_answers_pings_is_kept() {
    let (address, _) = serve(|_, mut peer| async move {
        accept(&mut peer).await;
        read_frame(&mut peer).await;
        for _ in 0..3 {
            assert_eq!(read_frame(&mut peer).await.unwrap().0, FIN | PING);
            peer.write(frame(FIN | PONG, b"")).await;
        }
        peer.write(frame(FIN | TEXT, STARTED.as_bytes())).await;
        peer.hang().await;
    });
    let limits = ClientLimits { idle_timeout: std::time::Duration::from_millis(800), ..ClientLimits::default() };
    let mut socket = client_with(&connection(address), limits).event_socket(false).await.unwrap();
    assert_started(socket.next().await);
}

#[actix_rt::test]
async fn nonsense_is_a_protocol_violation() {
    let nonsense: [Vec<u8>; 4] = [
        frame(FIN | TEXT, b"{"),
        frame(FIN | TEXT, b"\xff\xfe"),
        frame(FIN | 0x2, b"binary"),
        frame(FIN | REST, b"the rest of nothing"),
    ];
    for bytes in nonsense {
        assert_eq!(failure(socket(bytes).await).await.kind.name(), "protocol");
    }
}

#[actix_rt::test]
async fn a_command_can_be_started_over_the_socket() {
    let (address, _) = serve(|_, mut peer| async move {
        accept(&mut peer).await;
        read_frame(&mut peer).await;
        let (_, text) = read_frame(&mut peer).await.unwrap();
        assert_eq!(text, r#"{"command":"true","cwd":null,"timeout":5}"#);
        peer.write(frame(FIN | TEXT, STARTED.as_bytes())).await;
        assert_eq!(read_frame(&mut peer).await.unwrap().0, FIN | CLOSE);
    });
    let mut socket = client(address).event_socket(false).await.unwrap();
    socket.send_start(&start()).await.unwrap();
    assert_started(socket.next().await);
    socket.close().await;
}

#[actix_rt::test]
async fn an_upgrade_that_is_refused_says_why() {
    for (status, kind) in [("403 Forbidden", "unauthorized"), ("404 Not Found", "not_found"), ("200 OK", "protocol")] {
        let (address, _) = serve_bytes(answer(status, "text/plain", ""));
        let failure = client(address).event_socket(false).await.unwrap_err();
        assert_eq!(failure.kind.name(), kind, "{failure}");
    }
    let (address, _) = serve_bytes("");
    let failure = client(address).event_socket(false).await.unwrap_err();
    assert_eq!(failure.kind.name(), "unreachable");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = client(closed).event_socket(false).await.unwrap_err();
    assert_eq!((failure.kind.name(), failure.effect), ("unreachable", Effect::NotSent));
}
