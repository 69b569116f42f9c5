//! Panics injected into the actors of a fleet, over real sockets against the embedded agent server.

use std::time::Duration;

use futures::StreamExt as _;

use super::{Fleet, Workspace};
use crate::{
    Connection, Effect, ErrorKind, Selector, Snapshot, WorkspaceConfig,
    agent::{AgentConfig, AgentHandle, AgentServer},
    messages::{CommandEvent, ExecuteCommand, HoldUntil},
    workspace::{Faults, Inject, Limits, PanicInHandler, PanicInStep},
};

/// Nothing here takes as long; a test that hangs fails.
const LIMIT: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it hangs")
}

struct Scene {
    agent: AgentHandle,
    fleet: Fleet,
    workspace: Workspace,
    neighbour: Workspace,
    _root: tempfile::TempDir,
}

impl Scene {
    /// Two workspaces on one thread.
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let agent = AgentServer::spawn(AgentConfig::default().with_root(root.path())).unwrap();
        let fleet = Fleet::builder().worker_threads(1).start().unwrap();
        let config = |name: &str| WorkspaceConfig::new(name, Connection::new(&agent.url()).unwrap());
        let workspace = fleet.add(config("w").with_label("tier", "gpu")).await.unwrap();
        let neighbour = fleet.add(config("neighbour")).await.unwrap();
        Self { agent, fleet, workspace, neighbour, _root: root }
    }

    async fn snapshot(&self) -> Snapshot {
        self.fleet.snapshots(Selector::names(["w"])).await.remove(0)
    }

    async fn end(self) {
        within(self.fleet.shutdown()).await;
        self.agent.stop().await;
    }
}

/// A command that writes so many numbered lines, with a pause after each.
fn count_to(lines: u32, mark: &str) -> ExecuteCommand {
    let text = format!("i=1; while [ $i -le {lines} ]; do echo {mark} $i; i=$((i+1)); sleep 0.05; done");
    ExecuteCommand::new(text).with_timeout(LIMIT)
}

fn counted(lines: u32, mark: &str) -> String {
    (1..=lines).map(|line| format!("{mark} {line}\n")).collect()
}

#[tokio::test]
async fn an_actor_that_panics_is_rebuilt_and_nobody_else_notices() {
    let scene = Scene::new().await;
    let (workspace, neighbour) = (&scene.workspace, &scene.neighbour);
    let running = tokio::spawn(workspace.execute_command(count_to(20, "line")));
    let beside = tokio::spawn(neighbour.execute_command(count_to(20, "beside")));
    while scene.fleet.status().await.running_commands < 2 {
        tokio::task::yield_now().await;
    }
    let before = scene.snapshot().await;

    let lost = workspace.ask(PanicInHandler);
    // These wait in the mailbox while the actor is being rebuilt.
    let behind = workspace.execute_command("echo behind");
    let last = workspace.execute_command("echo last");
    let error = within(lost).await.unwrap_err();
    assert_eq!(error.workspace, "w");
    assert_eq!(error.effect, Effect::NotSent);
    assert!(matches!(&error.kind, ErrorKind::Panicked { reason } if reason.contains("panicked")), "{error}");
    assert!(error.is_retryable(), "nothing was sent, and the actor comes back");
    assert_eq!(within(behind).await.unwrap().stdout, "behind\n");
    assert_eq!(within(last).await.unwrap().stdout, "last\n");

    // What ran goes on, and so does whoever it is.
    assert_eq!(within(running).await.unwrap().unwrap().stdout, counted(20, "line"));
    assert_eq!(within(beside).await.unwrap().unwrap().stdout, counted(20, "beside"));
    let after = scene.snapshot().await;
    assert_eq!((after.restarts, after.commands_started), (1, before.commands_started + 2));
    assert!(after.last_failure.unwrap().contains("injected into a handler"));
    assert_eq!(scene.fleet.list(Selector::label("tier", "gpu")).await.len(), 1);
    assert!(scene.fleet.workspace("w").await.unwrap().alive().await.is_ok());
    assert_eq!(scene.fleet.snapshots(Selector::names(["neighbour"])).await[0].restarts, 0);
    assert_eq!(scene.fleet.status().await.totals.restarts, 1);
    scene.end().await;
}

