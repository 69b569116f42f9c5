//! Commands that are ended: by their time, by a stop, by nobody waiting for them any more.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use workspace_fleet::{
    CommandStream,
    messages::{CommandEvent, ExecuteCommand, OnDrop},
    protocol::EventId,
};

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
};

pub(crate) const CASES: &[Case] = &[
    case!(time_is_held_to).alone(),
    case!(a_trap_is_heard_out),
    case!(what_ignores_the_request_is_killed),
    case!(a_timeout_ends_every_process).within(3),
    case!(a_stop_ends_every_process).within(3),
    case!(a_stopped_command_keeps_its_output),
    case!(in_time_is_no_timeout),
    case!(a_started_command_is_ended_in_time),
    case!(dropping_the_future_stops_the_command),
    case!(dropping_the_stream_stops_the_command),
    case!(a_detached_command_goes_on),
    case!(removing_the_workspace_stops_its_commands),
];

/// Commands that are hard to end; each writes `begun` first. One has a shell that exits at once.
const STUBBORN: &[(&str, &str)] = &[
    ("a loop of builtins", "echo begun; while :; do :; done"),
    ("a child in a session of its own", "echo begun; setsid sleep 600; :"),
    ("children in the background", "echo begun; sleep 600 & setsid sleep 600 & wait"),
    ("a child whose shell has exited", "sleep 600 & echo begun"),
    ("such a child in a session of its own", "setsid sh -c 'sleep 600; :' & echo begun"),
    ("a pipeline", "echo begun; yes | sleep 600 | cat"),
    ("a shell that ignores TERM", "trap '' TERM; echo begun; while :; do sleep 0.05; done"),
];

async fn time_is_held_to(sandbox: &Sandbox) {
    // Without a stop route the command is ended by another one, which has to be started first.
    let grace = if sandbox.kind().is_old() { 0.8 } else { 0.4 };
    for seconds in [0.5, 1.9] {
        let mut took = Vec::new();
        for _ in 0..3 {
            let command = ExecuteCommand::new("echo part; echo complaint >&2; sleep 600; echo never")
                .with_timeout(Duration::from_secs_f64(seconds));
            let began = Instant::now();
            let result = sandbox.run(command).await;
            took.push(began.elapsed().as_secs_f64());
            assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("part\n", "complaint\n"));
            assert!(result.timeout_occurred && !result.stopped && !result.success(), "{result:?}");
            assert_eq!((result.exit_code, result.raw_exit_code), (-1, Some(-15)), "{result:?}");
            assert!(result.duration.as_secs_f64() >= seconds, "not before its time: {result:?}");
            assert!(sandbox.is_quiet().await);
        }
        // A machine that is busy otherwise is no fault of the workspace.
        let best = took.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(best < seconds + grace, "a command of {seconds} s took {took:?}");
    }
}

async fn a_trap_is_heard_out(sandbox: &Sandbox) {
    let command = "trap 'echo cleaning; echo done >&2; exit 3' TERM; echo begun; sleep 600 & wait";
    let result = sandbox.run(ExecuteCommand::new(command).with_timeout(Duration::from_millis(700))).await;
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("begun\ncleaning\n", "done\n"));
    assert!(result.timeout_occurred, "{result:?}");
    assert_eq!((result.exit_code, result.raw_exit_code), (-1, Some(3)));
    assert!(sandbox.is_quiet().await);
}

async fn what_ignores_the_request_is_killed(sandbox: &Sandbox) {
    let began = Instant::now();
    let command = ExecuteCommand::new("trap '' TERM INT HUP; echo begun; while :; do sleep 0.05; done");
    let result = sandbox.run(command.with_timeout(Duration::from_millis(500))).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(result.timeout_occurred, "{result:?}");
    assert_eq!((result.stdout.as_str(), result.exit_code), ("begun\n", -1));
    assert!(sandbox.is_quiet().await);
}

async fn a_timeout_ends_every_process(sandbox: &Sandbox) {
    for (what, command) in STUBBORN {
        let result = sandbox.run(ExecuteCommand::new(*command).with_timeout(Duration::from_millis(700))).await;
        assert!(result.timeout_occurred, "{what}: {result:?}");
        assert_eq!((result.exit_code, result.stdout.as_str()), (-1, "begun\n"), "{what}");
        assert!(sandbox.is_quiet().await, "{what}: something is left");
    }
}

