//! What holds at the size of a fleet: thousands of workspaces, many of them broken, each reported exactly once.
//!
//! Every address of the loopback network is a workspace of its own, behind a stub that answers at once.

#[path = "../support/agent.rs"]
#[allow(dead_code)]
mod agent;
mod churn;
mod crowd;
#[path = "../support/held.rs"]
mod held;
#[path = "../support/pattern.rs"]
#[allow(dead_code)]
mod pattern;
#[path = "../support/stub.rs"]
mod stub;
mod transfers;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use stub::{Manner, Stub};
use tempfile::TempDir;

/// The most memory that a run over ten thousand workspaces may take.
const MEMORY: u64 = 150 << 20;

/// A run of the command line over a hostfile.
struct Ended {
    lines: Vec<Value>,
    code: Option<i32>,
    peak: u64,
    stderr: String,
}

impl Ended {
    /// The outcome of each target, by its name; fails when one is reported twice.
    fn outcomes(&self) -> BTreeMap<&str, &str> {
        let mut outcomes = BTreeMap::new();
        for line in self.lines.iter().filter(|line| line["event"] == "target_finished") {
            let name = line["workspace"].as_str().unwrap();
            let before = outcomes.insert(name, line["outcome"].as_str().unwrap());
            assert_eq!(before, None, "{name} was reported twice");
        }
        outcomes
    }

    fn last(&self) -> &Value {
        self.lines.last().unwrap()
    }
}

/// Runs `wsfleet run --json` over these addresses, and watches how much memory it takes.
fn run(hosts: &[String], flags: &[&str], command: &str) -> Ended {
    let folder = TempDir::new().unwrap();
    let hostfile = folder.path().join("hosts");
    fs::write(&hostfile, hosts.join("\n")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_wsfleet"))
        .args(["run", "--json", "--hostfile"])
        .arg(&hostfile)
        .args(flags)
        .args(["--", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let lines = std::thread::spawn(move || {
        let lines = BufReader::new(out).lines();
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect::<Vec<Value>>()
    });
    let stderr = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).unwrap();
        text
    });
    let (code, peak) = watch(&mut child);
    Ended { lines: lines.join().unwrap(), code, peak, stderr: stderr.join().unwrap() }
}

/// Waits for the end of a process; returns its exit code and the most memory that it took.
fn watch(child: &mut Child) -> (Option<i32>, u64) {
    let (status, give_up) = (format!("/proc/{}/status", child.id()), Instant::now() + Duration::from_secs(120));
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let kilobytes =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak = kilobytes.map_or(peak, |kilobytes: u64| kilobytes << 10);
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), peak);
        }
        if Instant::now() > give_up {
            child.kill().unwrap();
            panic!("the run did not end in two minutes");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_workspaces_in_one_run() {
    let stub = Stub::start().await.unwrap();
    let hosts: Vec<String> = (0..10_000).map(|number| stub.url(Manner::Instant, number)).collect();
    let ended = run(&hosts, &[], "true");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let outcomes = ended.outcomes();
    assert_eq!(outcomes.len(), hosts.len());
    assert!(outcomes.values().all(|outcome| *outcome == "succeeded"), "{:?}", ended.last());
    assert_eq!(ended.last()["outcomes"]["succeeded"], hosts.len());
    assert!(ended.peak < MEMORY, "the run took {} MiB", ended.peak >> 20);
    println!("{} ms, {} MiB at most", ended.last()["duration_ms"], ended.peak >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarter_of_a_thousand_is_broken() {
    let stub = Stub::start().await.unwrap();
    // An address at which nobody listens: its port was given up just now.
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut hosts: Vec<(String, &str)> = Vec::new();
    for number in 0..750 {
        hosts.push((stub.url(Manner::Instant, number), "succeeded"));
        // The broken ones come between the others, as they do in life.
        if number % 15 == 0 {
            hosts.push((format!("http://{}:{refused}", Manner::Instant.address(number)), "unreachable"));
            hosts.push((stub.url(Manner::Silent, number), "unreachable"));
            hosts.push((stub.url(Manner::Failing, number), "server_error"));
            hosts.push((stub.url(Manner::Locked, number), "unauthorized"));
            hosts.push((stub.url(Manner::Hanging, number), "timed_out"));
        }
    }
    assert_eq!(hosts.len(), 1_000);
    let urls: Vec<String> = hosts.iter().map(|(url, _)| url.clone()).collect();
    let ended = run(&urls, &["--fanout", "256", "--command-timeout", "2s", "--connect-timeout", "5s"], "true");
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    let outcomes = ended.outcomes();
    assert_eq!(outcomes.len(), hosts.len());
    for (url, expected) in &hosts {
        let name = url.trim_start_matches("http://");
        assert_eq!(outcomes[name], *expected, "{url}");
    }
    for line in ended.lines.iter().filter(|line| line["event"] == "target_finished" && line["outcome"] != "succeeded") {
        let reason = line["error"]["message"].as_str().unwrap_or_default();
        assert!(line["outcome"] == "timed_out" || !reason.is_empty(), "without a reason: {line}");
    }
    // The healthy ones do not wait for the broken ones, and the run ends within the bounds of an answer.
    let seconds = |line: &Value| line["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let began = seconds(&ended.lines[0]);
    let succeeded = ended.lines.iter().filter(|line| line["outcome"] == "succeeded").map(seconds).max().unwrap();
    let healthy = Duration::try_from(succeeded.duration_since(began)).unwrap();
    let whole = Duration::from_millis(ended.last()["duration_ms"].as_u64().unwrap());
    println!("the healthy ones took {healthy:?}, all {whole:?}, {} commands were stopped", stub.stopped());
    assert!(healthy < Duration::from_secs(10), "the healthy ones took {healthy:?}");
    assert!(whole < Duration::from_secs(60), "the run took {whole:?}");
    assert_eq!(stub.stopped(), 50, "every command that hung was stopped");
}
