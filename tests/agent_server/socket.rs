use std::time::{Duration, Instant};

use actix_codec::Framed;
use actix_http::ws::{Codec, Frame, Item, Message};
use awc::BoxedSocket;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};

use crate::support::{Agent, KEY, PATIENCE, joined, until};

type Socket = Framed<BoxedSocket, Codec>;

async fn connect(agent: &Agent, query: &str) -> Socket {
    let request = agent.client.ws(agent.url(&format!("/sockets/bash-events{query}"))).max_frame_size(16 << 20);
    request.connect().await.unwrap().1
}

async fn connect_authenticated(agent: &Agent, query: &str) -> Socket {
    let mut socket = connect(agent, query).await;
    send(&mut socket, &json!({ "type": "auth", "session_api_key": KEY }).to_string()).await;
    socket
}

async fn send(socket: &mut Socket, text: &str) {
    socket.send(Message::Text(text.to_owned().into())).await.unwrap();
}

/// The next event, or the code of the close.
async fn next(socket: &mut Socket) -> Result<Value, u16> {
    let mut message = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
            Some(Ok(Frame::Text(text))) => return Ok(serde_json::from_slice(&text).unwrap()),
            Some(Ok(Frame::Continuation(Item::FirstText(piece) | Item::Continue(piece)))) => message.extend(piece),
            Some(Ok(Frame::Continuation(Item::Last(piece)))) => {
                message.extend(piece);
                return Ok(serde_json::from_slice(&message).unwrap());
            }
            Some(Ok(Frame::Close(reason))) => return Err(reason.map_or(0, |reason| reason.code.into())),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Events up to the last one of some command.
async fn until_final(socket: &mut Socket) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        let event = next(socket).await.unwrap();
        let last = event["exit_code"].is_i64();
        events.push(event);
        if last {
            return events;
        }
    }
}

