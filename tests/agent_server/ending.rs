use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::support::{Agent, first_line, is_alive, joined, until};

/// Starts processes of every kind and writes their numbers into files.
const FAMILY: &str = "
    (sh -c 'echo $$ > child; exec sleep 60') &
    setsid sh -c 'echo $$ > session; exec sleep 60' &
    (setsid sh -c '(sh -c \"echo \\$\\$ > orphan; exec sleep 60\" &) ' &)
    (setsid sh -c 'trap \"\" TERM; echo $$ > stubborn; for i in $(seq 600); do sleep 0.1; done' >/dev/null 2>&1 &)
    echo $$ > shell
    echo started
";

const MEMBERS: [&str; 5] = ["shell", "child", "session", "orphan", "stubborn"];

async fn pids(agent: &Agent) -> Vec<String> {
    let mut pids = Vec::new();
    for name in MEMBERS {
        pids.push(first_line(&agent.path(name)).await);
    }
    pids
}

async fn assert_all_gone(pids: &[String]) {
    for (pid, name) in pids.iter().zip(MEMBERS) {
        assert!(!is_alive(pid), "{name} lives on");
    }
}

#[actix_rt::test]
async fn a_stop_reaches_every_process() {
    let agent = Agent::start();
    let mut bystander = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    let other = agent.start_command("echo $$ > other; exec sleep 60", 300).await;
    let id = agent.start_command(&format!("{FAMILY} wait"), 300).await;
    let pids = pids(&agent).await;
    let start = Instant::now();
    assert_eq!(agent.stop_command(&id).await, 200);
    assert_all_gone(&pids).await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let events = agent.finished(&id).await;
    assert_eq!(
        (&events.last().unwrap()["exit_code"], joined(&events, "stdout")),
        (&json!(-15), "started\n".to_owned())
    );
    assert!(is_alive(&bystander.id().to_string()) && is_alive(&first_line(&agent.path("other")).await));
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert_eq!(agent.stop_command(&other).await, 200);
    assert_eq!(agent.stop_command(&other).await, 200, "a finished command can be stopped again");
}

#[actix_rt::test]
async fn a_timeout_reaches_every_process_and_keeps_the_output() {
    let agent = Agent::start();
    let id = agent.start_command(&format!("{FAMILY} wait"), 1).await;
    let pids = pids(&agent).await;
    let events = agent.finished(&id).await;
    assert_all_gone(&pids).await;
    assert_eq!((&events.last().unwrap()["exit_code"], joined(&events, "stdout")), (&json!(-1), "started\n".to_owned()));
}

#[actix_rt::test]
async fn children_whose_shell_has_exited_are_stopped_and_its_exit_code_is_kept() {
    let agent = Agent::start();
    let id = agent.start_command(&format!("{FAMILY} exit 7"), 300).await;
    let pids = pids(&agent).await;
    until(async || Some(()).filter(|()| !is_alive(&pids[0]))).await;
    assert!(agent.outputs(&id).await.iter().all(|event| event["exit_code"].is_null()), "the streams are still open");
    assert_eq!(agent.stop_command(&id).await, 200);
    assert_all_gone(&pids).await;
    assert_eq!(agent.finished(&id).await.last().unwrap()["exit_code"], 7);
}

#[actix_rt::test]
async fn a_trap_runs_at_a_stop_and_what_ignores_it_is_killed() {
    let agent = Agent::start();
    let polite = agent
        .start_command("trap 'echo bye; exit 9' TERM; echo up; for i in $(seq 1200); do sleep 0.05; done", 300)
        .await;
    let stubborn = agent.start_command("trap '' TERM; echo up; for i in $(seq 1200); do sleep 0.05; done", 300).await;
    for (id, exit_code, stdout) in [(&polite, 9, "up\nbye\n"), (&stubborn, -9, "up\n")] {
        until(async || agent.outputs(id).await.first().cloned()).await;
        assert_eq!(agent.stop_command(id).await, 200);
        let events = agent.finished(id).await;
        assert_eq!(events.last().unwrap()["exit_code"], exit_code);
        assert_eq!(joined(&events, "stdout"), stdout);
    }
}

#[actix_rt::test]
async fn a_shell_that_closed_its_streams_is_waited_for() {
    let agent = Agent::start();
    let result = agent.execute("echo x; exec >&- 2>&-; sleep 0.3; exit 5").await;
    assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(5), &json!("x\n")));
}

#[actix_rt::test]
async fn a_stop_of_the_agent_ends_its_commands() {
    let agent = Agent::start();
    agent.start_command(&format!("{FAMILY} wait"), 300).await;
    let pids = pids(&agent).await;
    agent.handle.stop().await;
    assert_all_gone(&pids).await;
    assert!(agent.get("/alive").send().await.is_err());
}

/// An agent in a process of its own.
#[cfg(feature = "cli")]
struct Process(std::process::Child);

#[cfg(feature = "cli")]
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(feature = "cli")]
#[actix_rt::test]
async fn a_hangup_ends_the_agent_and_its_commands() {
    use std::io::BufRead;
    for signal in ["HUP", "QUIT", "TERM"] {
        let root = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsfleet"));
        command.args(["agent", "--port", "0"]).current_dir(root.path()).stdout(Stdio::piped());
        for name in ["OH_SESSION_API_KEYS_0", "SESSION_API_KEY"] {
            command.env_remove(name);
        }
        let mut agent = Process(command.spawn().unwrap());
        let mut line = String::new();
        std::io::BufReader::new(agent.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap();
        let start = awc::Client::new().post(format!("{url}/api/bash/start_bash_command"));
        let body = json!({ "command": "echo $$ > pid; exec sleep 60", "cwd": root.path() });
        assert_eq!(start.send_json(&body).await.unwrap().status(), 200);
        let pid = first_line(&root.path().join("pid")).await;
        Command::new("kill").args([&format!("-{signal}"), &agent.0.id().to_string()]).status().unwrap();
        let status = until(async || agent.0.try_wait().unwrap()).await;
        assert!(status.success(), "{signal}: {status}");
        assert!(!is_alive(&pid), "{signal}");
    }
}
