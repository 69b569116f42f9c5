//! What becomes of connections, and what a lost one means.

use std::{cell::Cell, rc::Rc, time::Duration};

use workspace_fleet::{Connection, Effect, Failure, Fleet, WorkspaceConfig, client::ClientLimits, protocol::EventId};

use crate::server::*;

/// More steps at once than a workspace has connections for one.
const AT_ONCE: usize = 8;

/// Answers the first request of the first connection, and ends that connection when the second one comes.
fn serve_stale(reset: bool) -> (std::net::SocketAddr, Seen) {
    serve(move |number, mut peer| async move {
        while let Some(request) = peer.request().await {
            if number == 0 && request.line().contains("second") || request.line().contains("start") {
                if reset {
                    peer.stream.set_zero_linger().unwrap();
                }
                return;
            }
            peer.write(json(r#"{"items":[],"next_page_id":null}"#)).await;
        }
    })
}

fn page(id: &str) -> workspace_fleet::client::EventQuery {
    workspace_fleet::client::EventQuery { page_id: Some(id.to_owned()), ..Default::default() }
}

#[actix_rt::test]
async fn a_connection_is_kept_for_the_next_request() {
    let connections = Rc::new(Cell::new(0));
    let counted = Rc::clone(&connections);
    let (address, seen) = serve(move |number, mut peer| {
        counted.set(number + 1);
        async move {
            while peer.request().await.is_some() {
                peer.write(json(ALIVE)).await;
            }
        }
    });
    let client = client(address);
    for _ in 0..3 {
        client.clone().alive().await.unwrap();
    }
    assert_eq!((connections.get(), seen.borrow().len()), (1, 3));
    client.rest();
    client.alive().await.unwrap();
    assert_eq!((connections.get(), seen.borrow().len()), (2, 4));
}

#[actix_rt::test]
async fn a_read_over_a_connection_that_the_server_closed_is_sent_once_more() {
    for reset in [false, true] {
        let (address, seen) = serve_stale(reset);
        let client = client(address);
        client.search_bash_events(&page("first")).await.unwrap();
        client.search_bash_events(&page("second")).await.unwrap();
        assert_eq!(seen.borrow().len(), 3);
    }
}

#[actix_rt::test]
async fn a_read_is_sent_twice_at_most() {
    let (address, seen) = serve_bytes("");
    let failure = client(address).alive().await.unwrap_err();
    assert_eq!((failure.kind.name(), failure.effect), ("unreachable", Effect::MaybeSent));
    assert_eq!(seen.borrow().len(), 2);
}

#[actix_rt::test]
async fn a_start_is_never_sent_twice() {
    for reset in [false, true] {
        let (address, seen) = serve_stale(reset);
        let client = client(address);
        client.search_bash_events(&page("first")).await.unwrap();
        let failure = client.start_bash_command(&start(), None).await.unwrap_err();
        assert_eq!((failure.kind.name(), failure.effect), ("unreachable", Effect::MaybeSent));
        assert_eq!(seen.borrow().len(), 2);
    }
}

#[actix_rt::test]
async fn a_connection_on_which_the_server_failed_is_not_used_again() {
    let (address, seen) = serve(|number, mut peer| async move {
        peer.request().await;
        if number > 0 {
            return peer.write(json(STARTED)).await;
        }
        peer.write(answer("500 Internal Server Error", "application/json", r#"{"detail":"no","exception":""}"#)).await;
        // Whoever comes back here is cut off.
        peer.request().await;
    });
    let client = client(address);
    assert_eq!(client.alive().await.unwrap_err().to_string(), "server error (500): no");
    client.start_bash_command(&start(), None).await.unwrap();
    assert_eq!(seen.borrow().len(), 2);
}

#[actix_rt::test]
async fn where_nobody_listens_nothing_was_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for host in [format!("http://{address}"), format!("http://localhost:{}", address.port())] {
        let connection = Connection::new(&host).unwrap();
        let client = client_with(&connection, ClientLimits::default());
        let (kind, effect, text) = told(&client.start_bash_command(&start(), None).await.unwrap_err());
        assert_eq!((kind, effect), ("unreachable", Effect::NotSent));
        assert!(text.contains(&address.port().to_string()) && text.contains("refused"), "{text}");
    }
}

#[actix_rt::test]
async fn a_name_that_does_not_resolve_is_named() {
    // Too long for a name, so that nobody is asked.
    let connection = Connection::new(&format!("http://does-not-exist{}.invalid:1", "x".repeat(64))).unwrap();
    let client = client_with(&connection, ClientLimits::default());
    let failure = client.start_bash_command(&start(), None).await.unwrap_err();
    assert_eq!((failure.kind.name(), failure.effect), ("unreachable", Effect::NotSent));
    assert!(failure.to_string().contains("does-not-exist"), "{failure}");
}

#[actix_rt::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let (address, _) = serve(|_, mut peer| async move { peer.hang().await });
    let client = client_with(&connection(address), short());
    let (kind, effect, text) = told(&client.start_bash_command(&start(), None).await.unwrap_err());
    assert_eq!((kind, effect), ("deadline", Effect::MaybeSent));
    assert!(text.contains("POST /api/bash/start_bash_command") && text.contains("150ms"), "{text}");
    assert_eq!(client.alive().await.unwrap_err().kind.name(), "deadline");
}

#[actix_rt::test]
async fn an_answer_that_trickles_is_given_up() {
    let (address, _) = serve(|_, mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
        loop {
            peer.write(" ").await;
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let failure = client_with(&connection(address), short()).alive().await.unwrap_err();
    assert_eq!(failure.kind.name(), "deadline", "{failure}");
}

#[actix_rt::test]
async fn a_request_that_waits_for_a_place_was_not_sent() {
    let (address, _) = serve(|_, mut peer| async move { peer.hang().await });
    let limits = ClientLimits { connections: 1, ..ClientLimits::default() };
    let client = client_with(&connection(address), limits);
    let run = |millis| {
        let client = client.clone();
        async move { client.execute_bash_command(&start(), Duration::from_millis(millis)).await.unwrap_err() }
    };
    let (first, second): (Failure, Failure) = futures::join!(run(600), run(100));
    assert_eq!((first.kind.name(), first.effect), ("deadline", Effect::MaybeSent));
    assert_eq!((second.kind.name(), second.effect), ("deadline", Effect::NotSent));
}

#[actix_rt::test]
async fn steps_at_once_do_not_wait_for_each_others_requests() {
    // As many as come at once are answered when all of them are there.
    let there = Rc::new(tokio::sync::Barrier::new(AT_ONCE));
    let (address, _) = serve(move |_, mut peer| {
        let there = Rc::clone(&there);
        async move {
            while peer.request().await.is_some() {
                there.wait().await;
                peer.write(json(STARTED)).await;
            }
        }
    });
    let fleet = Fleet::start().unwrap();
    let config = WorkspaceConfig::new("w", connection(address)).with_max_concurrent_steps(AT_ONCE);
    let workspace = fleet.add(config).await.unwrap();
    let starts = (0..AT_ONCE).map(|_| workspace.start_command("true"));
    let started = tokio::time::timeout(Duration::from_secs(20), futures::future::try_join_all(starts)).await;
    assert_eq!(started.expect("some waited for others").unwrap().len(), AT_ONCE);
}

#[actix_rt::test]
async fn bounds_without_bounds_work() {
    let (address, _) = serve_bytes(json(STARTED));
    let all = Duration::MAX;
    let limits =
        ClientLimits { connect_timeout: all, answer_timeout: all, idle_timeout: all, ..ClientLimits::default() };
    let client = client_with(&connection(address), ClientLimits { connections: usize::MAX, ..limits });
    client.start_bash_command(&start(), None).await.unwrap();
    assert_eq!(client.execute_bash_command(&start(), all).await.unwrap_err().kind.name(), "protocol");
}

#[actix_rt::test]
async fn a_poll_does_not_wait_for_transfers() {
    let (address, seen) = serve(|_, mut peer| async move {
        while let Some(request) = peer.request().await {
            match request.line().contains("alive") {
                true => peer.write(json(ALIVE)).await,
                false => peer.hang().await,
            }
        }
    });
    let limits = ClientLimits { connections: 1, ..ClientLimits::default() };
    let client = client_with(&connection(address), limits);
    let stuck = client.clone();
    actix_rt::spawn(async move { stuck.execute_bash_command(&start(), Duration::from_secs(60)).await });
    while seen.borrow().is_empty() {
        tokio::task::yield_now().await;
    }
    client.alive().await.unwrap();
}

#[actix_rt::test]
async fn a_gateways_path_and_headers_are_in_every_request() {
    let (address, seen) = serve_bytes(json(STARTED));
    let connection = Connection::new(&format!("http://{address}/s/abc/")).unwrap();
    let connection = connection.with_api_key("hush").with_header("X-Gate", "blue").unwrap();
    let connection = connection.with_api_prefix("/api/conversations/c1").unwrap();
    let client = client_with(&connection, ClientLimits::default());
    let key = EventId::random();
    client.start_bash_command(&start(), Some(key)).await.unwrap();
    let _ = client.alive().await;
    let seen = seen.borrow();
    assert_eq!(seen[0].line(), "POST /s/abc/api/conversations/c1/bash/start_bash_command HTTP/1.1");
    assert_eq!(seen[1].line(), "GET /s/abc/alive HTTP/1.1");
    for request in seen.iter() {
        assert_eq!(request.header("x-gate"), Some("blue"));
        assert_eq!(request.header("x-session-api-key"), Some("hush"));
        assert_eq!(request.header("host"), Some(address.to_string().as_str()));
    }
    assert_eq!(seen[0].header("idempotency-key"), Some(key.to_string().as_str()));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[0].body, br#"{"command":"true","cwd":null,"timeout":5}"#);
}

#[actix_rt::test]
async fn an_ipv6_address_works() {
    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else { return };
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let mut space = [0; 4096];
        assert!(stream.read(&mut space).unwrap() > 0);
        stream.write_all(json(ALIVE).as_bytes()).unwrap();
    });
    let connection = Connection::new(&format!("http://[::1]:{port}")).unwrap();
    client_with(&connection, ClientLimits::default()).alive().await.unwrap();
}
