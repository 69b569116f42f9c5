//! Many who read the same, one of whom does not, and one who comes back.

use std::{fs, time::Duration};

use futures::future::join_all;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    agent::Agent,
    follower::{Event, Follower},
    scene::Served,
};

const READERS: usize = 1000;

/// What a thousand connections may cost the service, with all that goes on.
const MOST_MEMORY: u64 = 160 << 20;

/// How much there is of a command's output before the readers come: far more than sockets hold for one who does not read.
const BEFORE: usize = 24 << 20;

const LINES: usize = 300;

/// A service with one workspace, `w`, whose agent server has its files in a directory.
async fn one_workspace() -> (TempDir, Agent, Served) {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let service = Served::start(&[]);
    let host = format!("http://127.0.0.1:{}", agent.port);
    service.post("/v1/workspaces", &json!({ "name": "w", "host": host })).await;
    (root, agent, service)
}

async fn start(service: &Served, command: &str) -> String {
    let started = service.post("/v1/workspaces/w/commands", &json!({ "command": command })).await;
    format!("/v1/commands/{}/events", started["id"].as_str().unwrap())
}

/// Takes events to the end, and returns the output in them.
async fn to_the_end(follower: &mut Follower) -> String {
    let (mut output, mut last) = (String::new(), 0);
    loop {
        let event = follower.next().await.expect("it ends with an event that says so");
        let id: u64 = event.id.parse().unwrap();
        assert!(id >= last, "{id} comes after {last}");
        last = id;
        match event.output() {
            Some(text) => output.push_str(&text),
            None if event.name == "end" => return output,
            None => panic!("{event:?}"),
        }
    }
}

fn lines() -> String {
    (1..=LINES).map(|line| format!("line {line}\n")).collect()
}

#[actix_rt::test]
async fn a_thousand_read_one_command_in_order_although_one_of_them_stands_still() {
    raise_files();
    let (root, _agent, service) = one_workspace().await;
    let flag = root.path().join("go-on");
    let command = format!(
        "head -c {BEFORE} /dev/zero | tr '\\0' x; echo; echo READY; until [ -e {} ]; do sleep 0.05; done; \
         i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; [ $((i % 10)) = 0 ] && sleep 0.05; done; true",
        flag.display(),
    );
    let path = start(&service, &command).await;
    let ready = ready(&service, &path).await;

    let before = memory(service.id());
    let mut still = Follower::narrow(service.port, &path).await;
    let mut others = join_all((1..READERS).map(|_| Follower::start(service.port, &path, Some(&ready)))).await;
    fs::write(flag, "").unwrap();
    let outputs = tokio::time::timeout(Duration::from_secs(120), join_all(others.iter_mut().map(to_the_end))).await;
    let outputs = outputs.expect("nobody waits for the one who stands still");
    let expected = lines();
    for output in outputs {
        assert_eq!(output, expected);
    }
    let grown = peak(service.id()).saturating_sub(before);
    assert!(grown < MOST_MEMORY, "the service took {} MiB more", grown >> 20);
    drop(others);
    still.widen();
    let all = to_the_end(&mut still).await;
    assert_eq!(all.len(), BEFORE + "\nREADY\n".len() + expected.len(), "who stood still has missed nothing");
    assert!(all.ends_with(&expected));
}

/// Waits until a command has written `READY`, and returns the id of the event in which it did.
async fn ready(service: &Served, path: &str) -> String {
    let mut follower = Follower::start(service.port, path, None).await;
    let mut tail = String::new();
    loop {
        let event = follower.next().await.unwrap();
        tail.push_str(&event.output().unwrap());
        if tail.ends_with("READY\n") {
            return event.id;
        }
        tail.drain(..tail.len().saturating_sub(6));
    }
}

#[actix_rt::test]
async fn who_comes_back_after_each_crash_of_the_service_misses_nothing_and_gets_nothing_twice() {
    let (_root, _agent, mut service) = one_workspace().await;
    let command = format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; sleep 0.01; done");
    let path = start(&service, &command).await;
    let (mut output, mut last) = (String::new(), None::<String>);
    for _ in 0..3 {
        let mut follower = Follower::start(service.port, &path, last.as_deref()).await;
        for _ in 0..4 {
            let event = follower.next().await.unwrap();
            if let Some(text) = event.output() {
                output.push_str(&text);
                last = Some(event.id);
            }
        }
        service.kill();
        service.start_again();
    }
    output.push_str(&to_the_end(&mut Follower::start(service.port, &path, last.as_deref()).await).await);
    assert_eq!(output, lines());
}

#[actix_rt::test]
async fn a_thousand_follow_the_fleet_and_are_told_the_same() {
    raise_files();
    let (_root, _agent, mut service) = one_workspace().await;
    let mut followers = join_all((0..READERS).map(|_| Follower::start(service.port, "/v1/events", None))).await;
    let hellos = join_all(followers.iter_mut().map(Follower::next)).await;
    assert!(hellos.iter().flatten().all(|event| event.name == "hello") && hellos.len() == READERS);
    let started = start(&service, "echo hi").await;
    to_the_end(&mut Follower::start(service.port, &started, None).await).await;
    service.post("/v1/workspaces", &json!({ "name": "late", "host": "http://127.0.0.1:1" })).await;
    let told = join_all(followers.iter_mut().map(until_late)).await;
    for events in &told {
        let from = told[0].iter().position(|event| event == &events[0]);
        let own = events.iter().position(|event| event == &told[0][0]);
        let (first, second) = match (from, own) {
            (Some(from), _) => (&told[0][from..], &events[..]),
            (_, own) => (&told[0][..], &events[own.unwrap()..]),
        };
        assert_eq!(first, second, "the same events, one after another, from where they began");
    }
    let states: Vec<_> =
        told[0].iter().filter(|event| event.name == "command").map(|event| event.json()["state"].clone()).collect();
    assert_eq!(states, ["starting", "running", "finished"]);

    // A place is good until the service is another one.
    let last = told[0].last().unwrap().id.clone();
    let mut back = Follower::start(service.port, "/v1/events", Some(&last)).await;
    assert_ne!(back.next().await.unwrap().name, "missed");
    service.kill();
    service.start_again();
    let mut back = Follower::start(service.port, "/v1/events", Some(&last)).await;
    assert_eq!(back.next().await.unwrap().name, "missed");
    assert_eq!(back.next().await.unwrap().name, "stats", "and it goes on");
}

/// Takes events until the workspace `late` was told of.
async fn until_late(follower: &mut Follower) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = follower.next().await.unwrap();
        assert_ne!(event.name, "missed");
        let is_late = event.name == "workspaces" && event.json()["added"][0]["name"] == "late";
        events.push(event);
        if is_late {
            return events;
        }
    }
}

/// A thousand connections are more than a process may have unless it asks.
fn raise_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// How many bytes a process has in memory now. Its peak begins anew.
fn memory(process: u32) -> u64 {
    fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
    status(process, "VmRSS:")
}

/// How many bytes a process had in memory at the worst moment.
fn peak(process: u32) -> u64 {
    status(process, "VmHWM:")
}

fn status(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
