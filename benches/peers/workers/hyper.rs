use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use workspace_fleet::fleet::raise_open_file_limit;

use crate::process::{Result, Sample, Stopwatch};

/// The same two requests for each command with hyper, a connection for each that runs at once, which has run one before.
pub(crate) fn run(port: u16, commands: usize, at_once: usize) -> Result<Sample> {
    raise_open_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let connections = try_join_all((0..at_once).map(|lane| connection(port, lane))).await?;
        let watch = Stopwatch::start();
        let lanes = connections.into_iter().enumerate().map(|(lane, mut sender)| async move {
            for _ in 0..commands / at_once {
                one(&mut sender, lane).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        });
        try_join_all(lanes).await?;
        Ok(watch.sample(commands / at_once * at_once))
    })
}

async fn connection(port: u16, lane: usize) -> Result<SendRequest<Full<Bytes>>> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    one(&mut sender, lane).await?;
    Ok(sender)
}

async fn one(sender: &mut SendRequest<Full<Bytes>>, lane: usize) -> Result<()> {
    let start = json!({ "command": "true", "cwd": null, "timeout": 31 }).to_string();
    let started = ask(sender, Method::POST, &format!("/w{lane}/api/bash/start_bash_command"), start.into()).await?;
    let id = started["id"].as_str().ok_or("no id")?;
    let search = format!("/w{lane}/api/bash/bash_events/search?kind__eq=BashOutput&command_id__eq={id}&limit=8");
    let page = ask(sender, Method::GET, &search, Bytes::new()).await?;
    if page["items"][0]["exit_code"] == 0 { Ok(()) } else { Err(format!("no end: {page}").into()) }
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, method: Method, path: &str, body: Bytes) -> Result<Value> {
    sender.ready().await?;
    let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
    let request = request.header("content-type", "application/json").body(Full::new(body))?;
    let answer = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&answer)?)
}
