//! What survives the end of the service, at any moment and of any kind.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use awc::http::{Method, StatusCode};
use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    agent::Agent,
    client::{Event, follow, post_until_answered, text_at, text_of, until_state},
    scene::Served,
};

const WORKSPACES: usize = 4;

/// How many commands run through the service while it is killed, and how often that is.
fn measure(variable: &str, short: usize) -> usize {
    std::env::var(variable).map_or(short, |number| number.parse().unwrap())
}

/// A service with workspaces whose agents are processes of their own.
struct Stage {
    root: TempDir,
    agents: Vec<Agent>,
}

impl Stage {
    async fn new(service: &Served) -> Self {
        let root = TempDir::new().unwrap();
        let agents: Vec<_> = (0..WORKSPACES).map(|_| Agent::start(root.path(), &["key-of-the-agents"])).collect();
        for (number, agent) in agents.iter().enumerate() {
            let host = format!("http://127.0.0.1:{}", agent.port);
            let workspace = json!({ "name": format!("w{number}"), "host": host, "api_key": "key-of-the-agents" });
            service.post("/v1/workspaces", &workspace).await;
        }
        Self { root, agents }
    }

    /// A file that commands write a line to when they start.
    fn starts(&self) -> String {
        self.root.path().join("starts").display().to_string()
    }

    /// How often each was started.
    fn started(&self) -> BTreeMap<String, usize> {
        let mut started = BTreeMap::new();
        for line in fs::read_to_string(self.starts()).unwrap_or_default().lines() {
            *started.entry(line.to_owned()).or_default() += 1;
        }
        started
    }
}

/// One of the commands that run while the service is killed.
struct Work {
    name: String,
    command: String,
    stdout: String,
    stderr: String,
    exit_code: usize,
}

impl Work {
    /// Some write all the time, some much at once, some are short.
    fn new(number: usize, starts: &str) -> Self {
        let name = format!("c{number}");
        let begin = format!("echo {name} >> {starts}");
        let exit_code = number % 3;
        let lines = |count: usize| (1..=count).map(|line| format!("{name} {line} ä\n")).collect::<String>();
        let (body, stdout, stderr) = match number % 4 {
            0 | 1 => {
                let count = 10 + number % 50;
                let body =
                    format!("for n in $(seq 1 {count}); do echo \"{name} $n ä\"; sleep 0.1; done; echo {name} >&2");
                (body, lines(count), format!("{name}\n"))
            }
            2 => {
                let body = format!("for n in $(seq 1 20000); do echo \"{name} $n ä\"; done");
                (body, lines(20_000), String::new())
            }
            _ => (format!("echo {name} 1 ä"), lines(1), String::new()),
        };
        Self { name, command: format!("{begin}; {body}; exit {exit_code}"), stdout, stderr, exit_code }
    }

    fn check(&self, record: &Value, events: &[Event]) {
        assert_eq!(record["result"]["exit_code"], self.exit_code, "{record}");
        assert_eq!(record["result"]["stdout_bytes"], self.stdout.len(), "{record}");
        assert!(text_of(events, "stdout") == self.stdout, "the standard output of {} is not whole", self.name);
        assert!(text_of(events, "stderr") == self.stderr, "the standard error of {} is not whole", self.name);
        assert!(events.windows(2).all(|pair| pair[0].id <= pair[1].id), "{}: ids go back", self.name);
    }
}

/// Kills a service at random moments and starts it again.
fn killed(mut service: Served, times: usize) -> thread::JoinHandle<Served> {
    thread::spawn(move || {
        for _ in 0..times {
            thread::sleep(Duration::from_millis(fastrand::u64(30..700)));
            service.kill();
            service.start_again();
        }
        service
    })
}

#[actix_rt::test]
async fn whatever_runs_is_started_once_and_told_whole_however_often_the_service_is_killed() {
    let (count, kills) = (measure("WSFLEET_KILL_COMMANDS", 40), measure("WSFLEET_KILLS", 5));
    let service = Served::start(&[]);
    let stage = Stage::new(&service).await;
    let works: Vec<_> = (0..count).map(|number| Work::new(number, &stage.starts())).collect();
    let base = service.url("");
    let began = Instant::now();
    let killer = killed(service, kills);
    let jobs = run_of_jobs(&base, &stage, count / 2);
    let commands = works.iter().enumerate().map(|(number, work)| {
        let base = base.clone();
        async move {
            // They come while it is killed, and not all at the beginning.
            let pause = (number * kills * 450 / count) as u64;
            actix_rt::time::sleep(Duration::from_millis(pause)).await;
            let url = format!("{base}/v1/workspaces/w{}/commands", number % WORKSPACES);
            let body = json!({ "command": work.command, "timeout_ms": 600_000, "secret_env": { "S": "kept-secret" } });
            let started = post_until_answered(&url, &work.name, &body).await;
            let path = format!("{base}/v1/commands/{}", started["id"].as_str().unwrap());
            let followed = follow(&format!("{path}/events")).await;
            work.check(&until_state(&path, "finished").await, &followed);
            path
        }
    });
    let (paths, run) = futures::future::join(join_all(commands), jobs).await;
    let service = killer.join().unwrap();
    for (work, path) in works.iter().zip(&paths) {
        // Once more from the beginning, when nothing is killed any more.
        let record = until_state(path, "finished").await;
        work.check(&record, &follow(&format!("{path}/events")).await);
        let stdout = text_at(&format!("{path}/output?format=text&stream=stdout")).await;
        assert!(stdout == work.stdout, "the standard output of {} is not whole as text", work.name);
    }
    check_run(&service, &run, count / 2).await;
    let started = stage.started();
    let twice: Vec<_> = started.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "started more than once: {twice:?}");
    assert_eq!(started.len(), count + count / 2, "each is started");
    no_secret(&service.state(), &["kept-secret", "key-of-the-agents"]);
    println!("{count} commands and {} jobs, {kills} kills, {:?}", count / 2, began.elapsed());
}

