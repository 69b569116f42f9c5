//! Commands that another process may have started, and that are taken over by their process id.

use std::{fs, time::Duration};

use futures::StreamExt as _;
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use workspace_fleet::{
    CommandResult, Connection, ErrorKind, Fleet, Workspace, WorkspaceConfig,
    messages::{CommandEvent, ExecuteCommand, OnDrop},
    protocol::{CommandHead, EventId},
};

use crate::{
    sandboxes::{Sandboxes, eventually},
    support::{
        http::Head,
        proxy::{Fault, Proxy},
    },
};

const START: &str = "/bash/start_bash_command";

/// Another fleet on a server, as another process has it.
async fn elsewhere(url: &str) -> (Fleet, Workspace) {
    let fleet = Fleet::builder().worker_threads(1).start().unwrap();
    let config = WorkspaceConfig::new("w", Connection::new(url).unwrap());
    let workspace = fleet.add(config.with_max_outage(Duration::from_secs(20))).await.unwrap();
    (fleet, workspace)
}

/// Counts itself in `ran`, says something, waits for `go`, and says more.
fn command(id: EventId) -> ExecuteCommand {
    let text = "echo ran >>ran; echo out; echo err >&2; while [ ! -e go ]; do sleep 0.02; done; echo end; exit 7";
    ExecuteCommand::new(text).with_timeout(Duration::from_secs(60)).with_on_drop(OnDrop::Detach).with_process_id(id)
}

fn resumed(id: EventId) -> ExecuteCommand {
    command(id).with_resume(true)
}

fn check(result: &CommandResult) {
    assert_eq!((&*result.stdout, &*result.stderr, result.exit_code), ("out\nend\n", "err\n", 7));
    assert_eq!(result.command, command(EventId::nil()).command, "what was put before it does not show");
    assert!(!result.truncated && !result.stopped && !result.timeout_occurred, "{result:?}");
}

fn runs(sandboxes: &Sandboxes) -> usize {
    sandboxes.read("w0/ran").lines().count()
}

