//! Jobs whose workspaces are killed or removed in the middle.

use std::{fs, time::Duration};

use workspace_fleet::{
    Connection, Outcome, RunSpec, Selector, WorkspaceConfig,
    fleet::{Job, JobStep, RunEvent, RunEventKind, RunOperation},
    messages::{ExecuteCommand, FileDownload},
};

use crate::{
    sandboxes::{Sandboxes, count, end_of, eventually, finished, most_at_once, summary},
    servers::Agent,
    support::processes,
};

/// Longer than so many jobs take on a machine that has much else to do.
const LONG: Duration = Duration::from_secs(180);

const LOST: usize = 5;

fn run(command: impl Into<String>) -> JobStep {
    JobStep::new(RunOperation::Execute(ExecuteCommand::new(command).with_timeout(None)))
}

/// A job that runs on any workspace; on those that will be lost it hangs. A third of all jobs fail.
fn job(sandboxes: &Sandboxes, number: usize) -> Job {
    let shared = sandboxes.shared("").display().to_string();
    let fails = if number.is_multiple_of(3) { "exit 3" } else { "true" };
    let work = format!(
        "mkdir lock || exit 9; case $W in lost*) touch {shared}$W.on; sleep 1000;; esac; echo $J >> {shared}ran/$J; {fails}"
    );
    let name = format!("j{number}");
    let log = FileDownload::new(format!("{shared}ran/{name}"), sandboxes.shared("out").join("{job}"));
    Job::new([run(work)])
        .with_name(&name)
        .with_env("J", "{job}")
        .with_env("W", "{workspace}")
        .with_finally([run("rmdir lock"), JobStep::new(RunOperation::Download(log))])
}

/// Loses one workspace in each of the ways that there are.
async fn lose(sandboxes: &Sandboxes, agents: &mut [Agent]) {
    for (number, agent) in agents.iter_mut().enumerate() {
        let name = format!("lost{number}");
        let on = sandboxes.shared(&format!("{name}.on"));
        eventually("no job begins there", || on.exists()).await;
        if number == 4 {
            sandboxes.fleet.remove(&name).await.unwrap();
            continue;
        }
        agent.kill();
        eventually("something survives", || !kill_all_in(agent)).await;
        // Two stay away; behind the address of the others is a new sandbox.
        if number >= 2 {
            agent.restart();
        }
    }
}

/// Kills what runs in the agent's directory, and says whether there was anything.
fn kill_all_in(agent: &Agent) -> bool {
    let processes = processes::running_in(&agent.root());
    for process in &processes {
        let pid = process.split(':').next().and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw);
        // It may have ended.
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
    }
    !processes.is_empty()
}

async fn happened(count: usize, moves: bool) -> (Sandboxes, Vec<RunEvent>) {
    let sandboxes = Sandboxes::start(40 - LOST).await;
    for folder in ["ran", "out"] {
        fs::create_dir(sandboxes.shared(folder)).unwrap();
    }
    let mut agents: Vec<_> = (0..LOST).map(|_| Agent::start(&[])).collect();
    for (number, agent) in agents.iter().enumerate() {
        let config = WorkspaceConfig::new(format!("lost{number}"), Connection::new(&agent.url()).unwrap());
        let outage = Duration::from_secs(if number < 2 { 2 } else { 30 });
        sandboxes.fleet.add(config.with_max_outage(outage)).await.unwrap();
    }
    let jobs = (0..count).map(|number| job(&sandboxes, number)).collect::<Vec<_>>();
    let spec = RunSpec::jobs(Selector::all(), jobs).with_fanout(40).with_move_lost_jobs(moves);
    let happened = tokio::spawn(futures::StreamExt::collect::<Vec<_>>(sandboxes.fleet.run(spec)));
    lose(&sandboxes, &mut agents).await;
    let happened = tokio::time::timeout(LONG, happened).await.expect("the run does not end").unwrap();
    assert_eq!(summary(&happened).total, count);
    for workspace in (0..40 - LOST).map(|number| format!("w{number}")) {
        assert_eq!(most_at_once(&happened, |name| name == workspace), 1);
    }
    (sandboxes, happened)
}

/// Checks that every other job ran once, to its own end, and left its log.
fn check_others(sandboxes: &Sandboxes, happened: &[RunEvent], lost: &[&str]) {
    for number in 0..summary(happened).total {
        let name = format!("j{number}");
        if lost.contains(&&*name) {
            continue;
        }
        let expected = if number.is_multiple_of(3) { Outcome::Failed } else { Outcome::Succeeded };
        let ended = end_of(happened, &name);
        assert_eq!(ended.outcome, expected, "{ended:?}");
        assert_eq!(sandboxes.read(&format!("ran/{name}")), format!("{name}\n"), "it ran once");
        assert_eq!(sandboxes.read(&format!("out/{name}")), format!("{name}\n"), "its log is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_lost_workspaces_end_as_lost_and_the_others_do_not_notice() {
    let (sandboxes, happened) = happened(500, false).await;
    let mut lost = Vec::new();
    for target in finished(&happened).into_iter().filter(|target| target.target.workspace.starts_with("lost")) {
        let error = target.error.as_ref().unwrap_or_else(|| panic!("without a reason: {target:?}"));
        let number: usize = target.target.workspace[4..].parse().unwrap();
        // Nobody can tell what became of a command on a server that does not come back.
        let expected = if number < 2 { Outcome::OutcomeUnknown } else { Outcome::Gone };
        assert_eq!(target.outcome, expected, "{error}");
        lost.push(target.target.label());
    }
    assert_eq!(lost.len(), LOST, "one job each, and none after it: {:?}", summary(&happened));
    check_others(&sandboxes, &happened, &lost);
    sandboxes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_lost_workspaces_are_repeated_elsewhere_when_asked_for() {
    let (sandboxes, happened) = happened(100, true).await;
    assert_eq!(count(&happened, |event| matches!(event, RunEventKind::TargetRetried(_))), LOST);
    assert!(finished(&happened).iter().all(|target| target.target.workspace.starts_with('w')));
    check_others(&sandboxes, &happened, &[]);
    sandboxes.end().await;
}