/// A run of jobs over all workspaces, to which some are added later. Returns its events as they were followed.
async fn run_of_jobs(base: &str, stage: &Stage, count: usize) -> Vec<Event> {
    let job = |number: usize| {
        let starts = stage.starts();
        let command =
            format!("echo j{number} >> {starts}; for n in 1 2 3 4 5 6; do echo j{number} $n; sleep 0.1; done");
        json!({ "name": format!("j{number}"), "steps": [{ "operation": { "execute": { "command": command } } }] })
    };
    let first: Vec<_> = (0..count / 2).map(job).collect();
    let run = json!({
        "selector": {}, "work": { "jobs": first }, "stream_output": true, "open": true, "secret_env": { "S": "kept-secret" }
    });
    let started = post_until_answered(&format!("{base}/v1/runs"), "run", &run).await;
    let path = format!("{base}/v1/runs/{}", started["id"].as_str().unwrap());
    for number in count / 2..count {
        let url = format!("{path}/jobs");
        post_until_answered(&url, &format!("job {number}"), &json!({ "jobs": [job(number)] })).await;
    }
    post_until_answered(&format!("{path}/close"), "close", &json!({})).await;
    follow(&format!("{path}/events")).await
}

async fn check_run(service: &Served, events: &[Event], count: usize) {
    let end = events.last().unwrap();
    assert_eq!(end.data["summary"]["total"], count, "{}", end.data);
    assert_eq!(end.data["summary"]["outcomes"], json!({ "succeeded": count }), "{}", end.data);
    let events = &events[..events.len() - 1];
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event.data["seq"], number, "an event is missing or told twice: {}", event.data);
    }
    let mut output = BTreeMap::<&str, String>::new();
    for event in events.iter().filter(|event| event.data["event"] == "output") {
        let job = event.data["job"].as_str().unwrap();
        output.entry(job).or_default().push_str(event.data["text"].as_str().unwrap());
    }
    for number in 0..count {
        let whole: String = (1..=6).map(|line| format!("j{number} {line}\n")).collect();
        assert_eq!(output[format!("j{number}").as_str()], whole);
    }
    let id = end.data["id"].as_str().unwrap();
    let report = service.get(&format!("/v1/runs/{id}/report?limit=1000")).await;
    assert_eq!(report["targets"].as_array().unwrap().len(), count, "{report}");
    assert_eq!(report["complete"], true);
}

/// No file of the state but that of the key tells a secret.
fn no_secret(directory: &Path, secrets: &[&str]) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            no_secret(&path, secrets);
        } else if path.file_name().unwrap() != "key" {
            let content = fs::read(&path).unwrap();
            for secret in secrets {
                let found = content.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "{secret} is in {}", path.display());
            }
        }
    }
}

