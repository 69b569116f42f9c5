//! The command line through the service.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{agent::Agent, scene::Served};

const AGENT_KEY: &str = "key-of-the-agent";

/// A service with workspaces of one agent.
struct Scene {
    service: Served,
    root: TempDir,
    _agent: Agent,
}

impl Scene {
    async fn start() -> Self {
        let root = TempDir::new().unwrap();
        let agent = Agent::start(root.path(), &[AGENT_KEY]);
        let service = Served::start(&[]);
        let host = format!("http://127.0.0.1:{}", agent.port);
        for (name, labels) in [
            ("gpu-1", json!({ "tier": "gpu" })),
            ("gpu-2", json!({ "tier": "gpu" })),
            ("team/c", json!({ "tier": "cpu" })),
        ] {
            let workspace = json!({ "name": name, "host": host, "api_key": AGENT_KEY, "labels": labels });
            service.post("/v1/workspaces", &workspace).await;
        }
        Self { service, root, _agent: agent }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let (operation, rest) = arguments.split_first().unwrap();
        let service = self.service.url("/");
        wsfleet(self.root.path(), &[&[*operation, "--service", &service], rest].concat())
    }
}

/// The program, in this directory, untouched by the environment of the test.
fn wsfleet(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsfleet"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WSFLEET_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(directory).env("XDG_CONFIG_HOME", directory.join("config"));
    command.output().unwrap()
}

fn lines(output: &Output) -> BTreeSet<String> {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[actix_rt::test]
async fn workspaces_of_a_service_are_selected_as_those_of_an_inventory() {
    let scene = Scene::start().await;
    let listed = |arguments: &[&str]| lines(&scene.run(&[&["ping", "--list-targets"], arguments].concat()));
    assert_eq!(listed(&["-a"]), set(&["gpu-1", "gpu-2", "team/c"]));
    assert_eq!(listed(&["-l", "tier=gpu", "-x", "gpu-1"]), set(&["gpu-2"]));
    assert_eq!(listed(&["-w", "gpu-[1-2]"]), set(&["gpu-1", "gpu-2"]));
    let unknown = scene.run(&["ping", "-w", "gpu-3"]);
    assert_eq!(unknown.status.code(), Some(2));
    let words = said(&unknown);
    assert!(words.contains("unknown workspace `gpu-3`") && words.contains("gpu-1"), "{words}");
}

#[actix_rt::test]
async fn every_operation_goes_through_the_service() {
    let scene = Scene::start().await;
    let ran = scene.run(&["run", "-a", "--json", "--", "echo \"$WSFLEET_COMMAND_ID\"; exit 0"]);
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    let events: Vec<Value> = lines(&ran).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let finished: Vec<&Value> = events.iter().filter(|event| event["event"] == "target_finished").collect();
    assert_eq!(finished.len(), 3);
    assert!(finished.iter().all(|event| event["outcome"] == "succeeded"), "{finished:?}");
    let local = scene.root.path().join("local");
    fs::write(&local, b"some bytes").unwrap();
    let remote = scene.root.path().join("remote");
    let (local, remote) = (local.to_str().unwrap(), remote.to_str().unwrap());
    let sent = scene.run(&["upload", "-w", "gpu-1", local, remote]);
    assert_eq!(sent.status.code(), Some(0), "{}", said(&sent));
    assert_eq!(fs::read(remote).unwrap(), b"some bytes");
    let fetched = scene.run(&["download", "-w", "gpu-1", remote, "fetched"]);
    assert_eq!(fetched.status.code(), Some(0), "{}", said(&fetched));
    for operation in ["ping", "info"] {
        let done = scene.run(&[operation, "-a"]);
        assert_eq!(done.status.code(), Some(0), "{operation}: {}", said(&done));
    }
    let late = scene.run(&["run", "-w", "gpu-1", "-u", "500ms", "--", "echo part; sleep 30"]);
    assert_eq!(late.status.code(), Some(3), "{}", said(&late));
}

#[actix_rt::test]
async fn what_is_wrong_with_a_service_is_told() {
    let root = TempDir::new().unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let asked = wsfleet(root.path(), &["ping", "-a", "--service", &format!("http://{nobody}")]);
    assert_eq!(asked.status.code(), Some(4), "{}", said(&asked));
    assert!(said(&asked).contains("cannot connect"), "{}", said(&asked));
    let agent = Agent::start(root.path(), &[]);
    let asked = wsfleet(root.path(), &["ping", "-a", "--service", &format!("http://127.0.0.1:{}", agent.port)]);
    assert_eq!(asked.status.code(), Some(4), "{}", said(&asked));
    assert!(said(&asked).contains("wsfleet serve"), "{}", said(&asked));
    let both = wsfleet(root.path(), &["ping", "-a", "--service", "http://127.0.0.1:1", "--inventory", "x.toml"]);
    assert!(said(&both).contains("choose one"), "{}", said(&both));
    let no_key =
        wsfleet(root.path(), &["ping", "-a", "--service", "http://127.0.0.1:1", "--service-key-env", "NOT_SET"]);
    assert!(said(&no_key).contains("NOT_SET"), "{}", said(&no_key));
}

#[actix_rt::test]
async fn commands_are_left_running_and_picked_up_through_the_service() {
    let scene = Scene::start().await;
    let go = scene.root.path().join("go");
    let script = format!("echo begun; while [ ! -e '{}' ]; do sleep 0.02; done; echo done", go.display());
    let started = scene.run(&["run", "-l", "tier=gpu", "--detach", "--", &script]);
    let ids = lines(&started);
    assert_eq!(ids.len(), 2, "{ids:?}");
    fs::write(scene.root.path().join("ids"), &started.stdout).unwrap();
    fs::write(go, "").unwrap();
    let ended = scene.run(&["attach", "--from", "ids", "-b"]);
    assert_eq!(ended.status.code(), Some(0), "{}", said(&ended));
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "== gpu-1,gpu-2 (2): succeeded, exit 0\nbegun\ndone\n");
    let started = scene.run(&["run", "-w", "team/c", "--detach", "--", "sleep 600"]);
    let words = String::from_utf8(started.stdout).unwrap();
    let [target, id] = words.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{words}") };
    let stopped = scene.run(&["stop", target, id]);
    assert_eq!(stopped.status.code(), Some(0), "{}", said(&stopped));
    let ended = scene.run(&["attach", target, id]);
    assert_eq!(ended.status.code(), Some(5), "{}", said(&ended));
}
