//! What the service does when its disk is full, lost, or somebody else's.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use redb::{ReadableDatabase as _, ReadableTable as _};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    agent::Agent,
    client::{follow, text_at, until_state},
    http::{get, post},
    records::{put, records, table},
    scene::Served,
};

/// How long something may take that takes a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets the files of a service grow to this size.
fn limit_files(service: &Served, size: Option<u64>) {
    let pid = Pid::from_raw(service.id().try_into().unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: size, maximum: None }).unwrap();
}

async fn add_workspace(service: &Served, agent: &Agent, more: &Value) {
    let host = format!("http://127.0.0.1:{}", agent.port);
    let mut workspace = json!({ "name": "w", "host": host });
    workspace.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    service.post("/v1/workspaces", &workspace).await;
}

/// What is written down as not having ended.
fn unfinished(service: &Served) -> Vec<String> {
    let records = records(service);
    let read = records.begin_read().unwrap();
    let unfinished = read.open_table(table("unfinished")).unwrap();
    unfinished.iter().unwrap().map(|row| row.unwrap().0.value().to_owned()).collect()
}

async fn until_ready(service: &Served, status: u16) {
    let until = Instant::now() + PATIENCE;
    while get(service, "/ready").await.status != status {
        assert!(Instant::now() < until, "/ready does not answer {status}");
        actix_rt::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_rt::test]
async fn a_service_whose_disk_was_full_goes_on_when_there_is_space_again() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let mut service = Served::start(&["--max-commands", "2"]);
    add_workspace(&service, &agent, &json!({})).await;
    let gate = root.path().join("gate");
    let waits = format!("while ! [ -e {0} ]; do sleep 0.05; done; echo over; touch {0}.over", gate.display());
    let waits = json!({ "command": waits });
    let started = service.post("/v1/workspaces/w/commands", &waits).await;
    let path = format!("/v1/commands/{}", started["id"].as_str().unwrap());
    // Not even a page that is there already can be written.
    limit_files(&service, Some(4096));
    let refused = post(&service, "/v1/workspaces/w/execute", &json!({ "command": "echo full" })).await;
    refused.is_problem(503, "unavailable");
    get(&service, "/ready").await.is_problem(503, "unavailable");
    assert_eq!(get(&service, "/health").await.status, 200);
    assert_eq!(service.get(&path).await["state"], "running", "what goes on is told of");
    // It ends while nothing of that can be written down.
    fs::write(&gate, "").unwrap();
    while !gate.with_extension("over").exists() {
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
    limit_files(&service, None);
    until_ready(&service, 200).await;
    let ended = until_state(&service.url(&path), "finished").await;
    assert_eq!(ended["outcome"], "succeeded", "{ended}");
    // Neither has a place any more that it does not need.
    for _ in 0..2 {
        let done = service.post("/v1/workspaces/w/execute", &json!({ "command": "echo after" })).await;
        assert_eq!(done["stdout"], "after\n");
    }
    assert_eq!(service.get("/v1/commands").await["commands"].as_array().unwrap().len(), 3, "the refused one is none");
    assert_eq!(service.terminate(), Some(0));
}

#[actix_rt::test]
async fn of_two_services_that_are_started_at_once_on_a_new_directory_one_serves() {
    for _ in 0..4 {
        let state = TempDir::new().unwrap();
        let begin = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_wsfleet"));
            command.args(["serve", "--port", "0", "--state-dir"]).arg(state.path());
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut both = [begin(), begin()];
        let until = Instant::now() + PATIENCE;
        // The one that does not get the directory ends.
        let loser = loop {
            if let Some(index) = both.iter_mut().position(|process| process.try_wait().unwrap().is_some()) {
                break index;
            }
            assert!(Instant::now() < until, "both go on");
            actix_rt::time::sleep(Duration::from_millis(10)).await;
        };
        let [first, second] = both;
        let (lost, mut served) = if loser == 0 { (first, second) } else { (second, first) };
        let lost = lost.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&lost.stderr).into_owned();
        assert!(told.contains("is used by another service"), "{told}");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(served.stdout.take().unwrap()), &mut line).unwrap();
        assert!(line.contains("serves on"), "{line}");
        served.kill().unwrap();
        served.wait().unwrap();
    }
}

/// Waits until a command is gone, with its log.
async fn until_gone(service: &Served, id: &str) {
    let log = service.state().join("logs").join(format!("{id}.log"));
    let until = Instant::now() + PATIENCE;
    while get(service, &format!("/v1/commands/{id}")).await.status != 404 || log.exists() {
        assert!(Instant::now() < until, "{id} is not removed");
        actix_rt::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_rt::test]
async fn records_count_for_what_is_kept_also_those_of_an_earlier_process() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let mut service = Served::start(&[]);
    add_workspace(&service, &agent, &json!({})).await;
    let mut ids = Vec::new();
    run_large(&service, 6, &mut ids).await;
    assert_eq!(service.terminate(), Some(0));
    service.pass("--retention-bytes", "350K");
    service.start_again();
    until_gone(&service, &ids[2]).await;
    assert_eq!(kept(&service, &ids).await, ids[3..], "the oldest of them go, and no more than must");
    run_large(&service, 2, &mut ids).await;
    until_gone(&service, &ids[4]).await;
    assert_eq!(kept(&service, &ids).await, ids[5..]);
}

/// Runs commands whose records have 100,000 bytes.
async fn run_large(service: &Served, count: usize, ids: &mut Vec<String>) {
    for _ in 0..count {
        let body = json!({ "command": "true", "env": { "A": "x".repeat(100_000) } });
        let done = service.post("/v1/workspaces/w/execute", &body).await;
        ids.push(done["id"].as_str().unwrap().to_owned());
    }
}

