//! Many commands through a proxy that spoils one request in ten at random.
//!
//! `WSFLEET_SOAK_COMMANDS` says how many there are (1,000), `WSFLEET_SOAK_LANES` how many each workspace has at once (2), and
//! `WSFLEET_SOAK_SEED` repeats the faults of another run.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use workspace_fleet::{Workspace, messages::ExecuteCommand};

use crate::{
    scene::{PATIENCE, Scene, TOO_LONG, alone, impatient, number},
    support::{
        eventually,
        held::Held,
        pattern,
        proxy::{Act, Fault, Part, Proxy, Request, Stage},
    },
};

const WORKSPACES: usize = 16;

/// One command that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// How much more memory may be taken at the end than after a third: the runtime keeps a little of what was busy.
const MEMORY: u64 = 8 << 20;

#[test]
fn after_many_commands_with_random_faults_each_result_is_right_and_nothing_is_left() {
    alone(soak());
}

async fn soak() {
    let commands = usize::try_from(number("WSFLEET_SOAK_COMMANDS", 1_000)).unwrap();
    let lanes_each = number("WSFLEET_SOAK_LANES", 2);
    let seed = number("WSFLEET_SOAK_SEED", fastrand::u64(..));
    println!("WSFLEET_SOAK_SEED={seed}");
    let scene = Scene::new().await;
    let proxy = Proxy::start(&scene.url()).await.unwrap();
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    proxy.judge(move |request| judge(request, &mut random.lock().unwrap()));
    let (next, third, began) = (AtomicUsize::new(0), Mutex::new(None), Instant::now());
    let lane = async |workspace: Workspace, at: usize| {
        let mut problems = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= commands {
                return problems;
            }
            if number == commands / 3 {
                *third.lock().unwrap() = Some(Held::now());
            }
            let ended = tokio::time::timeout(LIMIT, one(&workspace, at, number)).await;
            let ended = ended.unwrap_or_else(|_| Err("it hangs".to_owned()));
            problems.extend(ended.err().map(|wrong| format!("command {number}: {wrong}")));
        }
    };
    let mut lanes = Vec::new();
    for at in 0..WORKSPACES {
        let mut config = impatient(&format!("w{at}"), &proxy.url(), scene.root.path());
        // Many faults in a row are bad luck here, and no outage.
        config.max_outage = LIMIT;
        config.max_concurrent_steps = usize::try_from(lanes_each).unwrap();
        let workspace = scene.fleet.add(config).await.unwrap();
        lanes.extend((0..lanes_each).map(|_| lane(workspace.clone(), at)));
    }
    let mut problems: Vec<String> = join_all(lanes).await.into_iter().flatten().collect();
    let (early, late, took) = (third.lock().unwrap().take().unwrap(), Held::now(), began.elapsed());
    println!(
        "{commands} commands in {took:?}, {} faults; {early:?} after a third, {late:?} at the end",
        proxy.spoilt()
    );
    if late.memory > early.memory + MEMORY {
        problems.push(format!("memory grows: {early:?}, then {late:?}"));
    }
    for at in 0..WORKSPACES {
        scene.fleet.remove(&format!("w{at}")).await.unwrap();
    }
    // The proxy sees a moment later that they were closed.
    if !eventually(PATIENCE, || proxy.open() == 0).await {
        problems.push(format!("{} connections are left", proxy.open()));
    }
    proxy.release().await;
    problems.extend(scene.quiet().await);
    problems.extend(counted(scene.root.path(), commands));
    drop(proxy);
    problems.extend(scene.end().await);
    assert!(problems.is_empty(), "{} problems with seed {seed}:\n{}", problems.len(), problems.join("\n"));
}

/// Runs one command, which has output and an exit code of its own.
async fn one(workspace: &Workspace, at: usize, number: usize) -> Result<(), String> {
    let lines = if number.is_multiple_of(7) { 3_000 } else { 1 + number as u64 % 3 };
    let command = format!("echo {number} >>ran-{at}; echo {number}; seq {lines} >&2; exit {}", number % 5);
    let result = workspace.execute_command(ExecuteCommand::new(command)).await.map_err(|error| error.to_string())?;
    let expected = (format!("{number}\n"), pattern::seq(1, lines), number as i32 % 5);
    let right = (&result.stdout, &result.stderr, result.exit_code) == (&expected.0, &expected.1, expected.2);
    if right && !result.truncated { Ok(()) } else { Err(format!("{result:?}")) }
}

/// Commands that did not run exactly once.
fn counted(root: &Path, commands: usize) -> Vec<String> {
    let mut runs = vec![0; commands];
    for at in 0..WORKSPACES {
        let ran = std::fs::read_to_string(root.join(format!("ran-{at}"))).unwrap_or_default();
        ran.lines().for_each(|line| runs[line.parse::<usize>().unwrap()] += 1);
    }
    let wrong = runs.iter().enumerate().filter(|(_, runs)| **runs != 1);
    wrong.map(|(number, runs)| format!("command {number} ran {runs} times")).collect()
}

/// One request in ten is spoilt; one in a hundred of those so that the client has to wait for its patience to end.
fn judge(request: &Request<'_>, random: &mut fastrand::Rng) -> Option<Fault> {
    if random.u8(..100) >= 10 {
        return None;
    }
    let is_start = request.path.contains("/start_bash_command");
    let stages = [Stage::RequestHead, Stage::Unanswered, Stage::AnswerHead, Stage::AnswerBody(Part::Half), Stage::Idle];
    let acts = [
        Act::Reset,
        Act::Close,
        Act::HalfClose,
        Act::Garbage,
        Act::Pause(Duration::from_millis(30)),
        Act::Throttle(100, Duration::from_millis(1)),
    ];
    Some(match random.u8(..100) {
        0 => Fault::At(Stage::Unanswered, Act::Silence),
        1 if is_start => Fault::DeliverLate(TOO_LONG),
        2 if is_start => Fault::DeliverWhenGivenUp,
        3..20 if is_start => Fault::DeliverAfter(random.u32(..20)),
        20..30 => Fault::AnswerInstead([500, 502, 504][random.usize(..3)]),
        30..40 => Fault::Refuse([429, 503][random.usize(..2)], 0),
        _ => Fault::At(stages[random.usize(..stages.len())], acts[random.usize(..acts.len())]),
    })
}