async fn a_stop_ends_every_process(sandbox: &Sandbox) {
    for (what, command) in STUBBORN {
        let mut stream = sandbox.workspace.follow_command(ExecuteCommand::new(*command).with_timeout(None));
        let id = started(&mut stream).await;
        assert!(sandbox.is_busy().await, "{what}");
        let began = Instant::now();
        sandbox.workspace.stop_command(id).await.unwrap();
        assert!(sandbox.is_quiet().await, "{what}: something is left");
        let result = stream.result().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(8), "{what}: {:?}", began.elapsed());
        assert!(!result.timeout_occurred, "{what}: {result:?}");
    }
}

async fn a_stopped_command_keeps_its_output(sandbox: &Sandbox) {
    let command = ExecuteCommand::new("echo part; echo complaint >&2; sleep 600; echo never").with_timeout(None);
    let mut stream = sandbox.workspace.follow_command(command);
    let id = started(&mut stream).await;
    assert!(sandbox.is_busy().await);
    // It sleeps, so it has written.
    assert!(crate::support::eventually(Duration::from_secs(10), || sandbox.runs("sleep 600")).await);
    sandbox.workspace.stop_command(id).await.unwrap();
    let result = stream.result().await.unwrap();
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("part\n", "complaint\n"));
    assert!(result.stopped && !result.timeout_occurred && !result.success(), "{result:?}");
    assert_eq!((result.exit_code, result.raw_exit_code), (-15, Some(-15)));
}

async fn in_time_is_no_timeout(sandbox: &Sandbox) {
    let command = ExecuteCommand::new("sleep 0.3; echo in time").with_timeout(Duration::from_secs(20));
    assert_eq!(sandbox.output(command).await, "in time\n");
    assert_eq!(
        sandbox.output(ExecuteCommand::new("sleep 0.1; echo unbounded").with_timeout(None)).await,
        "unbounded\n"
    );
}

async fn a_started_command_is_ended_in_time(sandbox: &Sandbox) {
    let command = ExecuteCommand::new("echo part; sleep 600").with_timeout(Duration::from_millis(700));
    let began = Instant::now();
    let id = sandbox.workspace.start_command(command).await.unwrap();
    assert!(sandbox.is_busy().await);
    assert!(sandbox.is_quiet().await, "nobody watches it, and its time is up");
    let took = began.elapsed();
    assert!(took > Duration::from_millis(700) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(sandbox.workspace.get_command_output(id).await.unwrap().stdout, "part\n");
}

async fn dropping_the_future_stops_the_command(sandbox: &Sandbox) {
    let running = tokio::spawn(sandbox.workspace.execute_command(ExecuteCommand::new("sleep 600").with_timeout(None)));
    assert!(sandbox.is_busy().await);
    running.abort();
    assert!(sandbox.is_quiet().await, "nobody waits for it any more");
}

async fn dropping_the_stream_stops_the_command(sandbox: &Sandbox) {
    let command = ExecuteCommand::new("while :; do echo line; sleep 0.01; done").with_timeout(None);
    let mut stream = sandbox.workspace.follow_command(command);
    started(&mut stream).await;
    assert!(sandbox.is_busy().await);
    drop(stream);
    assert!(sandbox.is_quiet().await, "nobody follows it any more");
}

async fn a_detached_command_goes_on(sandbox: &Sandbox) {
    let command = ExecuteCommand::new("sleep 600").with_timeout(None).with_on_drop(OnDrop::Detach);
    let mut stream = sandbox.workspace.follow_command(command);
    let id = started(&mut stream).await;
    assert!(sandbox.is_busy().await);
    drop(stream);
    let watched = async {
        while sandbox.workspace.observe().await.unwrap().running_commands > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), watched).await.expect("nobody watches it any more");
    assert!(!sandbox.is_quiet_within(Duration::from_secs(1)).await, "it was to go on");
    assert_eq!(sandbox.workspace.get_command_output(id).await.unwrap().exit_code, None);
    sandbox.workspace.stop_command(id).await.unwrap();
    assert!(sandbox.is_quiet().await);
}

async fn removing_the_workspace_stops_its_commands(sandbox: &Sandbox) {
    let running = tokio::spawn(sandbox.workspace.execute_command(ExecuteCommand::new("sleep 600").with_timeout(None)));
    assert!(sandbox.is_busy().await);
    sandbox.fleet.remove("main").await.unwrap();
    let result = running.await.unwrap().unwrap();
    assert!(result.stopped, "{result:?}");
    assert!(sandbox.is_quiet().await);
}

/// Waits for the start, and returns the command's id.
pub(crate) async fn started(stream: &mut CommandStream) -> EventId {
    match stream.next().await {
        Some(CommandEvent::Started { command_id }) => command_id,
        other => panic!("{other:?} instead of the start"),
    }
}