#[actix_rt::test]
async fn what_runs_when_the_service_is_told_to_end_runs_on_and_is_taken_up_by_the_next_one() {
    let mut service = Served::start(&[]);
    let stage = Stage::new(&service).await;
    let gate = stage.root.path().join("gate");
    let command = format!(
        "echo a >> {}; echo before; while ! [ -e {} ]; do sleep 0.05; done; echo after",
        stage.starts(),
        gate.display()
    );
    let body = json!({ "command": command, "timeout_ms": null });
    let started = service.post("/v1/workspaces/w0/commands", &body).await;
    let path = format!("/v1/commands/{}", started["id"].as_str().unwrap());
    let work = json!({ "each": { "steps": [{ "operation": { "execute": body } }] } });
    let run = service.post("/v1/runs", &json!({ "selector": {}, "work": work })).await;
    let run = format!("/v1/runs/{}", run["id"].as_str().unwrap());
    while stage.started().get("a") != Some(&(WORKSPACES + 1)) {
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(service.terminate(), Some(0));
    service.start_again();
    assert_eq!(service.get(&path).await["state"], "running");
    assert_eq!(service.get(&run).await["state"], "running");
    fs::write(&gate, "").unwrap();
    let events = follow(&service.url(&format!("{path}/events"))).await;
    assert_eq!(text_of(&events, "stdout"), "before\nafter\n");
    let ended = until_state(&service.url(&run), "finished").await;
    assert_eq!(ended["summary"]["outcomes"], json!({ "succeeded": WORKSPACES }), "{ended}");
    assert_eq!(stage.started()["a"], WORKSPACES + 1, "each is started once");
}

#[actix_rt::test]
async fn the_time_of_a_command_goes_on_while_the_service_is_away() {
    let mut service = Served::start(&[]);
    let stage = Stage::new(&service).await;
    let starts = stage.starts();
    let start = async |service: &Served, name: &str, command: &str, time: u64| {
        let body = json!({ "command": format!("echo {name} >> {starts}; {command}"), "timeout_ms": time });
        let started = service.post("/v1/workspaces/w0/commands", &body).await;
        format!("/v1/commands/{}", started["id"].as_str().unwrap())
    };
    // One whose time is over when the next service begins, and one whose time is not.
    let short = start(&service, "short", "echo here; sleep 600", 1_000).await;
    let long = start(&service, "long", "echo here; (setsid sleep 601 &); sleep 600", 4_000).await;
    while stage.started().len() != 2 {
        actix_rt::time::sleep(Duration::from_millis(10)).await;
    }
    service.kill();
    // So long that the agent's own bound, a second later, is over.
    thread::sleep(Duration::from_millis(2_500));
    service.start_again();
    for path in [short, long] {
        let record = until_state(&service.url(&path), "finished").await;
        assert_eq!((&record["outcome"], &record["result"]["exit_code"]), (&json!("timed_out"), &json!(-1)), "{record}");
        assert_eq!(record["result"]["timeout_occurred"], true, "{record}");
        assert_eq!(text_at(&service.url(&format!("{path}/output?format=text"))).await, "here\n");
    }
}

#[actix_rt::test]
async fn a_command_that_its_server_lost_has_an_unknown_outcome_and_one_elsewhere_is_not_held_up() {
    let mut service = Served::start(&[]);
    let mut stage = Stage::new(&service).await;
    let mut paths = Vec::new();
    for number in 0..2 {
        let body = json!({ "command": "echo here; sleep 2", "timeout_ms": 60_000 });
        let started = service.post(&format!("/v1/workspaces/w{number}/commands"), &body).await;
        paths.push(format!("/v1/commands/{}", started["id"].as_str().unwrap()));
    }
    service.kill();
    // Another server, which knows nothing, listens where the lost one did.
    let root = stage.root.path().to_owned();
    let port = stage.agents.remove(0).port;
    let _again = Agent::start_at(&root, port, &["key-of-the-agents"]);
    service.start_again();
    let lost = until_state(&service.url(&paths[0]), "finished").await;
    assert_eq!(
        (&lost["outcome"], &lost["error"]["kind"]),
        (&json!("outcome_unknown"), &json!("outcome_unknown")),
        "{lost}"
    );
    let kept = until_state(&service.url(&paths[1]), "finished").await;
    assert_eq!(kept["outcome"], "succeeded", "{kept}");
}

#[actix_rt::test]
async fn commands_on_workspaces_that_end_with_the_service_are_stopped_and_told_as_such() {
    let mut service = Served::start(&["--local", "2"]);
    let names = service.get("/v1/workspaces").await;
    let name = names["workspaces"][0]["name"].as_str().unwrap().to_owned();
    let body = json!({ "command": "echo here; sleep 600", "timeout_ms": null });
    let started = service.post(&format!("/v1/workspaces/{name}/commands"), &body).await;
    let path = format!("/v1/commands/{}", started["id"].as_str().unwrap());
    assert_eq!(service.terminate(), Some(0));
    service.start_again();
    let (status, record) = service.ask(Method::GET, &path, None).await;
    assert_eq!((status, &record["outcome"]), (StatusCode::OK, &json!("stopped")), "{record}");
}

#[actix_rt::test]
async fn what_is_old_is_removed_with_its_output() {
    let service = Served::start(&["--retention-age", "1s"]);
    let stage = Stage::new(&service).await;
    let started = service.post("/v1/workspaces/w0/commands", &json!({ "command": "echo old" })).await;
    let path = format!("/v1/commands/{}", started["id"].as_str().unwrap());
    let log = service.state().join("logs").join(format!("{}.log", started["id"].as_str().unwrap()));
    assert!(log.exists());
    let until = Instant::now() + Duration::from_secs(60);
    while service.ask(Method::GET, &path, None).await.0 != StatusCode::NOT_FOUND || log.exists() {
        assert!(Instant::now() < until, "it is not removed");
        actix_rt::time::sleep(Duration::from_millis(50)).await;
    }
    drop(stage);
}
