//! Where session keys and secret values do not go: logs, errors, lists of processes, event logs, results, other hosts.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use workspace_fleet::{Connection, ErrorKind, messages::ExecuteCommand};

use crate::{
    place::{Ended, Place},
    server::{Say, Server, page, workspace},
    support::{eventually, http, processes},
};

const KEY: &str = "hush-session-key-4c1d";
const TOKEN: &str = "hush-token-value-9f3a";
const INPUT: &str = "hush-standard-input-7b2e";

/// All that must not be seen.
const SECRETS: [&str; 3] = [KEY, TOKEN, INPUT];

#[track_caller]
fn is_clean(what: &str, text: &str) {
    for secret in SECRETS {
        if let Some(at) = text.find(secret) {
            let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
            panic!("{what} holds {secret}: {}", text[line..].lines().next().unwrap_or_default());
        }
    }
}

/// Checks every file below a directory.
fn are_clean(directory: &Path) -> usize {
    let mut checked = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            checked += are_clean(&path);
        } else {
            is_clean(&path.display().to_string(), &String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
            checked += 1;
        }
    }
    checked
}

/// An agent of its own process that logs all it can.
struct Agent {
    child: Child,
    address: String,
}

impl Agent {
    fn start(place: &Place) -> Self {
        let log = std::fs::File::create(place.path().join("agent.log")).unwrap();
        let root = place.path().join("sandbox");
        std::fs::create_dir(&root).unwrap();
        let mut command = place.command(&["agent", "--root", root.to_str().unwrap()]);
        command.env("OH_SESSION_API_KEYS_0", KEY).env("RUST_LOG", "trace").stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit("//").next().unwrap().to_owned();
        Self { child, address }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `wsfleet`, with the secrets in its environment and all its loggers on.
fn traced(place: &Place, args: &[&str]) -> Command {
    let mut command = place.command(args);
    command.env("KEY", KEY).env("TOKEN", TOKEN).env("RUST_LOG", "trace").env("WSFLEET_API_KEY_ENV", "KEY");
    command
}

#[tokio::test]
async fn no_secret_is_in_a_log_a_list_of_processes_or_a_result() {
    let (place, files) = (Place::new(), Place::new());
    let agent = Agent::start(&place);
    let url = format!("http://{}", agent.address);
    let input = files.file("input", INPUT);
    let script =
        "cat >/dev/null; echo ${#TOKEN}; touch begun; sleep 1; while [ ! -e go ]; do sleep 0.05; done; : ENDMARK";
    let out = |name: &str| place.path().join(name).display().to_string();
    let (joblog, junit, results) = (out("joblog"), out("junit.xml"), out("results"));
    let args = [
        "run",
        "-w",
        &url,
        "--secret-env",
        "TOKEN",
        "--stdin",
        "--json",
        "--push",
        "always",
        "--joblog",
        &joblog,
        "--junit",
        &junit,
        "--results",
        &results,
        script,
    ];
    let input = std::fs::File::open(input).unwrap();
    let child = traced(&place, &args).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let running = tokio::task::spawn_blocking(move || Ended::wait(child));
    let begun = place.path().join("sandbox/begun");
    assert!(eventually(Duration::from_secs(30), || begun.exists()).await, "the command runs");
    for line in processes::command_lines() {
        is_clean("the list of processes", &line);
    }
    std::fs::write(place.path().join("sandbox/go"), "").unwrap();
    let ended = running.await.unwrap().expect(0);
    assert!(ended.stdout.contains(&TOKEN.len().to_string()), "the command has it: {}", ended.stdout);
    let logs = ["TRACE", "workspace_fleet::client"].map(|part| ended.stderr.contains(part));
    assert_eq!(logs, [true; 2], "all is logged: {}", ended.stderr);
    is_clean("stdout", &ended.stdout);
    is_clean("stderr", &ended.stderr);
    // What fails says more.
    let wrong = traced(&place, &["run", "-w", &url, "--secret-env", "TOKEN", "exit 3"]);
    let wrong = tokio::task::spawn_blocking(move || Ended::of(wrong)).await.unwrap();
    is_clean("the output of a failure", &(wrong.stdout + &wrong.stderr));
    let mut log = String::new();
    for kind in ["BashCommand", "BashOutput"] {
        let path = format!("/api/bash/bash_events/search?limit=100&kind__eq={kind}");
        log.push_str(&http::request("GET", &agent.address, &path, KEY).await.unwrap().1);
    }
    assert!(log.contains("ENDMARK"), "{log}");
    is_clean("the event log", &log);
    drop(agent);
    assert!(place.read("agent.log").contains("TRACE"));
    assert!(are_clean(place.path()) >= 6, "log, joblog, JUnit and results are there");
}

/// A server that repeats all it was told.
async fn parrot(status: &'static str, content_type: &'static str) -> Server {
    Server::start(move |ask, _| {
        let said = match content_type {
            "application/json" => json!({ "detail": format!("I do not like this: {}", ask.head) }).to_string(),
            _ => format!("<title>{}</title>", ask.head),
        };
        Say::Bytes(page(status, content_type, &said))
    })
    .await
}

#[tokio::test]
async fn a_server_that_repeats_the_key_does_not_get_it_into_an_error() {
    for (status, content_type) in [
        ("400 X", "application/json"),
        ("401 X", "application/json"),
        ("404 X", "text/html"),
        ("500 X", "application/json"),
        ("200 OK", "text/html"),
        ("200 OK", "application/json"),
    ] {
        let server = parrot(status, content_type).await;
        let connection = Connection::new(&server.url).unwrap().with_api_key(KEY);
        let connection = connection.with_header("X-Gate", TOKEN).unwrap();
        let (fleet, workspace) = workspace(connection, |config| config).await;
        for error in
            [workspace.get_server_info().await.unwrap_err(), workspace.execute_command("true").await.unwrap_err()]
        {
            is_clean("an error", &format!("{error} {error:?} {}", serde_json::to_string(&error).unwrap()));
        }
        is_clean("the health", &format!("{:?}", workspace.health().await));
        assert!(server.heads().contains(KEY) && server.heads().contains(TOKEN), "it was told them");
        fleet.shutdown().await;
    }
}

#[tokio::test]
async fn the_key_goes_to_no_other_host() {
    let other = Server::start(|_, _| Say::Honest).await;
    let elsewhere = other.url.clone();
    let first = Server::start(move |_, _| {
        Say::Bytes(format!("HTTP/1.1 307 X\r\nLocation: {elsewhere}/x\r\nContent-Length: 0\r\n\r\n").into_bytes())
    })
    .await;
    let (fleet, workspace) = workspace(Connection::new(&first.url).unwrap().with_api_key(KEY), |config| config).await;
    let error = workspace.execute_command("true").await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Protocol { .. }) && error.to_string().contains("not followed"), "{error}");
    assert_eq!(other.requests(), 0);
    // Under another address it is another key, or none.
    workspace.update_connection(Connection::new(&other.url).unwrap()).await.unwrap();
    workspace.execute_command("true").await.unwrap();
    assert!(other.requests() > 0 && first.heads().contains(KEY));
    is_clean("what the other host was sent", &other.heads());
    // A proxy makes the way and is told nothing.
    let proxy = Server::start(|_, _| Say::Bytes(page("403 X", "text/plain", "no"))).await;
    let connection =
        Connection::new("http://workspace.example:1").unwrap().with_api_key(KEY).with_proxy(&proxy.url).unwrap();
    workspace.update_connection(connection).await.unwrap();
    workspace.execute_command("true").await.unwrap_err();
    assert!(proxy.heads().contains("CONNECT workspace.example:1"));
    is_clean("what the proxy was sent", &proxy.heads());
    fleet.shutdown().await;
}

#[test]
fn nothing_that_holds_a_secret_shows_it() {
    let connection = Connection::new("http://h:1").unwrap().with_api_key(KEY);
    let connection =
        connection.with_header("X-Gate", TOKEN).unwrap().with_proxy("http://me:hush-standard-input-7b2e@p:1").unwrap();
    let config = workspace_fleet::WorkspaceConfig::new("w", connection.clone())
        .with_init(workspace_fleet::InitConfig::new(KEY, json!({ "session_api_keys": [KEY] })));
    let command = ExecuteCommand::new("true").with_secret_env("A", TOKEN.to_owned()).with_stdin(INPUT);
    is_clean("Debug", &format!("{connection:?} {config:?} {command:?} {command:#?} {config:#?}"));
    assert!(serde_json::to_string(&command).is_err(), "a secret is not written down");
}
