//! A command is picked up again: later, from another process, from any position of its output.

use std::time::Duration;

use futures::StreamExt as _;
use workspace_fleet::{
    ErrorKind, Fleet, Workspace,
    messages::{AttachCommand, CommandEvent, ExecuteCommand, OnDrop},
    protocol::EventId,
};

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
    support::{pattern, server::Kind},
};

pub(crate) const CASES: &[Case] = &[
    case!(from_another_fleet_after_the_first_has_ended),
    case!(from_a_position),
    case!(beside_the_watch_that_started_it),
    case!(without_a_head),
    case!(an_unknown_command),
    case!(dropped_it_runs_on_or_is_stopped),
    case!(large_output_from_its_middle).within(5),
    case!(its_time_counts_from_its_own_beginning),
];

/// Another fleet on the same server, as another process has it.
async fn elsewhere(sandbox: &Sandbox) -> (Fleet, Workspace) {
    let fleet = Fleet::builder().worker_threads(1).start().unwrap();
    let workspace = fleet.add(sandbox.config("elsewhere", &sandbox.server.url())).await.unwrap();
    (fleet, workspace)
}

/// A command that goes on when its fleet ends.
fn detached(command: &str) -> ExecuteCommand {
    ExecuteCommand::new(command).with_timeout(Duration::from_secs(60)).with_on_drop(OnDrop::Detach)
}

async fn from_another_fleet_after_the_first_has_ended(sandbox: &Sandbox) {
    let (first, workspace) = elsewhere(sandbox).await;
    let command = "echo out; echo err >&2; while [ ! -e go ]; do sleep 0.05; done; echo end; exit 7";
    let id = workspace.start_command(detached(command)).await.unwrap();
    first.shutdown().await;
    let (second, workspace) = elsewhere(sandbox).await;
    let mut attached = workspace.attach(id);
    assert_eq!(attached.next().await, Some(CommandEvent::Started { command_id: id }));
    std::fs::write(sandbox.path("go"), "").unwrap();
    let result = attached.result().await.unwrap();
    assert_eq!((result.stdout.as_str(), result.stderr.as_str(), result.exit_code), ("out\nend\n", "err\n", 7));
    assert_eq!((result.command.as_str(), result.command_id, result.raw_exit_code), (command, id, Some(7)));
    assert!(!result.stopped && !result.timeout_occurred && !result.truncated, "{result:?}");
    // And once more, now that it has ended.
    let again = workspace.attach(id).result().await.unwrap();
    assert_eq!((again.stdout, again.stderr, again.exit_code), (result.stdout, result.stderr, 7));
    let seen = workspace.observe().await.unwrap();
    assert_eq!((seen.commands_started, seen.commands_finished, seen.running_commands), (0, 0, 0));
    second.shutdown().await;
}

async fn from_a_position(sandbox: &Sandbox) {
    let id = sandbox.workspace.start_command("printf 0123456789; printf 'äöü' >&2").await.unwrap();
    let whole = sandbox.workspace.attach(id).result().await.unwrap();
    assert_eq!((whole.stdout_bytes, whole.stderr_bytes), (10, 6));
    for (from, expected) in [((0, 0), ("0123456789", "äöü")), ((4, 2), ("456789", "öü")), ((10, 6), ("", ""))] {
        let attach = AttachCommand::new(id).from_position(from.0, from.1);
        let rest = sandbox.workspace.ask(attach).await.unwrap();
        assert_eq!((rest.stdout.as_str(), rest.stderr.as_str()), expected, "{from:?}");
        assert_eq!((rest.stdout_bytes, rest.stderr_bytes, rest.truncated), (10, 6, false), "{from:?}");
    }
    // Within a character, and past the end.
    let attach = AttachCommand::new(id).from_position(99, 3);
    let rest = sandbox.workspace.attach(attach).result().await.unwrap();
    assert_eq!((rest.stdout.as_str(), rest.stderr.as_str(), rest.stdout_bytes), ("", "öü", 10));
}

async fn beside_the_watch_that_started_it(sandbox: &Sandbox) {
    let follow = sandbox.workspace.follow_command("while [ ! -e go ]; do sleep 0.05; done; echo done; exit 3");
    let mut follow = Box::pin(follow);
    let Some(CommandEvent::Started { command_id }) = follow.next().await else { panic!("it has started") };
    let attached: Vec<_> = (0..3).map(|_| sandbox.workspace.ask(AttachCommand::new(command_id))).collect();
    let attached = tokio::spawn(futures::future::join_all(attached));
    let there = async {
        while sandbox.workspace.observe().await.unwrap().running_commands < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), there).await.expect("all of them watch it");
    std::fs::write(sandbox.path("go"), "").unwrap();
    let mut text = String::new();
    while let Some(event) = follow.next().await {
        if let CommandEvent::Output { text: more, .. } = event {
            text.push_str(&more);
        }
    }
    assert_eq!(text, "done\n");
    for result in attached.await.unwrap() {
        let result = result.unwrap();
        assert_eq!((result.stdout.as_str(), result.exit_code, result.stopped), ("done\n", 3, false));
    }
}

