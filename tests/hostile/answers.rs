//! Single answers that are not what they should be.

use std::time::{Duration, Instant};

use workspace_fleet::{Effect, ErrorKind, WorkspaceError};

use crate::{
    server::{Say, Server, page},
    support::memory::Peak,
};

/// Longer than any single answer may take, with the bounds of these tests.
const SOON: Duration = Duration::from_secs(15);

/// What comes of asking what a server is that answers so, and that the workspace works as before.
async fn told(say: impl Fn() -> Say + Send + Sync + 'static) -> WorkspaceError {
    let server = Server::start(move |ask, _| if ask.path == "/server_info" { say() } else { Say::Honest }).await;
    let (fleet, workspace) = server.workspace(|config| config).await;
    let began = Instant::now();
    let error = workspace.get_server_info().await.unwrap_err();
    assert!(began.elapsed() < SOON, "{:?}: {error}", began.elapsed());
    assert!(error.to_string().len() < 5_000, "{} bytes", error.to_string().len());
    let result = workspace.execute_command("echo hi").await.unwrap();
    assert_eq!((result.stdout.as_str(), result.exit_code), ("hi\n", 0));
    fleet.shutdown().await;
    error
}

fn head(lines: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{lines}").into_bytes()
}

fn json(body: impl AsRef<[u8]>) -> Vec<u8> {
    [head(&format!("Content-Length: {}\r\n\r\n", body.as_ref().len())), body.as_ref().to_vec()].concat()
}

