use std::{fs, time::Duration};

use workspace_fleet::{
    Outcome, RunSpec, Selector,
    fleet::{Job, JobPlace, JobStep, RunEventKind, RunOperation},
    messages::{ExecuteCommand, FileDownload, FileUpload},
};

use crate::sandboxes::{
    Sandboxes, count, end_of, events, eventually, finished, most_at_once, runs, stdout, summary, until,
};

fn run(command: impl Into<String>) -> JobStep {
    JobStep::new(RunOperation::Execute(ExecuteCommand::new(command).with_timeout(None)))
}

fn download(source: &std::path::Path, destination: std::path::PathBuf) -> JobStep {
    JobStep::new(RunOperation::Download(FileDownload::new(source.display().to_string(), destination)))
}

fn steps_of(events: &[workspace_fleet::fleet::RunEvent], job: &str) -> Vec<(String, bool, Outcome)> {
    let step = |event: &workspace_fleet::fleet::RunEvent| match &event.kind {
        RunEventKind::StepFinished(step) if step.target.label() == job => {
            Some((step.step.clone(), step.finally, step.outcome))
        }
        _ => None,
    };
    events.iter().filter_map(step).collect()
}

#[tokio::test]
async fn five_hundred_jobs_over_forty_workspaces_run_once_and_alone_and_leave_their_logs() {
    const JOBS: usize = 500;
    let sandboxes = Sandboxes::start(40).await;
    for folder in ["patches", "ran", "finally", "out"] {
        fs::create_dir(sandboxes.shared(folder)).unwrap();
    }
    let shared = sandboxes.shared("").display().to_string();
    let job = |number: usize| {
        let fails = if number.is_multiple_of(3) { "exit 3" } else { "true" };
        // The lock is in the workspace's own directory: a second job there finds it and fails with another code.
        let begin =
            format!("mkdir lock || exit 9; echo $J >> {shared}ran/$J; echo patch of $J > {shared}patches/$J; {fails}");
        let name = format!("j{number}");
        let patch = sandboxes.shared("patches").join(&name);
        let log = sandboxes.shared("ran").join(&name);
        Job::new([run(begin)])
            .with_name(&name)
            .with_env("J", "{job}")
            .on(if number.is_multiple_of(2) { JobPlace::AnyOf(Selector::label("half", "even")) } else { JobPlace::Any })
            .with_finally([
                run(format!("rmdir lock && touch {shared}finally/$J")),
                download(&patch, sandboxes.shared("out").join("{job}/patch")),
                download(&log, sandboxes.shared("out").join("{job}/log")),
            ])
    };
    let spec = RunSpec::jobs(Selector::all(), (0..JOBS).map(job)).with_fanout(40);
    let happened = events(sandboxes.fleet.run(spec)).await;
    let summary = summary(&happened);
    let fail = JOBS.div_ceil(3);
    let counts = (summary.outcomes.get(Outcome::Failed), summary.outcomes.get(Outcome::Succeeded));
    assert_eq!(counts, (fail, JOBS - fail), "{summary:?}");
    for number in 0..JOBS {
        let name = format!("j{number}");
        assert_eq!(sandboxes.read(&format!("ran/{name}")), format!("{name}\n"), "it ran once");
        assert!(sandboxes.shared(&format!("finally/{name}")).exists(), "{name}");
        assert_eq!(sandboxes.read(&format!("out/{name}/patch")), format!("patch of {name}\n"));
        assert_eq!(sandboxes.read(&format!("out/{name}/log")), format!("{name}\n"));
    }
    for workspace in 0..40 {
        let name = format!("w{workspace}");
        assert_eq!(most_at_once(&happened, |other| other == name), 1);
    }
    sandboxes.end().await;
}

#[tokio::test]
async fn steps_end_with_the_first_that_fails_and_finally_steps_never_hide_it() {
    let sandboxes = Sandboxes::start(1).await;
    let source = sandboxes.shared("in-j1.txt");
    fs::write(&source, "content").unwrap();
    let upload = FileUpload::new(sandboxes.shared("in-{job}.txt"), sandboxes.shared("w0/in.txt").display().to_string());
    let jobs = [
        Job::new([JobStep::new(RunOperation::Upload(upload)), run("cat in.txt; exit 4"), run("touch never")])
            .with_name("j1")
            .with_finally([run("exit 5").with_name("first"), run("touch always")]),
        Job::new([run("echo fine")])
            .with_name("j2")
            .with_finally([run("echo $WHO; exit 6")])
            .with_env("WHO", "{workspace}"),
    ];
    let happened = events(sandboxes.fleet.run(RunSpec::jobs(Selector::all(), jobs))).await;
    let first = end_of(&happened, "j1");
    assert_eq!((first.outcome, stdout(first)), (Outcome::Failed, "content"));
    assert!(sandboxes.shared("w0/always").exists() && !sandboxes.shared("w0/never").exists());
    let steps = steps_of(&happened, "j1");
    let ends: Vec<_> = steps.iter().map(|(_, finally, outcome)| (*finally, *outcome)).collect();
    use Outcome::{Failed, Succeeded};
    assert_eq!(ends, [(false, Succeeded), (false, Failed), (true, Failed), (true, Succeeded)]);
    assert_eq!(steps[2].0, "first");
    let second = end_of(&happened, "j2");
    assert_eq!((second.outcome, stdout(second)), (Failed, "w0\n"), "a failed finally step is a failure");
    sandboxes.end().await;
}

