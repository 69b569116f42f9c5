//! TLS as a workspace and the command line meet it: right, for another name, expired, of an unknown authority, not TLS at
//! all, and TLS where none is spoken.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use workspace_fleet::{
    Connection, Effect, ErrorKind, WorkspaceError,
    agent::{AgentConfig, AgentServer},
};

use crate::{place::Place, server::workspace, support::tls::Authority};

/// Puts TLS before a server. Returns the port.
fn before(server: SocketAddr, config: Arc<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // One that hangs up ends its thread.
            std::thread::spawn(move || drop(pass_on(tcp, config, server)));
        }
    });
    port
}

/// Passes requests on one after another, each with its answer.
fn pass_on(tcp: TcpStream, config: Arc<ServerConfig>, server: SocketAddr) -> io::Result<()> {
    let mut near = BufReader::new(StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, tcp));
    let mut far = BufReader::new(TcpStream::connect(server)?);
    loop {
        let request = message(&mut near)?;
        far.get_mut().write_all(&request)?;
        let answer = message(&mut far)?;
        near.get_mut().write_all(&answer)?;
        near.get_mut().flush()?;
    }
}

/// A whole message with a Content-Length, or without a body.
fn message(from: &mut BufReader<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if from.read_until(b'\n', &mut bytes)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    from.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn secure(port: u16, authority: &Authority) -> Connection {
    Connection::new(&format!("https://localhost:{port}")).unwrap().with_ca_file(authority.file())
}

/// How a command fails there, and what `wsfleet ping` says.
async fn refused(connection: Connection, kind: &str, says: &[&str]) -> WorkspaceError {
    let url = connection.host().to_string();
    let ca_file = match format!("{connection:?}") {
        shown if shown.contains("ca.pem") => shown.split('"').find(|part| part.ends_with("ca.pem")).map(str::to_owned),
        _ => None,
    };
    let (fleet, workspace) = workspace(connection, |config| config).await;
    let began = std::time::Instant::now();
    let error = workspace.execute_command("true").await.unwrap_err();
    assert_eq!(error.kind.name(), kind, "{error}");
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    fleet.shutdown().await;
    let place = Place::new();
    let mut command = place.command(&["ping", "-w", &url]);
    command.args(ca_file.iter().flat_map(|file| ["--ca-file", file]));
    let ended = tokio::task::spawn_blocking(move || crate::place::Ended::of(command)).await.unwrap().expect(4);
    let output = ended.stdout + &ended.stderr;
    for part in says {
        assert!(error.to_string().contains(part), "`{part}` is not in {error}");
        assert!(output.contains(part), "`{part}` is not in what ping says:\n{output}");
    }
    error
}

#[tokio::test]
async fn the_right_certificate_is_trusted_for_everything() {
    let agent = AgentServer::spawn(AgentConfig::default()).unwrap();
    let authority = Authority::new();
    let port = before(agent.addr(), authority.server("localhost", false));
    let (fleet, workspace) = workspace(secure(port, &authority), |config| config).await;
    let result = workspace.execute_command("echo over TLS").await.unwrap();
    assert_eq!((result.stdout.as_str(), result.exit_code), ("over TLS\n", 0));
    let folder = tempfile::tempdir().unwrap();
    let (remote, local) = (folder.path().join("remote"), folder.path().join("local"));
    let content: Vec<u8> = (0..(3u32 << 20)).map(|at| (at % 251) as u8).collect();
    workspace.file_upload(content.clone(), remote.to_str().unwrap()).await.unwrap();
    workspace.file_download(remote.to_str().unwrap(), &local).await.unwrap();
    assert!(std::fs::read(&local).unwrap() == content);
    fleet.shutdown().await;
    let place = Place::new();
    let url = format!("https://localhost:{port}");
    let command = place.command(&["ping", "-w", &url, "--ca-file", authority.file().to_str().unwrap()]);
    tokio::task::spawn_blocking(move || crate::place::Ended::of(command)).await.unwrap().expect(0);
}

#[tokio::test]
async fn each_wrong_certificate_has_its_own_words() {
    let agent = AgentServer::spawn(AgentConfig::default()).unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let cases = [
        (before(agent.addr(), authority.server("elsewhere.example", false)), &authority, "another name than localhost"),
        (before(agent.addr(), authority.server("localhost", true)), &authority, "has expired"),
        (before(agent.addr(), other.server("localhost", false)), &authority, "unknown authority"),
    ];
    for (port, trusted, says) in cases {
        let error = refused(secure(port, trusted), "tls", &[says]).await;
        assert_eq!(error.effect, Effect::NotSent, "{error}");
    }
    let unknown =
        refused(secure(before(agent.addr(), other.server("localhost", false)), &authority), "tls", &["--ca-file"])
            .await;
    assert!(unknown.to_string().contains("ca_file"));
}

#[tokio::test]
async fn tls_where_none_is_spoken_and_none_where_it_is() {
    let agent = AgentServer::spawn(AgentConfig::default()).unwrap();
    let authority = Authority::new();
    let plain = Connection::new(&agent.url().replace("http://", "https://").replace("127.0.0.1", "localhost")).unwrap();
    let (fleet, workspace) = workspace(plain.with_ca_file(authority.file()), |config| config).await;
    let error = workspace.execute_command("true").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Tls { .. } | ErrorKind::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("write http://") && error.effect == Effect::NotSent, "{error}");
    fleet.shutdown().await;

    let port = before(agent.addr(), authority.server("localhost", false));
    let connection = Connection::new(&format!("http://localhost:{port}")).unwrap();
    let error = refused(connection, "tls", &["write https://"]).await;
    assert_eq!(error.effect, Effect::NotSent, "{error}");

    // Others hang up without a word when they are spoken to without TLS.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let _ = tcp.read(&mut [0; 4096]);
        }
    });
    refused(Connection::new(&format!("http://{silent}")).unwrap(), "unreachable", &["write https://"]).await;
}