#[tokio::test]
async fn a_head_has_a_bound() {
    for endless in [b"X-More: of the same\r\n".repeat(100), vec![b'x'; 4096]] {
        let error = told(move || Say::Endless(head(""), endless.clone())).await;
        assert!(matches!(error.kind, ErrorKind::Protocol { .. }), "{error}");
    }
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let error = told(move || Say::Bytes([head(&many), b"Content-Length: 2\r\n\r\n{}".to_vec()].concat())).await;
    assert!(matches!(error.kind, ErrorKind::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn a_length_that_lies_is_found_out() {
    for (lines, kind) in [
        ("Content-Length: 9223372036854775808\r\n\r\n{}", "larger than"),
        ("Content-Length: 99999999\r\n\r\n{}", "larger than"),
        ("Content-Length: 99\r\n\r\n{}", "2 of 99 bytes"),
        ("Content-Length: -1\r\n\r\n{}", "not HTTP"),
        ("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "not HTTP"),
        ("Content-Length: 1\r\n\r\n{}", "broken JSON"),
        ("\r\n{\"uptime\":1", "does not say how long it is"),
    ] {
        let error = told(move || Say::Bytes(head(lines))).await;
        assert!(error.to_string().contains(kind), "{lines:?}: {error}");
    }
}

#[tokio::test]
async fn chunks_have_a_bound_however_small_or_large_they_are() {
    let peak = Peak::begin();
    let chunked = || head("Transfer-Encoding: chunked\r\n\r\n");
    for (piece, kinds) in [
        (b"1\r\nx\r\n".repeat(2_000), ["protocol", "deadline"]),
        (b"1;".repeat(4_000), ["deadline", "protocol"]),
        ([b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat(), ["protocol", "protocol"]),
    ] {
        let error = told(move || Say::Endless(chunked(), piece.clone())).await;
        assert!(kinds.contains(&error.kind.name()), "{error}");
    }
    for rest in
        ["ffffffffffffffffff\r\n{}", "7fffffffffffffff\r\n{}\r\n", "-1\r\n", "x\r\n{}\r\n", "2\r\n{}", "2\r\n{\r\n"]
    {
        let error = told(move || Say::Bytes([chunked(), rest.as_bytes().to_vec()].concat())).await;
        assert!(matches!(error.kind, ErrorKind::Protocol { .. }), "{rest:?}: {error}");
    }
    assert!(peak.bytes() < crate::MOST_MEMORY, "{} bytes", peak.bytes());
}

#[tokio::test]
async fn a_compressed_answer_is_refused_and_not_unpacked() {
    for encoding in ["gzip", "br", "identity, gzip"] {
        let error =
            told(move || Say::Bytes(head(&format!("Content-Encoding: {encoding}\r\nContent-Length: 2\r\n\r\n{{}}"))))
                .await;
        assert!(error.to_string().contains("compressed"), "{error}");
    }
    let server = Server::start(|ask, _| match ask.path.as_str() {
        "/api/file/download" => {
            Say::Bytes(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhaha".to_vec())
        }
        _ => Say::Honest,
    })
    .await;
    let (fleet, workspace) = server.workspace(|config| config).await;
    let folder = tempfile::tempdir().unwrap();
    let error = workspace.file_download("/f", folder.path().join("f")).await.unwrap_err();
    assert!(error.to_string().contains("compressed"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(server.heads().to_lowercase().contains("accept-encoding: identity"));
    fleet.shutdown().await;
}

#[tokio::test]
async fn json_of_any_kind_is_borne() {
    let peak = Peak::begin();
    let deep = |open: &str| open.repeat(1 << 20);
    let field = |value: &str| format!(r#"{{"idle_time":0,"uptime":{value}}}"#);
    let texts: Vec<Vec<u8>> = vec![
        deep("[").into(),
        deep("{\"a\":").into(),
        field(&deep("[")).into(),
        field(&format!("\"{}\"", "x".repeat(3 << 20))).into(),
        field("1e999").into(),
        field("NaN").into(),
        field("null").into(),
        [br#"{"idle_time":0,"version":"#.as_slice(), b"\"\xff\xfe\""].concat(),
        br#"{"idle_time":0,"version":"\ud800"}"#.to_vec(),
        b"\0\0\0\0".to_vec(),
        b"[]".to_vec(),
        format!("[{}1]", "1,".repeat(1 << 20)).into(),
    ];
    for text in texts {
        let shown = String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned();
        let error = told(move || Say::Bytes(json(&text))).await;
        assert!(matches!(error.kind, ErrorKind::Protocol { cut_short: _, .. }), "{shown}: {error}");
    }
    assert!(peak.bytes() < crate::MOST_MEMORY, "{} bytes", peak.bytes());
}

#[tokio::test]
async fn words_of_a_server_are_shown_and_bounded() {
    let long = format!(r#"{{"detail":"\u001b[2J{}"}}"#, "no ".repeat(1 << 16));
    let html = "<html><title>Sign in</title>".to_owned();
    for (status, content_type, body, kind, says) in [
        ("400 X", "application/json", long.clone(), "rejected", "no no"),
        ("500 X", "application/json", long, "server_error", "no no"),
        ("200 OK", "text/html", html.clone(), "protocol", "Sign in"),
        ("403 X", "text/html", html.clone(), "unauthorized", "Sign in"),
        ("418 X", "text/html", html, "rejected", "Sign in"),
        ("999 X", "text/html", String::new(), "protocol", "999"),
    ] {
        let error = told(move || Say::Bytes(page(status, content_type, &body))).await;
        assert_eq!(error.kind.name(), kind, "{error}");
        let words = error.to_string();
        assert!(words.contains(says) && !words.contains('\u{1b}'), "{words}");
    }
}

#[tokio::test]
async fn an_interim_answer_does_not_pass_its_real_one_on_to_the_next_request() {
    for status in ["100 Continue", "103 Early Hints", "101 Switching Protocols"] {
        let server = Server::start(move |ask, _| match ask.path.as_str() {
            "/server_info" => Say::Late(
                format!("HTTP/1.1 {status}\r\n\r\n").into_bytes(),
                Duration::from_millis(150),
                page("401 X", "application/json", r#"{"detail":"this was not for you"}"#),
            ),
            _ => Say::Honest,
        })
        .await;
        let (fleet, workspace) = server.workspace(|config| config).await;
        let error = workspace.get_server_info().await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Protocol { .. }), "{status}: {error}");
        // At once, so that the rest of the other answer comes while this one is waited for.
        workspace.alive().await.unwrap();
        fleet.shutdown().await;
    }
}

#[tokio::test]
async fn a_year_to_wait_is_not_waited_for() {
    let wait = "Content-Length: 0\r\nRetry-After: 31536000\r\n\r\n";
    let busy = move |status: &'static str| Say::Bytes(format!("HTTP/1.1 {status}\r\n{wait}").into_bytes());
    let server =
        Server::start(move |ask, _| if ask.is_start() { busy("429 Too Many Requests") } else { Say::Honest }).await;
    let (fleet, workspace) = server.workspace(|config| config).await;
    let began = Instant::now();
    let error = workspace.execute_command("true").await.unwrap_err();
    let ErrorKind::ServerError { status: 429, retry_after: Some(told), .. } = &error.kind else { panic!("{error}") };
    assert!(*told <= Duration::from_secs(3600) && error.effect == Effect::NotSent && began.elapsed() < SOON);
    fleet.shutdown().await;

    let server = Server::start(move |ask, _| if ask.is_search() { busy("503 X") } else { Say::Honest }).await;
    let (fleet, workspace) = server.workspace(|config| config).await;
    let began = Instant::now();
    let error = workspace.execute_command("true").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::OutcomeUnknown { .. }) && began.elapsed() < SOON, "{error}");
    fleet.shutdown().await;
}