async fn without_a_head(sandbox: &Sandbox) {
    let config = sandbox.config("bare", &sandbox.server.url()).with_command_head(false);
    let workspace = sandbox.add(config).await;
    let id = workspace.start_command(detached("echo bare; sleep 0.3; echo end")).await.unwrap();
    let result = workspace.attach(id).result().await.unwrap();
    assert_eq!((result.stdout.as_str(), result.command.as_str()), ("bare\nend\n", "echo bare; sleep 0.3; echo end"));
}

async fn an_unknown_command(sandbox: &Sandbox) {
    let id = EventId::random();
    let error = sandbox.workspace.attach(id).result().await.unwrap_err();
    assert!(matches!(error.kind, ErrorKind::NotFound { .. }), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("main: attach: ") && text.contains(&id.to_string()), "{text}");
}

async fn dropped_it_runs_on_or_is_stopped(sandbox: &Sandbox) {
    let id = sandbox.workspace.start_command(detached("echo begun; sleep 600")).await.unwrap();
    let mut attached = sandbox.workspace.attach(id);
    while !matches!(attached.next().await, Some(CommandEvent::Started { .. })) {}
    assert!(crate::support::eventually(Duration::from_secs(10), || sandbox.runs("sleep 600")).await);
    drop(attached);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(sandbox.runs("sleep 600"), "whoever looked on has gone, and nothing else has changed");
    let (fleet, workspace) = elsewhere(sandbox).await;
    let mut attached = workspace.attach(AttachCommand::new(id).with_on_drop(OnDrop::Stop));
    while !matches!(attached.next().await, Some(CommandEvent::Started { .. })) {}
    let onlooker = sandbox.workspace.ask(AttachCommand::new(id));
    drop(attached);
    let seen = onlooker.await.unwrap();
    assert!(!seen.success() && !seen.truncated, "{seen:?}");
    assert!(sandbox.is_quiet().await);
    fleet.shutdown().await;
}

async fn its_time_counts_from_its_own_beginning(sandbox: &Sandbox) {
    let id = sandbox.workspace.start_command(detached("echo begun; sleep 600").with_timeout(None)).await.unwrap();
    let (fleet, workspace) = elsewhere(sandbox).await;
    assert!(crate::support::eventually(Duration::from_secs(10), || sandbox.runs("sleep 600")).await);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let began = std::time::Instant::now();
    let ended = workspace.attach(AttachCommand::new(id).with_timeout(Duration::from_secs(2))).result().await.unwrap();
    assert!(ended.timeout_occurred && !ended.stopped && ended.exit_code == -1, "{ended:?}");
    assert_eq!(ended.stdout, "begun\n");
    assert!(ended.duration >= Duration::from_secs(2), "{ended:?}");
    // Most of its time was over when this began.
    assert!(began.elapsed() < ended.duration, "{:?} of {:?}", began.elapsed(), ended.duration);
    assert!(sandbox.is_quiet().await);
    // That its server has ended it is seen in time as well as out of time.
    let again = workspace.attach(AttachCommand::new(id).with_timeout(Duration::from_secs(2))).result().await.unwrap();
    assert!(again.timeout_occurred && again.exit_code == -1, "{again:?}");
    let longer = workspace.attach(AttachCommand::new(id).with_timeout(Duration::from_secs(60))).result().await.unwrap();
    assert!(!longer.timeout_occurred && longer.exit_code < 0, "{longer:?}");
    fleet.shutdown().await;
}

async fn large_output_from_its_middle(sandbox: &Sandbox) {
    let (first, last) = (1_000_000_000u64, 1_000_399_999u64);
    let expected = pattern::seq(first, last);
    let id = sandbox.workspace.start_command(detached(&format!("seq {first} {last}"))).await.unwrap();
    let middle = expected.len() as u64 / 2;
    let attach = AttachCommand::new(id).from_position(middle, 0);
    let result = sandbox.workspace.ask(attach).await.unwrap();
    assert!(result.stdout == expected[middle as usize..], "{} bytes", result.stdout.len());
    assert_eq!(result.stdout_bytes, expected.len() as u64);
    assert!(sandbox.kind() != Kind::Embedded || result.exit_code == 0);
}