/// Sends the start of the command as a process does that ends before it has an answer.
async fn start_and_die(proxy: &Proxy, id: EventId) {
    let command = format!("{}{}", CommandHead::new(id), command(id).command);
    let body = serde_json::json!({ "command": command }).to_string();
    let mut stream = BufReader::new(TcpStream::connect(proxy.url().trim_start_matches("http://")).await.unwrap());
    let head = format!(
        "POST /api{START} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    assert!(!matches!(Head::read(&mut stream).await, Ok(Some(_))), "it is answered");
}

#[tokio::test]
async fn it_is_taken_over_any_number_of_times_with_all_its_output() {
    let sandboxes = Sandboxes::start(1).await;
    let url = sandboxes.agents[0].url();
    let id = EventId::random();
    let (first, workspace) = elsewhere(&url).await;
    let started = workspace.start_command(command(id)).await.unwrap();
    first.shutdown().await;
    for _ in 0..3 {
        let (fleet, workspace) = elsewhere(&url).await;
        let mut stream = workspace.follow_command(resumed(id));
        assert_eq!(stream.next().await, Some(CommandEvent::Started { command_id: started }));
        let Some(CommandEvent::Output { text, .. }) = stream.next().await else { panic!() };
        assert!(text == "out\n" || text == "err\n", "from the beginning: {text}");
        drop(stream);
        fleet.shutdown().await;
    }
    let (fleet, workspace) = elsewhere(&url).await;
    let stream = workspace.follow_command(resumed(id));
    // It does not keep the workspace from other steps while it runs.
    assert_eq!(workspace.execute_command("touch go").await.unwrap().exit_code, 0);
    check(&stream.result().await.unwrap());
    // Once it has ended it is there all the same, also for those who do not wait for it.
    check(&workspace.execute_command(resumed(id)).await.unwrap());
    assert_eq!(workspace.start_command(resumed(id)).await.unwrap(), started);
    assert_eq!(runs(&sandboxes), 1);
    fleet.shutdown().await;
    sandboxes.end().await;
}

#[tokio::test]
async fn a_start_of_a_process_that_died_may_arrive_at_any_moment() {
    let sandboxes = Sandboxes::start(1).await;
    fs::write(sandboxes.shared("w0/go"), "").unwrap();
    for late in 0..10 {
        // What is to be counted is each time another file.
        fs::write(sandboxes.shared("w0/ran"), "").unwrap();
        let proxy = Proxy::start(&sandboxes.agents[0].url()).await.unwrap();
        let id = EventId::random();
        proxy.spoil_next(START, Fault::DeliverAfter(late));
        start_and_die(&proxy, id).await;
        let (fleet, workspace) = elsewhere(&proxy.url()).await;
        for _ in 0..3 {
            check(&workspace.execute_command(resumed(id)).await.unwrap());
        }
        fleet.shutdown().await;
        assert_eq!(proxy.spoilt(), 1);
        proxy.release().await;
        let (fleet, workspace) = elsewhere(&sandboxes.agents[0].url()).await;
        // What arrived last has had the time to run.
        let (running, last) = (workspace.execute_command("sleep 0.2"), workspace.execute_command(resumed(id)));
        check(&last.await.unwrap());
        running.await.unwrap();
        fleet.shutdown().await;
        assert_eq!(runs(&sandboxes), 1, "delivered after {late} others");
    }
    sandboxes.end().await;
}

#[tokio::test]
async fn what_never_ran_is_started_once_however_often_that_fails_at_first() {
    let sandboxes = Sandboxes::start(1).await;
    let id = EventId::random();
    let proxy = Proxy::start(&sandboxes.agents[0].url()).await.unwrap();
    for _ in 0..3 {
        // The process ends when all is ready, and before it has started the command.
        let (fleet, workspace) = elsewhere(&proxy.url()).await;
        proxy.spoil_next(START, Fault::Refuse(400, 0));
        let error = workspace.execute_command(resumed(id)).await.unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Rejected { .. }), "{error}");
        fleet.shutdown().await;
    }
    let (fleet, workspace) = elsewhere(&proxy.url()).await;
    let running = workspace.start_command(resumed(id)).await.unwrap();
    fleet.shutdown().await;
    eventually("it does not run", || runs(&sandboxes) > 0).await;
    fs::write(sandboxes.shared("w0/go"), "").unwrap();
    let (fleet, workspace) = elsewhere(&proxy.url()).await;
    // Under whatever name it was started in the end: it is the same.
    assert_eq!(workspace.start_command(resumed(id)).await.unwrap(), running);
    check(&workspace.execute_command(resumed(id)).await.unwrap());
    assert_eq!(runs(&sandboxes), 1);
    fleet.shutdown().await;
    sandboxes.end().await;
}

#[tokio::test]
async fn without_a_head_nobody_can_tell() {
    let sandboxes = Sandboxes::start(1).await;
    let fleet = &sandboxes.fleet;
    let mut config = WorkspaceConfig::new("bare", Connection::new(&sandboxes.agents[0].url()).unwrap());
    config.command_head = false;
    let workspace = fleet.add(config).await.unwrap();
    let error = workspace.execute_command(resumed(EventId::random())).await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::OutcomeUnknown { .. }), "{error}");
    let error = workspace.execute_command(ExecuteCommand::new("true").with_resume(true)).await.unwrap_err();
    assert!(error.to_string().contains("process_id"), "{error}");
    assert_eq!(runs(&sandboxes), 0);
    sandboxes.end().await;
}

#[tokio::test]
async fn its_time_counts_from_its_first_start() {
    let sandboxes = Sandboxes::start(1).await;
    let url = sandboxes.agents[0].url();
    let id = EventId::random();
    let short = |id| command(id).with_timeout(Duration::from_millis(300));
    let (first, workspace) = elsewhere(&url).await;
    workspace.start_command(short(id)).await.unwrap();
    first.shutdown().await;
    // The server itself ends it a second later, and nobody watches.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let (fleet, workspace) = elsewhere(&url).await;
    let result = workspace.execute_command(short(id).with_resume(true)).await.unwrap();
    assert!(result.timeout_occurred && result.exit_code == -1, "{result:?}");
    assert_eq!((&*result.stdout, runs(&sandboxes)), ("out\n", 1));
    fleet.shutdown().await;
    sandboxes.end().await;
}
