//! Five hundred workspaces behind a gateway that refuses, times out, and delivers late.
//!
//! `WSFLEET_GATEWAY_HELD_SECONDS` says how long after the client has given up a late start is delivered (1), and
//! `WSFLEET_GATEWAY_ROUNDS` how many runs there are (2).

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use workspace_fleet::{
    Outcome, RunSpec, Selector,
    fleet::{RunEventKind, TargetFinished, TargetValue, raise_open_file_limit},
    messages::ExecuteCommand,
};

use crate::{
    scene::{ANSWER, PATIENCE, Scene, alone, impatient, number, runs},
    support::{
        eventually,
        proxy::{Fault, Proxy, Request},
    },
};

const WORKSPACES: usize = 500;

/// How many run at once.
const FANOUT: usize = 64;

/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn behind_a_hostile_gateway_each_command_runs_once() {
    alone(hostile_gateway());
}

async fn hostile_gateway() {
    raise_open_file_limit();
    let held = ANSWER + Duration::from_secs(number("WSFLEET_GATEWAY_HELD_SECONDS", 1));
    let rounds = number("WSFLEET_GATEWAY_ROUNDS", 2);
    let scene = Scene::new().await;
    let proxy = Proxy::everywhere(&scene.url()).await.unwrap();
    proxy.judge(move |request| judge(request, held));
    for at in 0..WORKSPACES {
        let address = proxy.url_at(u16::try_from(at + 1).unwrap());
        scene.fleet.add(impatient(&format!("w{at}"), &address, scene.root.path())).await.unwrap();
    }
    let mut problems = Vec::new();
    for round in 0..rounds {
        let began = Instant::now();
        let targets = tokio::time::timeout(LIMIT, run(&scene, round)).await.expect("the run hangs");
        println!("round {round}: {} targets in {:?}, {} faults", targets.len(), began.elapsed(), proxy.spoilt());
        problems.extend(targets.iter().filter_map(|target| wrong(target, round)));
        assert_eq!(targets.len(), WORKSPACES);
    }
    // 11 of 100 starts, those that were sent again left aside.
    assert!(u64::from(proxy.spoilt()) >= rounds * 55, "only {} starts were spoilt", proxy.spoilt());
    proxy.release().await;
    problems.extend(scene.quiet().await);
    for round in 0..rounds {
        for at in 0..WORKSPACES {
            let runs = runs(&scene.root.path().join(format!("counter-{round}-w{at}")));
            if runs != 1 {
                problems.push(format!("round {round}, w{at}: the command ran {runs} times"));
            }
        }
    }
    let removed = stream::iter(0..WORKSPACES).for_each_concurrent(FANOUT, |at| {
        let fleet = scene.fleet.clone();
        async move { fleet.remove(&format!("w{at}")).await.unwrap() }
    });
    removed.await;
    // The proxy sees a moment later that they were closed.
    assert!(eventually(PATIENCE, || proxy.open() == 0).await, "{} connections are left", proxy.open());
    drop(proxy);
    problems.extend(scene.end().await);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Of a hundred starts five are refused for a second, five are carried out and answered with 504, and one arrives when the
/// client has given up.
fn judge(request: &Request<'_>, held: Duration) -> Option<Fault> {
    if !request.path.contains("/start_bash_command") {
        return None;
    }
    match request.number % 100 {
        57 => Some(Fault::DeliverLate(held)),
        number if number % 20 == 3 => Some(Fault::Refuse(429, 1)),
        number if number % 20 == 11 => Some(Fault::AnswerInstead(504)),
        _ => None,
    }
}

async fn run(scene: &Scene, round: u64) -> Vec<TargetFinished> {
    let command = format!("echo ran >>counter-{round}-$NAME; echo hello from $NAME");
    let command = ExecuteCommand::new(command).with_env("NAME", "{workspace}");
    let run = scene.fleet.run(RunSpec::command(Selector::all(), command).with_fanout(FANOUT));
    let finished = run.filter_map(|event| async move {
        match event.kind {
            RunEventKind::TargetFinished(target) => Some(*target),
            _ => None,
        }
    });
    finished.collect().await
}

/// What is wrong with how a target ended. None of these faults keeps a command from its right end.
fn wrong(target: &TargetFinished, round: u64) -> Option<String> {
    let expected = format!("hello from {}\n", target.target.workspace);
    let right = match &target.value {
        Some(TargetValue::Command(result)) => target.outcome == Outcome::Succeeded && result.stdout == expected,
        _ => false,
    };
    (!right).then(|| format!("round {round}: {target:?}"))
}
