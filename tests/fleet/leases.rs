use std::time::Duration;

use workspace_fleet::{
    Connection, ErrorKind, LeaseDrop, Outcome, RunSpec, Selector, WorkspaceConfig,
    agent::{AgentConfig, AgentServer},
    fleet::{Job, JobPlace, JobStep, RunOperation},
    messages::{ExecuteCommand, FileUpload},
};

use crate::{
    sandboxes::{PATIENCE, Sandboxes, end_of, events, eventually, stdout, summary},
    support::proxy::{Fault, Proxy},
};

/// A moment in which nothing is to happen.
const MOMENT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_workspace_has_one_holder_and_those_who_wait_get_it_in_turn() {
    let sandboxes = Sandboxes::start(1).await;
    let fleet = &sandboxes.fleet;
    let first = fleet.acquire(Selector::all()).await.unwrap();
    assert_eq!(first.workspace().name(), "w0");
    let mut second = Box::pin(fleet.acquire(Selector::label("half", "even")));
    assert!(tokio::time::timeout(MOMENT, &mut second).await.is_err(), "there is only one");
    let mut third = Box::pin(fleet.acquire(Selector::all()));
    assert!(tokio::time::timeout(MOMENT, &mut third).await.is_err());
    first.release().await;
    let second = tokio::time::timeout(PATIENCE, second).await.unwrap().unwrap();
    assert!(tokio::time::timeout(MOMENT, &mut third).await.is_err(), "it is the second's turn");
    drop(second);
    let third = tokio::time::timeout(PATIENCE, third).await.unwrap().unwrap();

    // One who leaves the line is passed over.
    let left = fleet.acquire(Selector::all());
    drop(left);
    let fourth = fleet.acquire(Selector::all());
    third.release().await;
    tokio::time::timeout(PATIENCE, fourth).await.unwrap().unwrap().release().await;
    sandboxes.end().await;
}

#[tokio::test]
async fn a_release_waits_for_what_goes_on_there() {
    let sandboxes = Sandboxes::start(1).await;
    let lease = sandboxes.fleet.acquire(Selector::all()).await.unwrap();
    lease.workspace().start_command("sleep 0.5; touch done").await.unwrap();
    lease.release().await;
    assert!(sandboxes.shared("w0/done").exists());
    sandboxes.end().await;
}

#[tokio::test]
async fn a_quarantined_workspace_is_nobodys_until_it_is_restored() {
    let sandboxes = Sandboxes::start(1).await;
    let fleet = &sandboxes.fleet;
    let mut lease = fleet.acquire(Selector::all()).await.unwrap();
    assert!(!fleet.restore("w0").await, "it is in no quarantine");
    lease.on_drop(LeaseDrop::Quarantine);
    drop(lease);
    let mut next = Box::pin(fleet.acquire(Selector::all()));
    assert!(tokio::time::timeout(MOMENT, &mut next).await.is_err());
    // A run does not wait for it.
    let job = Job::new([JobStep::new(RunOperation::Execute(ExecuteCommand::new("true")))]);
    let happened = events(fleet.run(RunSpec::jobs(Selector::all(), [job]))).await;
    assert_eq!(summary(&happened).outcomes.get(Outcome::Rejected), 1, "{happened:?}");
    assert!(fleet.restore("w0").await);
    let next = tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap();

    // A holder that panics leaves who knows what behind.
    tokio::spawn(async move {
        let _held = next;
        panic!("as the test wants it");
    })
    .await
    .unwrap_err();
    let next = fleet.acquire(Selector::all());
    assert!(tokio::time::timeout(MOMENT, next).await.is_err());
    sandboxes.end().await;
}