#[tokio::test]
async fn the_order_of_steps_survives_a_panic() {
    let scene = Scene::new().await;
    let workspace = &scene.workspace;
    let held = ExecuteCommand::new("sleep 0.4; echo 1 >> order").with_hold_until(HoldUntil::Finished);
    let step =
        |number: u32| ExecuteCommand::new(format!("echo {number} >> order")).with_hold_until(HoldUntil::Finished);
    let first = workspace.execute_command(held);
    let waiting = [2, 3].map(|number| workspace.execute_command(step(number)));
    let lost = workspace.ask(PanicInHandler);
    let later = [4, 5].map(|number| workspace.execute_command(step(number)));
    within(lost).await.unwrap_err();
    within(first).await.unwrap();
    for command in waiting.into_iter().chain(later) {
        assert!(within(command).await.unwrap().success());
    }
    assert_eq!(workspace.execute_command("cat order").await.unwrap().stdout, "1\n2\n3\n4\n5\n");
    scene.end().await;
}

#[tokio::test]
async fn a_step_that_panics_says_so_and_the_next_one_has_its_turn() {
    let scene = Scene::new().await;
    let lost = scene.workspace.ask(PanicInStep);
    let next = scene.workspace.execute_command("echo next");
    let error = within(lost).await.unwrap_err();
    assert!(
        matches!(&error.kind, ErrorKind::Panicked { reason } if reason.contains("injected into a step")),
        "{error}"
    );
    assert_eq!(error.effect, Effect::MaybeSent);
    assert!(!error.is_retryable());
    assert_eq!(within(next).await.unwrap().stdout, "next\n");
    assert_eq!(scene.snapshot().await.restarts, 0, "a step is not the actor");
    scene.end().await;
}

#[tokio::test]
async fn a_watch_that_panics_loses_no_output_and_repeats_none() {
    let scene = Scene::new().await;
    scene.workspace.ask(Inject { watch: 3, ..Inject::default() }).await.unwrap();
    let beside = tokio::spawn(scene.workspace.execute_command(count_to(30, "beside")));
    let faulty = within(follow(&scene.workspace, count_to(30, Faults::MARK))).await;
    assert_eq!(faulty.0, counted(30, Faults::MARK), "what the follower got");
    let result = faulty.1;
    assert_eq!((result.stdout, result.exit_code, result.truncated), (counted(30, Faults::MARK), 0, false));
    assert_eq!(within(beside).await.unwrap().unwrap().stdout, counted(30, "beside"));
    let after = scene.snapshot().await;
    assert_eq!((after.command_restarts, after.restarts, after.running_commands), (3, 0, 0));
    scene.end().await;
}

/// Runs a command and returns what its follower got and its result.
async fn follow(workspace: &Workspace, command: ExecuteCommand) -> (String, crate::CommandResult) {
    let (mut stream, mut got) = (workspace.follow_command(command), String::new());
    while let Some(event) = stream.next().await {
        if let CommandEvent::Output { text, .. } = event {
            got.push_str(&text);
        }
    }
    (got, stream.result().await.unwrap())
}

#[tokio::test]
async fn the_deadline_of_a_command_survives_a_panic() {
    let scene = Scene::new().await;
    scene.workspace.ask(Inject { watch: 1, ..Inject::default() }).await.unwrap();
    let command = ExecuteCommand::new(format!("echo {}; sleep 60", Faults::MARK)).with_timeout(Duration::from_secs(2));
    let result = within(scene.workspace.execute_command(command)).await.unwrap();
    assert!(result.timeout_occurred, "{result:?}");
    assert!(result.duration < Duration::from_secs(20), "{result:?}");
    assert_eq!(result.stdout, format!("{}\n", Faults::MARK));
    assert_eq!(scene.snapshot().await.command_restarts, 1);
    scene.end().await;
}

