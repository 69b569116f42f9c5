//! Runs whose process is killed at any moment, and that another process goes on with, until they end.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use workspace_fleet::{
    Connection, Fleet, Outcome, OutputStream, RunSpec, Selector, WorkspaceConfig,
    fleet::{Job, JobStep, RunEvent, RunEventKind, RunOperation, RunProgress, TargetValue},
    messages::ExecuteCommand,
    protocol::EventId,
};

use crate::sandboxes::{Sandboxes, count, summary};

/// Where the process that carries a run out finds what it needs. Absent in the process of the tests.
const FOLDER: &str = "WSFLEET_TEST_RUN";

/// How often a process is killed; the one after that may go on to the end.
const KILLS: u32 = 12;

/// How long a run may take that is not killed any more.
const PATIENCE: Duration = Duration::from_secs(60);

const WORKSPACES: usize = 3;
const JOBS: usize = 8;
const LINES: usize = 12;

/// Counts itself, and writes lines for a while.
fn step(number: usize, then: &str) -> JobStep {
    let text = format!(
        "echo ran >>$SHARED/ran-$WHO-{number}; i=0; \
         while [ $i -lt {LINES} ]; do i=$((i+1)); echo {number} $WHO $i; echo error $i >&2; sleep 0.02; done; {then}"
    );
    JobStep::new(RunOperation::Execute(ExecuteCommand::new(text).with_timeout(PATIENCE)))
}

fn job(shared: &Path, who: &str, fails: bool) -> Job {
    Job::new([step(0, "true"), step(1, if fails { "exit 3" } else { "true" })])
        .with_finally([step(2, "true")])
        .with_env("SHARED", shared.display().to_string())
        .with_env("WHO", who)
}

/// The same on each workspace, or jobs over all of them of which every fourth fails, twice.
fn spec(shared: &Path, jobs: bool) -> RunSpec {
    let spec = if jobs {
        let job = |number: usize| job(shared, "{job}", number.is_multiple_of(4)).with_name(format!("j{number}"));
        RunSpec::jobs(Selector::all(), (0..JOBS).map(job))
    } else {
        RunSpec::each(Selector::all(), job(shared, "{workspace}", false))
    };
    // Another one each time: commands that were called off under it stay so on this machine.
    let id: EventId = fs::read_to_string(shared.join("run")).unwrap().parse().unwrap();
    spec.with_id(id).with_stream_output(true).with_retries(1)
}