#[tokio::test]
async fn jobs_wait_for_a_holder_and_plain_runs_do_not() {
    let sandboxes = Sandboxes::start(1).await;
    let fleet = &sandboxes.fleet;
    let lease = fleet.acquire(Selector::all()).await.unwrap();
    let happened = events(fleet.run(RunSpec::command(Selector::all(), "true"))).await;
    assert_eq!(summary(&happened).outcomes.get(Outcome::Succeeded), 1);

    let job = Job::new([JobStep::new(RunOperation::Execute(ExecuteCommand::new("touch ran")))]);
    let run = tokio::spawn(events(fleet.run(RunSpec::jobs(Selector::all(), [job]))));
    tokio::time::sleep(MOMENT).await;
    assert!(!sandboxes.shared("w0/ran").exists(), "the workspace is not free");
    lease.release().await;
    assert_eq!(summary(&run.await.unwrap()).outcomes.get(Outcome::Succeeded), 1);
    eventually("the run keeps the workspace", || sandboxes.shared("w0/ran").exists()).await;
    let lease = tokio::time::timeout(PATIENCE, fleet.acquire(Selector::all())).await.unwrap().unwrap();
    lease.release().await;
    sandboxes.end().await;
}

#[tokio::test]
async fn a_run_does_not_keep_a_workspace_that_its_window_has_no_room_for() {
    let sandboxes = Sandboxes::start(2).await;
    let fleet = &sandboxes.fleet;
    let held = fleet.acquire(Selector::names(["w1"])).await.unwrap();
    let job = |command: &str, workspace: &str| {
        let step = JobStep::new(RunOperation::Execute(ExecuteCommand::new(command).with_timeout(None)));
        Job::new([step]).on(JobPlace::Workspace(workspace.to_owned()))
    };
    let jobs = [job("true", "w1"), job("touch on; while [ ! -e go ]; do sleep 0.02; done", "w0")];
    let run = tokio::spawn(events(fleet.run(RunSpec::jobs(Selector::all(), jobs).with_fanout(1))));
    eventually("the second job does not begin", || sandboxes.shared("w0/on").exists()).await;
    // The first waits in line for it, and gets it while the window is full.
    held.release().await;
    let lease = tokio::time::timeout(PATIENCE / 4, fleet.acquire(Selector::names(["w1"]))).await.unwrap().unwrap();
    lease.release().await;
    std::fs::write(sandboxes.shared("w0/go"), "").unwrap();
    assert_eq!(summary(&run.await.unwrap()).outcomes.get(Outcome::Succeeded), 2);
    sandboxes.end().await;
}