#[tokio::test]
async fn a_watch_that_panics_for_ever_ends_as_unknown_and_the_workspace_goes_on() {
    let scene = Scene::new().await;
    scene.workspace.ask(Inject { watch: u32::MAX, ..Inject::default() }).await.unwrap();
    let error = within(scene.workspace.execute_command(count_to(3, Faults::MARK))).await.unwrap_err();
    assert!(matches!(&error.kind, ErrorKind::OutcomeUnknown { command_id: Some(_), .. }), "{error}");
    assert!(error.to_string().contains("injected into a watch"), "{error}");
    let after = scene.snapshot().await;
    assert_eq!((after.command_restarts, after.running_commands), (Limits::ACTOR.most as u64, 0));
    assert_eq!(within(scene.workspace.execute_command("echo on")).await.unwrap().stdout, "on\n");
    scene.end().await;
}

#[tokio::test]
async fn a_feed_that_panics_leaves_nobody_waiting() {
    let scene = Scene::new().await;
    scene.workspace.ask(Inject { feed: 4, ..Inject::default() }).await.unwrap();
    let running = ["a", "b"].map(|mark| tokio::spawn(scene.workspace.execute_command(count_to(5, mark))));
    for (command, mark) in running.into_iter().zip(["a", "b"]) {
        assert_eq!(within(command).await.unwrap().unwrap().stdout, counted(5, mark));
    }
    assert!(scene.snapshot().await.last_failure.unwrap().contains("injected into the feed"));
    scene.end().await;
}

#[tokio::test]
async fn a_panic_at_the_event_socket_is_rested_after_and_loses_nothing() {
    let scene = Scene::new().await;
    scene.workspace.ask(Inject { push: u32::MAX, ..Inject::default() }).await.unwrap();
    // The first asks the server what it can do; the second is long enough for three sockets, and not for many.
    for lines in [30, 60] {
        let result = within(scene.workspace.execute_command(count_to(lines, "line"))).await.unwrap();
        assert_eq!(result.stdout, counted(lines, "line"));
    }
    let after = scene.snapshot().await;
    assert!(after.last_failure.unwrap().contains("injected into the event socket"));
    assert!((1..=6).contains(&after.pushed_events), "{} panics", after.pushed_events);
    scene.end().await;
}

#[tokio::test]
async fn an_actor_that_panics_too_often_is_stopped_and_says_why() {
    let scene = Scene::new().await;
    let running = tokio::spawn(scene.workspace.execute_command("sleep 120"));
    while scene.fleet.status().await.running_commands < 1 {
        tokio::task::yield_now().await;
    }
    // All of them are in the mailbox from the first panic on.
    let panics: Vec<_> = (0..=Limits::ACTOR.most).map(|_| scene.workspace.ask(PanicInHandler)).collect();
    let behind = scene.workspace.execute_command("echo behind");
    for panic in panics {
        within(panic).await.unwrap_err();
    }
    let told = |error: crate::WorkspaceError| match error.kind {
        ErrorKind::Stopped { reason } if error.effect == Effect::NotSent => reason,
        _ => panic!("{error}"),
    };
    for reason in [told(within(behind).await.unwrap_err()), told(within(scene.workspace.alive()).await.unwrap_err())] {
        assert!(reason.contains("injected into a handler") && reason.contains("remove it"), "{reason}");
    }
    assert!(within(running).await.unwrap().unwrap().stopped, "nothing runs on without a workspace");
    let after = scene.snapshot().await;
    assert_eq!(after.restarts, Limits::ACTOR.most as u64);
    assert!(after.stopped.is_some());
    assert_eq!(scene.fleet.status().await.stopped_workspaces, 1);
    // It can be replaced, and what was counted stays.
    within(scene.fleet.remove("w")).await.unwrap();
    let again = WorkspaceConfig::new("w", Connection::new(&scene.agent.url()).unwrap());
    let again = scene.fleet.add(again).await.unwrap();
    assert_eq!(within(again.execute_command("echo again")).await.unwrap().stdout, "again\n");
    assert_eq!(scene.fleet.status().await.totals.restarts, Limits::ACTOR.most as u64);
    scene.end().await;
}
