//! Whom the client trusts.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use workspace_fleet::{
    Connection, Effect,
    client::{AgentClient, ClientLimits, SharedTls, Transport},
};

use crate::{authority::Authority, proxy::serve_proxy, server::*};

/// Starts a server with a certificate, which answers one request on each connection.
fn serve_tls(config: Arc<ServerConfig>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
            let mut space = [0; 4096];
            if stream.read(&mut space).is_ok_and(|length| length > 0) {
                stream.write_all(json(ALIVE).as_bytes()).ok();
                stream.flush().ok();
            }
        }
    });
    port
}

fn secure(host: &str, port: u16) -> Connection {
    Connection::new(&format!("https://{host}:{port}")).unwrap()
}

async fn refused(connection: &Connection) -> String {
    let client = client_with(connection, ClientLimits::default());
    let (kind, effect, text) = told(&client.start_bash_command(&start(), None).await.unwrap_err());
    assert_eq!((kind, effect), ("tls", Effect::NotSent), "{text}");
    text
}

#[actix_rt::test]
async fn a_server_of_a_given_authority_is_trusted_by_name_and_by_address() {
    let authority = Authority::new();
    let port = serve_tls(authority.server("localhost", false));
    let connection = secure("localhost", port).with_ca_file(authority.file());
    client_with(&connection, ClientLimits::default()).alive().await.unwrap();

    let port = serve_tls(authority.server("127.0.0.1", false));
    let connection = secure("127.0.0.1", port).with_ca_file(authority.file());
    client_with(&connection, ClientLimits::default()).alive().await.unwrap();
}

#[actix_rt::test]
async fn tls_goes_through_a_proxy_too() {
    let authority = Authority::new();
    let port = serve_tls(authority.server("localhost", false));
    let (proxy, tunnels) = serve_proxy();
    let connection = secure("localhost", port).with_ca_file(authority.file());
    let connection = connection.with_proxy(&format!("http://me:pw@{proxy}")).unwrap();
    client_with(&connection, ClientLimits::default()).alive().await.unwrap();
    assert_eq!(tunnels.borrow()[0].line(), format!("CONNECT localhost:{port} HTTP/1.1"));
}

#[actix_rt::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let port = serve_tls(authority.server("elsewhere.example", false));
    let text = refused(&secure("localhost", port).with_ca_file(authority.file())).await;
    assert!(text.contains("another name than localhost"), "{text}");
}

#[actix_rt::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let port = serve_tls(authority.server("localhost", true));
    let text = refused(&secure("localhost", port).with_ca_file(authority.file())).await;
    assert!(text.contains("expired"), "{text}");
}

#[actix_rt::test]
async fn a_certificate_of_an_unknown_authority_is_refused() {
    let port = serve_tls(Authority::new().server("localhost", false));
    let text = refused(&secure("localhost", port).with_ca_file(Authority::new().file())).await;
    assert!(text.contains("unknown authority") && text.contains("ca_file"), "{text}");
}

#[actix_rt::test]
async fn an_authority_that_is_its_own_server_is_told_how_to_be_one() {
    let authority = Authority::named(&["localhost"]);
    let port = serve_tls(authority.itself());
    let text = refused(&secure("localhost", port).with_ca_file(authority.file())).await;
    assert!(text.contains("CA:FALSE"), "{text}");
}

#[actix_rt::test]
async fn a_server_without_tls_is_told() {
    let (address, _) = serve(|_, mut peer| async move {
        peer.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        peer.hang().await;
    });
    let text = refused(&secure("127.0.0.1", address.port()).with_ca_file(Authority::new().file())).await;
    assert!(text.contains("does not speak TLS"), "{text}");
}

#[actix_rt::test]
async fn a_ca_file_that_is_missing_is_found_before_anything_is_sent() {
    let connection = secure("localhost", 1).with_ca_file("/nowhere/ca.pem");
    let transport = Transport::new(&SharedTls::new());
    let failure = AgentClient::new(&connection, &transport, ClientLimits::default()).unwrap_err();
    assert_eq!((failure.kind.name(), failure.effect), ("invalid_input", Effect::NotSent));
    assert!(failure.to_string().contains("/nowhere/ca.pem"), "{failure}");
}
