//! Tunnels.

use std::net::SocketAddr;

use tokio::{io::copy_bidirectional, net::TcpStream};
use workspace_fleet::{Effect, client::ClientLimits};

use crate::server::*;

/// A proxy that tunnels for those who know its password.
pub fn serve_proxy() -> (SocketAddr, Seen) {
    serve(|_, mut peer| async move {
        let Some(request) = peer.request().await else { return };
        let target = request.line().split(' ').nth(1).unwrap().to_owned();
        if request.header("proxy-authorization") != Some("Basic bWU6cHc=") {
            return peer.write("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").await;
        }
        let Ok(mut onward) = TcpStream::connect(target).await else {
            return peer.write("HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
        };
        peer.write("HTTP/1.1 200 Connection established\r\n\r\n").await;
        let _ = copy_bidirectional(&mut peer.stream, &mut onward).await;
    })
}

#[actix_rt::test]
async fn a_request_goes_through_a_proxy_that_learns_no_key() {
    let (server, seen) = serve_bytes(json(ALIVE));
    let (proxy, tunnels) = serve_proxy();
    let connection = connection(server).with_proxy(&format!("http://me:pw@{proxy}")).unwrap();
    client_with(&connection, ClientLimits::default()).alive().await.unwrap();
    assert_eq!(tunnels.borrow()[0].line(), format!("CONNECT {server} HTTP/1.1"));
    assert!(!tunnels.borrow()[0].head.contains("hush"));
    assert_eq!(seen.borrow()[0].header("x-session-api-key"), Some("hush"));
    assert_eq!(seen.borrow()[0].header("proxy-authorization"), None);
}

#[actix_rt::test]
async fn a_proxy_that_gives_no_tunnel_is_named_and_nothing_was_sent() {
    let (server, seen) = serve_bytes(json(ALIVE));
    let (proxy, _) = serve_proxy();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (garbage, _) = serve_bytes("SSH-2.0\r\n\r\n");
    let (silent, _) = serve_bytes("");
    for (target, proxy, word) in [
        (server, format!("http://me:hush@{proxy}"), "407"),
        (closed, format!("http://me:pw@{proxy}"), "502"),
        (server, format!("http://{closed}"), "refused"),
        (server, format!("http://{garbage}"), "not HTTP"),
        (server, format!("http://{silent}"), "broke"),
    ] {
        let connection = connection(target).with_proxy(&proxy).unwrap();
        let client = client_with(&connection, ClientLimits::default());
        let (kind, effect, text) = told(&client.start_bash_command(&start(), None).await.unwrap_err());
        assert_eq!((kind, effect), ("unreachable", Effect::NotSent), "{text}");
        assert!(text.contains("proxy") && text.contains(word) && !text.contains("hush"), "{text}");
    }
    assert!(seen.borrow().is_empty());
}

#[actix_rt::test]
async fn a_proxy_that_hangs_is_given_up() {
    let (proxy, _) = serve(|_, mut peer| async move { peer.hang().await });
    let (server, seen) = serve_bytes(json(ALIVE));
    let connection = connection(server).with_proxy(&format!("http://{proxy}")).unwrap();
    let connect_timeout = std::time::Duration::from_millis(300);
    // Connecting has its own bound, even where an answer is given less time.
    for limits in
        [ClientLimits { connect_timeout, ..ClientLimits::default() }, ClientLimits { connect_timeout, ..short() }]
    {
        let failure = client_with(&connection, limits).start_bash_command(&start(), None).await.unwrap_err();
        assert_eq!((failure.kind.name(), failure.effect), ("unreachable", Effect::NotSent), "{failure}");
        assert!(failure.to_string().contains("through the proxy within 300ms"), "{failure}");
    }
    assert!(seen.borrow().is_empty());
}