fn stored(folder: &Path) -> Vec<RunEvent> {
    let text = fs::read_to_string(folder.join("events")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Not a test: what the process does that is killed.
#[tokio::test]
async fn other_process() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let fleet = Fleet::builder().worker_threads(1).start().unwrap();
    for line in fs::read_to_string(folder.join("workspaces")).unwrap().lines() {
        let (name, url) = line.split_once(' ').unwrap();
        fleet.add(WorkspaceConfig::new(name, Connection::new(url).unwrap())).await.unwrap();
    }
    let spec = spec(folder, folder.join("jobs").exists());
    let mut run = fleet.run(spec.with_progress(RunProgress::from_events(stored(folder))));
    let mut events = fs::OpenOptions::new().create(true).append(true).open(folder.join("events")).unwrap();
    while let Some(event) = run.next().await {
        let line = serde_json::to_string(&event).unwrap() + "\n";
        events.write_all(line.as_bytes()).unwrap();
    }
    fleet.shutdown().await;
}

fn begin(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["killed::other_process", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets processes carry the run out, and kills them, until it has ended. Returns how often one was killed.
async fn killed_and_gone_on_with(folder: &Path) -> u32 {
    let mut killed = 0;
    loop {
        let mut process = begin(folder);
        let (known, began) = (stored(folder).len(), Instant::now());
        // It is killed some time after it has got on.
        let alive = Duration::from_millis(fastrand::u64(0..250));
        let mut got_on = None;
        loop {
            if let Some(status) = process.try_wait().unwrap() {
                assert!(status.success(), "it failed by itself: {status}");
                return killed;
            }
            if got_on.is_none() && stored(folder).len() > known {
                got_on = Some(Instant::now());
            }
            if killed < KILLS && got_on.is_some_and(|at| at.elapsed() >= alive) {
                process.kill().unwrap();
                process.wait().unwrap();
                killed += 1;
                break;
            }
            assert!(began.elapsed() < PATIENCE, "the run does not end");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn happened(jobs: bool) -> (Sandboxes, Vec<RunEvent>) {
    let sandboxes = Sandboxes::start(WORKSPACES).await;
    let folder = sandboxes.shared("");
    let names = sandboxes.agents.iter().enumerate().map(|(number, agent)| format!("w{number} {}\n", agent.url()));
    fs::write(folder.join("workspaces"), names.collect::<String>()).unwrap();
    fs::write(folder.join("run"), EventId::random().to_string()).unwrap();
    if jobs {
        fs::write(folder.join("jobs"), "").unwrap();
    }
    let killed = killed_and_gone_on_with(&folder).await;
    assert!(killed > 2, "it was killed {killed} times only");
    let events = stored(&folder);
    (sandboxes, events)
}

/// Checks that nothing is missing, doubled or out of order. Returns how often each command ran, by its file.
fn check(sandboxes: &Sandboxes, events: &[RunEvent]) -> BTreeMap<String, usize> {
    for (seq, event) in (0..).zip(events) {
        assert_eq!(event.seq, seq, "the numbers have no gap: {event:?}");
    }
    assert_eq!(count(events, |event| matches!(event, RunEventKind::RunStarted { .. })), 1);
    assert_eq!(count(events, |event| matches!(event, RunEventKind::RunFinished(_))), 1);
    let mut told: HashMap<(String, bool), String> = HashMap::new();
    for event in events {
        match &event.kind {
            RunEventKind::Output { target, stream, text } => {
                let of = (target.label().to_owned(), *stream == OutputStream::Stdout);
                told.entry(of).or_default().push_str(text);
            }
            RunEventKind::StepFinished(step) => {
                let who = step.target.label();
                let Some(TargetValue::Command(result)) = &step.value else { panic!("{step:?}") };
                let stdout: String = (1..=LINES).map(|line| format!("{} {who} {line}\n", step.index)).collect();
                assert_eq!(result.stdout, stdout, "{step:?}");
                assert_eq!(told.remove(&(who.to_owned(), true)), Some(stdout), "each line is told once: {step:?}");
                assert_eq!(told.remove(&(who.to_owned(), false)).as_ref(), Some(&result.stderr), "{step:?}");
            }
            _ => {}
        }
    }
    assert!(told.is_empty(), "{told:?}");
    let files =
        fs::read_dir(sandboxes.shared("")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let ran = files.filter(|name| name.starts_with("ran-"));
    ran.map(|name| (name.clone(), sandboxes.read(&name).lines().count())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_on_each_workspace_is_done_once_whenever_its_process_is_killed() {
    let (sandboxes, events) = happened(false).await;
    let ran = check(&sandboxes, &events);
    let once = (0..WORKSPACES).flat_map(|workspace| (0..3).map(move |step| (format!("ran-w{workspace}-{step}"), 1)));
    assert_eq!(ran, once.collect());
    assert_eq!(summary(&events).outcomes.get(Outcome::Succeeded), WORKSPACES);
    sandboxes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_done_once_and_retried_as_often_as_asked_whenever_their_process_is_killed() {
    let (sandboxes, events) = happened(true).await;
    let ran = check(&sandboxes, &events);
    let times = |job: usize| if job.is_multiple_of(4) { 2 } else { 1 };
    let expected = (0..JOBS).flat_map(|job| (0..3).map(move |step| (format!("ran-j{job}-{step}"), times(job))));
    assert_eq!(ran, expected.collect());
    let summary = summary(&events);
    assert_eq!((summary.outcomes.get(Outcome::Failed), summary.total), (JOBS / 4, JOBS));
    assert_eq!(count(&events, |event| matches!(event, RunEventKind::TargetRetried(_))), JOBS / 4);
    sandboxes.end().await;
}