#[actix_rt::test]
async fn the_first_frame_must_carry_a_key() {
    let agent = Agent::start();
    for frame in
        [r#"{"type":"auth","session_api_key":"wrong"}"#, r#"{"type":"auth"}"#, "nope", "[]", r#"{"command":"x"}"#]
    {
        let mut socket = connect(&agent, "").await;
        send(&mut socket, frame).await;
        assert_eq!(next(&mut socket).await, Err(4001), "{frame}");
    }
    let refused =
        agent.client.ws(agent.url("/sockets/bash-events")).set_header("X-Session-API-Key", "wrong").connect().await;
    let error = refused.map(|_| ()).unwrap_err();
    assert!(matches!(error, awc::error::WsClientError::InvalidResponseStatus(status) if status == 403), "{error}");
    let mut socket = connect(&agent, &format!("?session_api_key={KEY}")).await;
    send(&mut socket, r#"{"command":"true"}"#).await;
    assert_eq!(until_final(&mut socket).await.len(), 2);
}

#[actix_rt::test]
async fn a_frame_starts_a_command_and_a_wrong_one_is_told() {
    let agent = Agent::start();
    let mut socket = connect_authenticated(&agent, "").await;
    send(&mut socket, r#"{"timeout":"x"}"#).await;
    let error = next(&mut socket).await.unwrap();
    assert_eq!((&error["kind"], &error["code"]), (&json!("BashError"), &json!("ValidationError")));
    assert!(error["detail"].as_str().unwrap().starts_with("2 validation errors for ExecuteBashRequest\ncommand\n"));
    send(&mut socket, &json!({ "command": format!("true {}; echo x", "y".repeat(100_000)) }).to_string()).await;
    let events = until_final(&mut socket).await;
    assert_eq!((&events[0]["kind"], &events[1]["stdout"]), (&json!("BashCommand"), &json!("x\n")));
}

#[actix_rt::test]
async fn the_log_is_sent_from_the_beginning_when_asked_for_and_goes_on_live() {
    let agent = Agent::start();
    agent.execute("echo early").await;
    let mut socket = connect_authenticated(&agent, "?resend_mode=all").await;
    assert_eq!(until_final(&mut socket).await[1]["stdout"], "early\n");
    let flood = "head -c 9000000 /dev/zero | tr '\\0' x";
    let id = agent.start_command(flood, 300).await;
    let events = until_final(&mut socket).await;
    assert_eq!(joined(&events, "stdout").len(), 9_000_000);
    assert_eq!(events[1..], agent.outputs(&id).await);
    let mut late = connect_authenticated(&agent, "").await;
    send(&mut late, r#"{"command":"echo late"}"#).await;
    assert_eq!(next(&mut late).await.unwrap()["command"], "echo late");
}

#[actix_rt::test]
async fn a_subscriber_that_does_not_read_harms_nobody_and_is_dropped() {
    let agent = Agent::with(|config| config.with_subscriber_stall(Duration::from_millis(300)).with_max_subscribers(1));
    let mut stalled = connect_authenticated(&agent, "").await;
    // A first event shows that it is subscribed.
    send(&mut stalled, r#"{"command":"true"}"#).await;
    until_final(&mut stalled).await;
    let start = Instant::now();
    // More than the sockets' buffers hold.
    let id = agent.start_command("head -c 20000000 /dev/zero | tr '\\0' x", 300).await;
    let events = agent.finished(&id).await;
    assert_eq!(joined(&events, "stdout").len(), 20_000_000);
    assert!(start.elapsed() < PATIENCE);
    // Its place becomes free only when it is dropped.
    let event = until(async || {
        let mut second = connect_authenticated(&agent, "").await;
        send(&mut second, r#"{"command":"true"}"#).await;
        next(&mut second).await.ok()
    })
    .await;
    assert_eq!(event["kind"], "BashCommand");
    drop(stalled);
}

#[actix_rt::test]
async fn one_subscriber_too_many_is_told_to_come_back() {
    let agent = Agent::with(|config| config.with_max_subscribers(1));
    let mut first = connect_authenticated(&agent, "").await;
    send(&mut first, r#"{"command":"true"}"#).await;
    until_final(&mut first).await;
    let mut second = connect_authenticated(&agent, "").await;
    assert_eq!(next(&mut second).await, Err(1013));
    send(&mut first, r#"{"command":"true"}"#).await;
    assert_eq!(until_final(&mut first).await.len(), 2);
}

#[actix_rt::test]
async fn sockets_are_closed_when_the_agent_stops() {
    let agent = Agent::start();
    let mut socket = connect_authenticated(&agent, "").await;
    send(&mut socket, r#"{"command":"true"}"#).await;
    until_final(&mut socket).await;
    let stop = agent.handle.stop();
    let (closed, ()) = futures::join!(next(&mut socket), stop);
    assert_eq!(closed, Err(1012));
}

/// What this process has in memory, in MiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    (status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096) >> 20
}

#[actix_rt::test]
async fn subscribers_that_do_not_read_cost_next_to_nothing() {
    let agent = Agent::start();
    // Every byte is six in JSON. Spilled, as most of it is.
    let id = agent.start_command("head -c 25000000 /dev/zero | tr '\\0' '\\001'", 300).await;
    until(async || {
        let query = format!("command_id__eq={id}&sort_order=TIMESTAMP_DESC&limit=1");
        let last = agent.get_json(&format!("/api/bash/bash_events/search?{query}")).await;
        last["items"][0]["exit_code"].is_i64().then_some(())
    })
    .await;
    let before = memory();
    let mut stalled = Vec::new();
    for _ in 0..40 {
        stalled.push(connect_authenticated(&agent, "?resend_mode=all").await);
    }
    let mut most = 0;
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(memory());
    }
    // Whole messages, of which some wait for each subscriber, would take ten times as much.
    assert!(most < before + 150, "{before} MiB became {most}");
    println!("{before} MiB became {most}");
    // What they then read is whole.
    assert_eq!(next(&mut stalled[0]).await.unwrap()["kind"], "BashCommand");
    let output = next(&mut stalled[0]).await.unwrap();
    let text = output["stdout"].as_str().unwrap();
    assert!(text.len() > 100_000 && text.bytes().all(|byte| byte == 1), "{}", text.len());
}
