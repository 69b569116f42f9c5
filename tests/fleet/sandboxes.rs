use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use workspace_fleet::{
    Connection, Fleet, Outcome, RunHandle, WorkspaceConfig,
    agent::{AgentConfig, AgentHandle, AgentServer},
    fleet::{RunEvent, RunEventKind, RunSummary, TargetFinished, TargetValue},
};

/// How long anything may take before a test gives it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A fleet of workspaces w0, w1 and so on, each with an agent server of its own that runs in this process.
pub(crate) struct Sandboxes {
    pub(crate) fleet: Fleet,
    pub(crate) agents: Vec<AgentHandle>,
    folder: tempfile::TempDir,
}

impl Sandboxes {
    pub(crate) async fn start(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Fleet::builder().worker_threads(2).start().unwrap();
        let mut agents = Vec::new();
        for number in 0..count {
            let root = folder.path().join(format!("w{number}"));
            fs::create_dir(&root).unwrap();
            let agent = AgentServer::spawn(AgentConfig::default().with_root(root)).unwrap();
            let connection = Connection::new(&agent.url()).unwrap();
            let config = WorkspaceConfig::new(format!("w{number}"), connection)
                .with_label("half", if number % 2 == 0 { "even" } else { "odd" })
                .with_max_outage(Duration::from_secs(1));
            fleet.add(config).await.unwrap();
            agents.push(agent);
        }
        Self { fleet, agents, folder }
    }

    /// An absolute path that all workspaces share.
    pub(crate) fn shared(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.shared(name)).unwrap_or_default()
    }

    pub(crate) async fn end(self) {
        self.fleet.shutdown().await;
        for agent in self.agents {
            agent.stop().await;
        }
    }
}

/// All events of a run, which has to end in time.
pub(crate) async fn events(run: RunHandle) -> Vec<RunEvent> {
    let events = tokio::time::timeout(PATIENCE, run.collect::<Vec<_>>()).await.expect("the run does not end");
    assert!((0..).zip(&events).all(|(seq, event)| event.seq == seq), "the numbers have no gap");
    events
}

/// Takes events up to the one that is looked for.
pub(crate) async fn until(run: &mut RunHandle, mut found: impl FnMut(&RunEventKind) -> bool) {
    let look = async { while !found(&run.next().await.expect("the run has ended").kind) {} };
    tokio::time::timeout(PATIENCE, look).await.expect("it does not happen");
}

pub(crate) fn summary(events: &[RunEvent]) -> &RunSummary {
    let RunEventKind::RunFinished(summary) = &events.last().unwrap().kind else { panic!("{events:?}") };
    assert_eq!(summary.outcomes.total(), summary.total);
    assert_eq!(finished(events).len(), summary.total, "each target is reported once");
    summary
}

pub(crate) fn finished(events: &[RunEvent]) -> Vec<&TargetFinished> {
    events
        .iter()
        .filter_map(|event| match &event.kind {
            RunEventKind::TargetFinished(target) => Some(&**target),
            _ => None,
        })
        .collect()
}

pub(crate) fn count(events: &[RunEvent], counts: fn(&RunEventKind) -> bool) -> usize {
    events.iter().filter(|event| counts(&event.kind)).count()
}

/// How the target of this name or job ended.
pub(crate) fn end_of<'a>(events: &'a [RunEvent], label: &str) -> &'a TargetFinished {
    finished(events).into_iter().find(|target| target.target.label() == label).unwrap()
}

pub(crate) fn outcome_of(events: &[RunEvent], label: &str) -> Outcome {
    end_of(events, label).outcome
}

pub(crate) fn stdout(target: &TargetFinished) -> &str {
    let Some(TargetValue::Command(result)) = &target.value else { panic!("{target:?}") };
    &result.stdout
}

/// The largest number of targets that ran at once.
pub(crate) fn most_at_once(events: &[RunEvent], counts: impl Fn(&str) -> bool) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for event in events {
        match &event.kind {
            RunEventKind::TargetBegan { target, .. } if counts(&target.workspace) => now += 1,
            RunEventKind::TargetFinished(target) if target.attempt > 0 && counts(&target.target.workspace) => now -= 1,
            RunEventKind::TargetRetried(target) if counts(&target.target.workspace) => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether the process runs whose number is in this file.
pub(crate) fn runs(pid_file: &Path) -> bool {
    let pid = fs::read_to_string(pid_file).unwrap_or_default();
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // One that has ended may wait to be reaped.
    !pid.trim().is_empty() && !stat.is_empty() && !stat.contains(") Z ")
}
