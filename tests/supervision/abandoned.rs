//! Commands that have written much, and whose caller goes or gives up.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use workspace_fleet::{
    Outcome, RunSpec, Selector,
    fleet::{RunEventKind, TargetValue},
    messages::{CommandEvent, ExecuteCommand},
};

use crate::scene::{Scene, within};

/// How long it may take until nothing is left of a command: a second from TERM to KILL, and a slow machine.
const SOON: Duration = Duration::from_secs(15);

/// Writes more than can be read in no time, less than the agent keeps, and then does not end.
fn talkative() -> ExecuteCommand {
    ExecuteCommand::new("yes | head -c 400000000; sleep 600").with_timeout(None).with_max_output(1 << 20)
}

/// How much of it is taken before the caller has had enough.
const ENOUGH: usize = 16 << 20;

#[tokio::test]
async fn nothing_is_read_for_a_caller_that_has_gone() {
    let scene = Scene::new();
    let workspace = scene.add("w").await;
    let mut stream = workspace.follow_command(talkative());
    let mut taken = 0;
    while taken < ENOUGH {
        if let Some(CommandEvent::Output { text, .. }) = within(stream.next()).await {
            taken += text.len();
        }
    }
    let before = scene.fleet.status().await.totals.output_bytes;
    let dropped = Instant::now();
    drop(stream);
    scene.running(0).await;
    assert!(dropped.elapsed() < SOON, "{:?}", dropped.elapsed());
    let read = scene.fleet.status().await.totals.output_bytes - before;
    assert!(read < 64 << 20, "{read} bytes were read for nobody");
    assert!(scene.all_processes_end().await, "{:?}", scene.processes());
    scene.end().await;
}

#[tokio::test]
async fn a_cancelled_run_keeps_what_it_has_and_does_not_read_on_for_ever() {
    let scene = Scene::new();
    scene.add("w").await;
    let mut run = scene.fleet.run(RunSpec::command(Selector::all(), talkative()).with_stream_output(true));
    let (mut taken, mut cancelled, mut ended) = (0, None, None);
    while let Some(event) = within(run.next()).await {
        match event.kind {
            RunEventKind::Output { text, .. } => {
                taken += text.len();
                if taken > ENOUGH && cancelled.is_none() {
                    run.cancel();
                    cancelled = Some(Instant::now());
                }
            }
            RunEventKind::TargetFinished(finished) => ended = Some(finished),
            _ => {}
        }
    }
    let took = cancelled.unwrap().elapsed();
    assert!(took < SOON, "{took:?}");
    let ended = ended.unwrap();
    assert_eq!(ended.outcome, Outcome::Stopped, "{:?}", ended.error);
    let Some(TargetValue::Command(result)) = ended.value else { panic!("what was gathered is kept") };
    assert!(result.stopped && result.truncated && result.stdout.starts_with("y\ny\n"));
    assert!(result.stdout_bytes > ENOUGH as u64 && result.stdout_bytes < 400_000_000);
    assert!(scene.all_processes_end().await, "{:?}", scene.processes());
    scene.end().await;
}

#[tokio::test]
async fn nothing_is_read_for_a_run_that_was_dropped() {
    let scene = Scene::new();
    scene.add("w").await;
    let mut run = scene.fleet.run(RunSpec::command(Selector::all(), talkative()).with_stream_output(true));
    let mut taken = 0;
    while taken < ENOUGH {
        if let Some(RunEventKind::Output { text, .. }) = within(run.next()).await.map(|event| event.kind) {
            taken += text.len();
        }
    }
    let (before, dropped) = (scene.fleet.status().await.totals.output_bytes, Instant::now());
    drop(run);
    scene.running(0).await;
    assert!(dropped.elapsed() < SOON, "{:?}", dropped.elapsed());
    let read = scene.fleet.status().await.totals.output_bytes - before;
    assert!(read < 64 << 20, "{read} bytes were read for nobody");
    assert!(scene.all_processes_end().await, "{:?}", scene.processes());
    scene.end().await;
}