#[tokio::test]
async fn a_workspace_on_which_a_job_left_something_going_on_is_not_passed_on() {
    let sandboxes = Sandboxes::start(0).await;
    let agent = AgentServer::spawn(AgentConfig::default()).unwrap();
    let proxy = Proxy::start(agent.url().trim_start_matches("http://")).await.unwrap();
    proxy.spoil_next("/file/upload", Fault::DeliverWhenGivenUp);
    let fleet = &sandboxes.fleet;
    let mut config = WorkspaceConfig::new("w", Connection::new(&proxy.url()).unwrap());
    (config.limits.answer_timeout, config.limits.idle_timeout) = (Duration::from_secs(2), Duration::from_secs(2));
    fleet.add(config).await.unwrap();
    let content = sandboxes.shared("content");
    std::fs::write(&content, "text").unwrap();
    let upload =
        |to: &str| RunOperation::Upload(FileUpload::new(content.clone(), sandboxes.shared(to).display().to_string()));
    // The upload is not what decides the outcome.
    let mut job = Job::new([JobStep::new(RunOperation::Execute(ExecuteCommand::new("false")))]);
    job.finally = vec![JobStep::new(upload("late"))];
    let mut spec = RunSpec::jobs(Selector::all(), [job]);
    spec.finally_timeout = Duration::from_millis(300);
    let happened = events(fleet.run(spec)).await;
    assert_eq!(summary(&happened).outcomes.get(Outcome::Failed), 1, "{happened:?}");

    let mut next = Box::pin(fleet.acquire(Selector::all()));
    assert!(tokio::time::timeout(2 * MOMENT, &mut next).await.is_err(), "the upload goes on");
    // Its answer is not waited for any longer, and it is sent again.
    tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap().release().await;
    sandboxes.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn an_upload_that_ran_out_of_time_is_waited_for_and_does_not_cost_the_run_its_workspace() {
    let sandboxes = Sandboxes::start(0).await;
    let agent = AgentServer::spawn(AgentConfig::default()).unwrap();
    let proxy = Proxy::start(agent.url().trim_start_matches("http://")).await.unwrap();
    proxy.spoil_next("/file/upload", Fault::DeliverWhenGivenUp);
    let mut config = WorkspaceConfig::new("w", Connection::new(&proxy.url()).unwrap());
    (config.limits.answer_timeout, config.limits.idle_timeout) = (Duration::from_secs(2), Duration::from_secs(2));
    sandboxes.fleet.add(config).await.unwrap();
    let late = sandboxes.shared("late").display().to_string();
    let upload = RunOperation::Upload(FileUpload::new("text".as_bytes().to_vec(), &late));
    let jobs = [
        Job::new([JobStep::new(upload)]).with_timeout(Duration::from_millis(300)),
        Job::new([JobStep::new(RunOperation::Execute(ExecuteCommand::new(format!("cat {late}"))))]).with_name("next"),
    ];
    let happened = events(sandboxes.fleet.run(RunSpec::jobs(Selector::all(), jobs))).await;
    let summary = summary(&happened);
    assert_eq!(summary.outcomes.get(Outcome::TimedOut), 1, "{happened:?}");
    assert_eq!(stdout(end_of(&happened, "next")), "text", "the upload had ended");
    sandboxes.end().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_release_does_not_wait_for_what_others_begin() {
    let sandboxes = Sandboxes::start(1).await;
    let lease = sandboxes.fleet.acquire(Selector::all()).await.unwrap();
    let other = sandboxes.fleet.workspace("w0").await.unwrap();
    let before = other.execute_command("sleep 50");
    lease.workspace().start_command("sleep 0.5; touch own").await.unwrap();
    let release = tokio::spawn(lease.release());
    tokio::time::sleep(MOMENT).await;
    let after = other.execute_command("sleep 50");
    tokio::time::timeout(Duration::from_secs(10), release).await.expect("it does not wait").unwrap();
    drop(tokio::time::timeout(MOMENT, sandboxes.fleet.acquire(Selector::all())).await.unwrap().unwrap());
    assert!(sandboxes.shared("w0/own").exists(), "it waits for its own");
    drop((before, after));
    sandboxes.end().await;
}

#[tokio::test]
async fn who_waits_for_what_is_removed_is_told() {
    let sandboxes = Sandboxes::start(2).await;
    let fleet = sandboxes.fleet.clone();
    let lease = fleet.acquire(Selector::names(["w1"])).await.unwrap();
    let mut waits = Box::pin(fleet.acquire(Selector::names(["w1"])));
    assert!(tokio::time::timeout(MOMENT, &mut waits).await.is_err());
    fleet.remove("w1").await.unwrap();
    let refused = tokio::time::timeout(PATIENCE, waits).await.unwrap().unwrap_err();
    assert!(matches!(refused.kind, ErrorKind::InvalidInput { .. }), "{refused}");
    lease.release().await;
    let refused = fleet.acquire(Selector::label("half", "none")).await.unwrap_err();
    assert!(matches!(refused.kind, ErrorKind::InvalidInput { .. }), "{refused}");

    let held = fleet.acquire(Selector::all()).await.unwrap();
    let mut waits = Box::pin(fleet.acquire(Selector::all()));
    assert!(tokio::time::timeout(MOMENT, &mut waits).await.is_err());
    drop(held.workspace().clone());
    fleet.clone().shutdown().await;
    let refused = tokio::time::timeout(PATIENCE, waits).await.unwrap().unwrap_err();
    assert!(matches!(refused.kind, ErrorKind::Stopped { .. }), "{refused}");
    sandboxes.end().await;
}

#[tokio::test]
async fn who_no_longer_waits_for_a_lease_gets_none() {
    let sandboxes = Sandboxes::start(1).await;
    let fleet = &sandboxes.fleet;
    let held = fleet.acquire(Selector::all()).await.unwrap();
    // So many that a workspace which each of them got for a moment would be late.
    for _ in 0..100 {
        let waiting = fleet.acquire(Selector::all());
        assert!(tokio::time::timeout(Duration::from_millis(2), waiting).await.is_err());
    }
    let next = fleet.acquire(Selector::all());
    // Something of another's goes on there, for which each of them would wait.
    held.workspace().start_command("sleep 0.2").await.unwrap();
    held.release().await;
    tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap().release().await;
    sandboxes.end().await;
}