/// Those of these commands that are known.
async fn kept(service: &Served, ids: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    for id in ids {
        if get(service, &format!("/v1/commands/{id}")).await.status == 200 {
            kept.push(id.clone());
        }
    }
    kept
}

#[actix_rt::test]
async fn what_a_command_writes_beyond_the_bound_of_its_log_is_left_out_and_said_to_be() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let mut service = Served::start(&["--max-log", "64K"]);
    add_workspace(&service, &agent, &json!({})).await;
    let gate = root.path().join("gate");
    let command =
        format!("seq 100000; while ! [ -e {} ]; do sleep 0.05; done; seq 100000; echo end >&2", gate.display());
    let started = service.post("/v1/workspaces/w/commands", &json!({ "command": command })).await;
    let path = format!("/v1/commands/{}", started["id"].as_str().unwrap());
    let log = service.state().join("logs").join(format!("{}.log", started["id"].as_str().unwrap()));
    while fs::metadata(&log).unwrap().len() < 65_536 {
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
    // Also the next service writes no more.
    service.kill();
    service.start_again();
    fs::write(&gate, "").unwrap();
    let ended = until_state(&service.url(&path), "finished").await;
    assert_eq!(ended["outcome"], "succeeded", "{ended}");
    assert_eq!(ended["result"]["truncated"], true, "{ended}");
    assert!(fs::metadata(&log).unwrap().len() < 4 << 20, "a piece goes beyond it at most");
    let whole: String = (1..=100_000).map(|line| format!("{line}\n")).collect();
    let output = text_at(&service.url(&format!("{path}/output?format=text"))).await;
    assert!(output.len() >= 60_000 && format!("{whole}{whole}").starts_with(&output), "it is the beginning");
    let mut page = service.get(&format!("{path}/output?limit=16777216")).await;
    assert_eq!(page["truncated"], true);
    page["output"] = Value::Null;
    assert_eq!(page["complete"], true, "{page}");
    let events = follow(&service.url(&format!("{path}/events"))).await;
    assert!(events.iter().any(|event| event.name == "truncated"), "it is told to those who follow");
    let short = service.post("/v1/workspaces/w/execute", &json!({ "command": "seq 10" })).await;
    assert_eq!((&short["truncated"], &short["result"]["truncated"]), (&json!(false), &json!(false)));
}

#[actix_rt::test]
async fn a_store_without_its_key_is_left_as_it_is_and_a_workspace_that_cannot_be_read_is_left_aside() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let mut service = Served::start(&[]);
    add_workspace(&service, &agent, &json!({ "api_key": "a-secret-of-w" })).await;
    let host = format!("http://127.0.0.1:{}", agent.port);
    service.post("/v1/workspaces", &json!({ "name": "plain", "host": host })).await;
    assert_eq!(service.terminate(), Some(0));
    let key = service.state().join("key");
    fs::remove_file(&key).unwrap();
    let told = service.fails_to_start();
    assert!(told.contains("key is missing") && told.contains("put it back"), "{told}");
    assert!(!key.exists(), "no other key is made");
    fs::write(&key, [7; 32]).unwrap();
    service.start_again();
    let ready = get(&service, "/ready").await;
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("1 of the stored workspaces"), "{}", ready.text());
    let done = service.post("/v1/workspaces/plain/execute", &json!({ "command": "echo here" })).await;
    assert_eq!(done["stdout"], "here\n");
    let aside = get(&service, "/v1/workspaces/w").await;
    aside.is_problem(409, "conflict");
    assert!(aside.text().contains("left aside") && !aside.text().contains("a-secret"), "{}", aside.text());
    post(&service, "/v1/workspaces/w/execute", &json!({ "command": "true" })).await.is_problem(409, "conflict");
    add_workspace(&service, &agent, &json!({})).await;
    service.post("/v1/workspaces/w/execute", &json!({ "command": "true" })).await;
    assert_eq!(get(&service, "/ready").await.text(), "ready");
}

#[actix_rt::test]
async fn records_that_cannot_be_read_hide_no_others_and_are_not_said_to_run() {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let mut service = Served::start(&[]);
    add_workspace(&service, &agent, &json!({})).await;
    let body = json!({ "command": "sleep 60", "timeout_ms": null });
    let lost = service.post("/v1/workspaces/w/commands", &body).await["id"].as_str().unwrap().to_owned();
    let work = json!({ "each": { "steps": [{ "operation": { "execute": { "command": "sleep 60" } } }] } });
    let run =
        service.post("/v1/runs", &json!({ "selector": {}, "work": work })).await["id"].as_str().unwrap().to_owned();
    let whole = service.post("/v1/workspaces/w/execute", &json!({ "command": "true" })).await;
    service.kill();
    for (table, key) in [("commands", &lost), ("runs", &run)] {
        put(&service, table, key, b"{\"state\":\"running\"}");
    }
    service.start_again();
    let listed = service.get("/v1/commands").await;
    assert_eq!(listed["commands"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["commands"][0]["id"], whole["id"]);
    assert_eq!(service.get("/v1/commands?state=running").await["commands"], json!([]));
    assert_eq!(service.get("/v1/runs?state=running").await["runs"], json!([]));
    assert_eq!(service.get("/v1/runs").await["runs"], json!([]));
    assert_eq!(service.terminate(), Some(0));
    let left = unfinished(&service);
    assert!(left.is_empty(), "{left:?}");
}
