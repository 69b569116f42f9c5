use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Agent, KEY, PATIENCE, send};

async fn connect(agent: &Agent, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(agent.handle.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Everything that comes until the agent closes the connection.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("the connection stays open");
    String::from_utf8(bytes).unwrap()
}

/// The head of a request whose body does not come.
fn unfinished(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n{headers}\r\n")
}

#[actix_rt::test]
async fn clients_that_stall_without_a_key_keep_nobody_out() {
    let agent = Agent::with(|config| config.with_max_connections(8));
    let mut stalled = Vec::new();
    for path in ["/api/bash/start_bash_command", "/api/file/upload", "/api/init"].into_iter().cycle().take(32) {
        stalled.push(connect(&agent, &unfinished(path, "")).await);
    }
    stalled.push(connect(&agent, "GET /ali").await);
    let alive = timeout(Duration::from_secs(5), send(agent.get("/alive"))).await.expect("no answer");
    assert_eq!(alive.status, 200);
    assert_eq!(agent.execute("echo x").await["stdout"], "x\n");
}

#[actix_rt::test]
async fn one_connection_too_many_is_told_when_all_have_keys() {
    let agent = Agent::with(|config| config.with_max_connections(2));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream =
            connect(&agent, &format!("GET /api/file/home HTTP/1.1\r\nhost: x\r\nx-session-api-key: {KEY}\r\n\r\n"))
                .await;
        stream.read_u8().await.unwrap();
        stream
            .write_all(unfinished("/api/file/upload", &format!("x-session-api-key: {KEY}\r\n")).as_bytes())
            .await
            .unwrap();
        held.push(stream);
    }
    let refused = answer(&mut connect(&agent, "GET /alive HTTP/1.1\r\nhost: x\r\n\r\n").await).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1\r\n"), "{refused}");
    drop(held);
}

#[actix_rt::test]
async fn a_body_that_does_not_come_is_waited_for_only_so_long() {
    let agent = Agent::with(|config| config.with_idle_timeout(Duration::from_millis(200)));
    let form = "content-type: multipart/form-data; boundary=B\r\n";
    for path in
        ["/api/bash/execute_bash_command".to_owned(), format!("/api/file/upload?path={}", agent.path("x").display())]
    {
        let head = unfinished(&path, &format!("x-session-api-key: {KEY}\r\n{form}"));
        let told = answer(&mut connect(&agent, &head).await).await;
        assert!(told.starts_with("HTTP/1.1 408 "), "{path}: {told}");
    }
    // A byte now and then does not help one without a key.
    let mut stream = connect(&agent, &unfinished("/api/bash/execute_bash_command", "")).await;
    let (mut read, mut write) = stream.split();
    let trickle = async {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut first = [0; 12];
    tokio::select! {
        () = trickle => panic!("closed without an answer"),
        told = timeout(Duration::from_secs(10), read.read_exact(&mut first)) => { told.expect("no answer").unwrap(); }
    }
    assert_eq!(&first, b"HTTP/1.1 408");
}

#[actix_rt::test]
async fn an_init_is_refused_before_its_body_has_come() {
    let agent = Agent::start();
    let told = answer(&mut connect(&agent, &unfinished("/api/init", "")).await).await;
    assert!(told.starts_with("HTTP/1.1 401 ") && told.contains("connection: close"), "{told}");
}