#[tokio::test]
async fn finally_steps_are_carried_out_after_a_cancellation_and_given_up_after_a_second() {
    let sandboxes = Sandboxes::start(1).await;
    let job = |after: &str| Job::new([run("sleep 1000"), run("touch never")]).with_finally([run(after)]);
    let started = |event: &RunEventKind| matches!(event, RunEventKind::TargetStarted { .. });

    let mut handle = sandboxes.fleet.run(RunSpec::jobs(Selector::all(), [job("touch after")]));
    until(&mut handle, started).await;
    handle.cancel();
    let happened: Vec<_> = futures::StreamExt::collect(handle).await;
    assert_eq!(summary(&happened).outcomes.get(Outcome::Stopped), 1);
    assert!(sandboxes.shared("w0/after").exists() && !sandboxes.shared("w0/never").exists());

    let pid = sandboxes.shared("finally.pid");
    let endless = format!("echo $$ > {}; sleep 1000", pid.display());
    let mut handle = sandboxes.fleet.run(RunSpec::jobs(Selector::all(), [job(&endless)]));
    until(&mut handle, started).await;
    handle.cancel();
    eventually("the finally step does not run", || runs(&pid)).await;
    handle.cancel();
    let happened = events_after(handle).await;
    assert_eq!(summary(&happened).outcomes.get(Outcome::Stopped), 1);
    eventually("the finally step runs on", || !runs(&pid)).await;

    let spec = RunSpec::jobs(Selector::all(), [job("touch timely").with_timeout(Duration::from_secs(1))]);
    let happened = events(sandboxes.fleet.run(spec)).await;
    assert_eq!(summary(&happened).outcomes.get(Outcome::TimedOut), 1);
    assert!(sandboxes.shared("w0/timely").exists());
    sandboxes.end().await;
}

async fn events_after(handle: workspace_fleet::RunHandle) -> Vec<workspace_fleet::fleet::RunEvent> {
    tokio::time::timeout(crate::sandboxes::PATIENCE, futures::StreamExt::collect(handle)).await.unwrap()
}

#[tokio::test]
async fn jobs_can_be_added_while_the_run_goes_on() {
    let sandboxes = Sandboxes::start(2).await;
    let mut handle = sandboxes.fleet.run(RunSpec::jobs(Selector::all(), [Job::new([run("true")])]));
    let (jobs, other) = (handle.jobs(), handle.jobs());
    until(&mut handle, |event| matches!(event, RunEventKind::TargetFinished(_))).await;
    jobs.add(Job::new([run("true")]).with_name("later")).await.unwrap();
    drop(jobs);
    other.add(Job::new([run("true")]).with_name("later")).await.unwrap();
    other.add(Job::new([run("true")]).with_name("lost").on(JobPlace::Workspace("w9".to_owned()))).await.unwrap();
    other
        .add(Job::new([run("true")]).with_name("none").on(JobPlace::AnyOf(Selector::label("half", "none"))))
        .await
        .unwrap();
    drop(other);
    let happened = events_after(handle).await;
    let RunEventKind::RunFinished(summary) = &happened.last().unwrap().kind else { panic!() };
    assert_eq!((summary.total, summary.outcomes.get(Outcome::Succeeded)), (5, 2));
    assert_eq!(summary.outcomes.get(Outcome::Rejected), 3);
    assert_eq!(count(&happened, |event| matches!(event, RunEventKind::TargetsAdded { .. })), 4);
    let reasons: Vec<_> = finished(&happened).iter().filter_map(|target| target.error.clone()).collect();
    for says in ["already", "w9", "selector"] {
        assert!(reasons.iter().any(|error| error.to_string().contains(says)), "{says}: {reasons:?}");
    }

    let handle = sandboxes.fleet.run(RunSpec::jobs(Selector::all(), [Job::new([run("true")])]));
    let jobs = handle.jobs();
    handle.cancel();
    let (happened, refused) = futures::join!(events_after(handle), async {
        while jobs.add(Job::new([run("true")])).await.is_ok() {}
        true
    });
    assert!(refused);
    assert_eq!(summary_of(&happened), happened.len() - 2 - count(&happened, not_an_end));
    sandboxes.end().await;
}

fn summary_of(events: &[workspace_fleet::fleet::RunEvent]) -> usize {
    summary(events).total
}

/// Whether it is neither the begin nor the end of a run, nor the end of a target.
fn not_an_end(event: &RunEventKind) -> bool {
    !matches!(event, RunEventKind::RunStarted { .. } | RunEventKind::RunFinished(_) | RunEventKind::TargetFinished(_))
}
