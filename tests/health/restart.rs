//! What becomes of running commands when their server is killed.

use std::time::{Duration, Instant};

use futures::future::join_all;
use workspace_fleet::{
    CommandResult, Connection, ErrorKind, HealthState, Outcome, Workspace, WorkspaceConfig, WorkspaceError,
    messages::ExecuteCommand,
};

use crate::{
    servers::{Agent, PATIENCE, health_is, workspace},
    support::eventually,
};

const COMMANDS: usize = 100;

type Results = Vec<Result<CommandResult, WorkspaceError>>;

/// Runs commands that do not end by themselves, and waits until all of them do.
async fn run_commands(agent: &Agent, workspace: &Workspace, command: &str) -> tokio::task::JoinHandle<Results> {
    let commands = (0..COMMANDS).map(|_| workspace.execute_command(ExecuteCommand::new(command))).collect::<Vec<_>>();
    let running = tokio::spawn(join_all(commands));
    assert!(eventually(PATIENCE, || agent.commands() >= COMMANDS).await, "{} run", agent.commands());
    running
}

async fn results(running: tokio::task::JoinHandle<Results>, limit: Duration) -> Results {
    let began = Instant::now();
    let results = tokio::time::timeout(limit, running).await.expect("no command hangs").unwrap();
    eprintln!("all ended after {:?}", began.elapsed());
    results
}

#[tokio::test]
async fn commands_end_when_their_server_restarts_and_their_orphans_too() {
    let mut agent = Agent::start(&[]);
    let (fleet, workspace) = workspace(&agent.url(), |config| config).await;
    let running = run_commands(&agent, &workspace, "exec sleep 1000").await;
    agent.kill();
    assert!(agent.commands() >= COMMANDS, "they outlive their server");
    agent.restart();
    for result in results(running, PATIENCE).await {
        let error = result.expect_err("no command is said to have ended");
        assert!(matches!(error.kind, ErrorKind::OutcomeUnknown { .. }), "{error}");
        assert!(error.to_string().contains("the server restarted"), "{error}");
    }
    assert!(eventually(PATIENCE, || agent.commands() == 0).await, "{} are left", agent.commands());
    // It is the same sandbox, and goes on working.
    assert_eq!(workspace.execute_command("echo on").await.unwrap().stdout, "on\n");
    assert_eq!(workspace.health().await.unwrap().state, HealthState::Ready);
    fleet.shutdown().await;
}

#[tokio::test]
async fn orphans_are_left_alone_when_asked_for() {
    let mut agent = Agent::start(&[]);
    let (fleet, workspace) = workspace(&agent.url(), |config| config.with_kill_orphans(false)).await;
    let command = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1; done; echo done >done; sleep 1000";
    let running = tokio::spawn(workspace.execute_command(command));
    assert!(eventually(PATIENCE, || agent.commands() > 0).await);
    agent.kill();
    agent.restart();
    let error = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("left running"), "{error}");
    let ErrorKind::OutcomeUnknown { process_id: Some(id), .. } = error.kind else { panic!("{error}") };
    // They still run, and can be found by the id that the error tells.
    assert!(agent.commands() > 0);
    let kill = format!(
        "grep -lsF WSFLEET_COMMAND_ID={id} /proc/[0-9]*/cmdline /proc/[0-9]*/environ | cut -d/ -f3 | xargs kill"
    );
    workspace.execute_command(kill.as_str()).await.unwrap();
    assert!(eventually(PATIENCE, || agent.commands() == 0).await);
    fleet.shutdown().await;
}

#[tokio::test]
async fn commands_of_a_sandbox_that_was_replaced_are_gone() {
    let mut agent = Agent::start(&[]);
    let (fleet, workspace) = workspace(&agent.url(), |config| config).await;
    let running = run_commands(&agent, &workspace, "exec sleep 1000").await;
    agent.kill();
    kill_all_in(&agent);
    assert!(eventually(PATIENCE, || agent.commands() == 0).await);
    agent.restart();
    for result in results(running, PATIENCE).await {
        let error = result.expect_err("no command is said to have ended");
        assert_eq!(Outcome::from(&error.kind), Outcome::Gone, "{error}");
    }
    health_is(&workspace, HealthState::Gone).await;
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_command_that_the_server_at_a_new_address_does_not_know_is_gone_and_the_workspace_is_not() {
    let (mut left, next) = (Agent::start(&[]), Agent::start(&[]));
    let (fleet, workspace) = workspace(&next.url(), |config| config).await;
    // It is no younger than the command, whose server it can not be taken for.
    while workspace.get_server_info().await.unwrap().uptime < 2.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    workspace.update_connection(Connection::new(&left.url()).unwrap()).await.unwrap();
    let running = tokio::spawn(workspace.execute_command(ExecuteCommand::new("exec sleep 1000").with_timeout(None)));
    assert!(eventually(PATIENCE, || left.commands() > 0).await);
    left.kill();
    kill_all_in(&left);
    workspace.update_connection(Connection::new(&next.url()).unwrap()).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, running).await.expect("it hangs").unwrap().unwrap_err();
    assert_eq!(Outcome::from(&error.kind), Outcome::Gone, "{error}");
    assert_eq!(workspace.execute_command("echo on").await.unwrap().stdout, "on\n");
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_command_whose_sandbox_was_replaced_before_it_was_asked_anything_does_not_hang() {
    for _ in 0..3 {
        let mut agent = Agent::start(&[]);
        let (fleet, workspace) = workspace(&agent.url(), |config| config).await;
        let command = ExecuteCommand::new("exec sleep 1000").with_timeout(None);
        let running = tokio::spawn(workspace.execute_command(command));
        assert!(eventually(PATIENCE, || agent.commands() > 0).await);
        agent.kill();
        kill_all_in(&agent);
        agent.restart();
        let result = tokio::time::timeout(PATIENCE, running).await.expect("it hangs").unwrap();
        let error = result.expect_err("it is not said to have ended");
        assert_eq!(Outcome::from(&error.kind), Outcome::Gone, "{error}");
        fleet.shutdown().await;
    }
}

#[tokio::test]
async fn commands_end_when_their_server_does_not_come_back() {
    let mut agent = Agent::start(&[]);
    let (fleet, workspace) =
        workspace(&agent.url(), |config: WorkspaceConfig| config.with_max_outage(Duration::from_secs(3))).await;
    let running = run_commands(&agent, &workspace, "exec sleep 1000").await;
    agent.kill();
    for result in results(running, PATIENCE).await {
        let error = result.expect_err("no command is said to have ended");
        assert!(matches!(error.kind, ErrorKind::OutcomeUnknown { .. }), "{error}");
    }
    kill_all_in(&agent);
    fleet.shutdown().await;
}

/// Kills what runs in the agent's directory.
fn kill_all_in(agent: &Agent) {
    let root = agent.root();
    for process in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let pid = process.file_name().to_string_lossy().parse::<i32>().ok().and_then(rustix::process::Pid::from_raw);
        if let (Some(pid), Ok(cwd)) = (pid, std::fs::read_link(process.path().join("cwd")))
            && cwd == root
        {
            // It may have ended.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
