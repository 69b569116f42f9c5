//! What an answer means.

use workspace_fleet::{Effect, ErrorKind, Failure, client::ClientLimits};

use crate::server::*;

async fn alive_on(bytes: &str) -> Failure {
    let (address, _) = serve_bytes(bytes);
    client(address).alive().await.expect_err("a failure")
}

#[actix_rt::test]
async fn a_whole_answer_is_read_whatever_its_content_type_and_framing() {
    for bytes in [
        json(ALIVE),
        answer("200 OK", "text/plain", ALIVE),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{ALIVE}\r\n0\r\n\r\n"),
    ] {
        let (address, _) = serve_bytes(bytes);
        assert_eq!(client(address).alive().await.unwrap().status, "ok");
    }
}

#[actix_rt::test]
async fn a_body_shorter_than_its_length_is_no_answer() {
    // Cut so that what came is valid JSON.
    let (kind, effect, text) = told(&alive_on(&format!("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{ALIVE}")).await);
    assert_eq!((kind, effect), ("protocol", Effect::MaybeSent));
    assert!(text.contains("15 of 99 bytes"), "{text}");
}

#[actix_rt::test]
async fn a_chunked_body_that_ends_early_is_no_answer() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"sta\r\n";
    let (kind, _, text) = told(&alive_on(cut).await);
    assert_eq!(kind, "protocol");
    assert!(text.contains("broken JSON"), "{text}");
}

#[actix_rt::test]
async fn a_page_is_not_an_agent_server() {
    let page = answer("200 OK", "text/html", "<html>\n<title>Welcome to\u{1b}[31m nginx!</title>");
    let (kind, _, text) = told(&alive_on(&page).await);
    assert_eq!(kind, "protocol");
    assert!(text.contains("not an agent server") && text.contains("text/html"), "{text}");
    assert!(text.contains("Welcome to [31m nginx!") && !text.contains('\u{1b}'), "{text}");
}

#[actix_rt::test]
async fn json_of_another_form_names_what_is_missing() {
    let (address, _) = serve_bytes(json(r#"{"version":"1"}"#));
    let text = client(address).server_info().await.unwrap_err().to_string();
    assert!(text.contains("GET /server_info") && text.contains("uptime"), "{text}");
}

#[actix_rt::test]
async fn garbage_is_a_protocol_violation() {
    let (kind, effect, text) = told(&alive_on("SSH-2.0-OpenSSH_9.7\r\n\r\n").await);
    assert_eq!((kind, effect), ("protocol", Effect::MaybeSent), "{text}");
}

#[actix_rt::test]
async fn a_404_of_the_agent_is_not_found_and_of_a_gateway_is_gone() {
    let agent = alive_on(&answer("404 Not Found", "application/json", r#"{"detail":"Not Found"}"#)).await;
    assert_eq!(agent.kind, ErrorKind::NotFound { detail: "Not Found".to_owned() });
    let gateway = alive_on(&answer("404 Not Found", "text/html", "<h1>no such sandbox</h1>")).await;
    assert_eq!((gateway.kind.name(), gateway.effect), ("gone", Effect::NotSent));
}

#[actix_rt::test]
async fn too_many_requests_says_when_to_come_back_and_that_nothing_was_done() {
    let bytes = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    let (address, _) = serve_bytes(bytes);
    let failure = client(address).start_bash_command(&start(), None).await.unwrap_err();
    let ErrorKind::ServerError { status: 429, retry_after: Some(wait), .. } = failure.kind else {
        panic!("{failure:?}")
    };
    assert_eq!((wait.as_secs(), failure.effect), (7, Effect::NotSent));
}

#[actix_rt::test]
async fn an_answer_has_a_bound_with_and_without_a_length() {
    let body = format!(r#"{{"status":"{}"}}"#, "x".repeat(5000));
    let chunked =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let limits = ClientLimits { max_json_bytes: 5000, ..ClientLimits::default() };
    for bytes in [json(&body), chunked] {
        let (address, _) = serve_bytes(bytes.clone());
        let text = client_with(&connection(address), limits).alive().await.unwrap_err().to_string();
        assert!(text.contains("larger than 5000 bytes"), "{text}");
        let (address, _) = serve_bytes(bytes);
        assert!(client(address).alive().await.is_ok());
    }
}

#[actix_rt::test]
async fn deep_json_does_not_exhaust_the_stack() {
    let (address, _) = serve_bytes(json(&"[".repeat(1 << 20)));
    assert_eq!(client(address).alive().await.unwrap_err().kind.name(), "protocol");
}

#[actix_rt::test]
async fn a_redirect_is_not_followed_and_the_key_stays_here() {
    let (other, visits) = serve_bytes(json(ALIVE));
    let to = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{other}/alive\r\nContent-Length: 0\r\n\r\n");
    let (address, asked) = serve_bytes(to);
    let (kind, effect, text) = told(&client(address).alive().await.unwrap_err());
    assert_eq!((kind, effect), ("protocol", Effect::NotSent));
    assert!(text.contains("127.0.0.1") && text.contains("not followed"), "{text}");
    assert_eq!((asked.borrow().len(), visits.borrow().len()), (1, 0));
}

#[actix_rt::test]
async fn a_server_that_is_still_starting_is_an_answer() {
    let starting = r#"{"status":"initializing","message":"Server is still initializing"}"#;
    let (address, _) = serve_bytes(answer("503 Service Unavailable", "application/json", starting));
    assert_eq!(client(address).ready().await.unwrap().status, "initializing");
    let (address, _) = serve_bytes(answer("503 Service Unavailable", "text/html", "<h1>busy</h1>"));
    assert_eq!(client(address).ready().await.unwrap_err().kind.name(), "server_error");
}

#[actix_rt::test]
async fn an_error_counts_even_when_its_text_is_cut() {
    let cut = "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\nno";
    let failure = alive_on(cut).await;
    assert_eq!((failure.kind.name(), failure.effect), ("unauthorized", Effect::NotSent));
}
