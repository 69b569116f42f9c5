//! 500 workspaces behind one gateway: an nginx that speaks TLS under a private CA, serves each workspace at
//! `/s/<id>/`, and demands a header of its own.
//!
//! Needs `nginx`; where there is none it says so and passes, unless `WSFLEET_REQUIRE_NGINX` is set.

mod nginx;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use nginx::Gateway;
use workspace_fleet::{
    Connection, Fleet, Outcome, RunSpec, Selector, WorkspaceConfig,
    agent::{AgentConfig, AgentServer},
    fleet::{RunEventKind, TargetValue},
    messages::ExecuteCommand,
};

const WORKSPACES: usize = 500;
const DELETED: usize = 50;

fn connection(gateway: &Gateway, id: usize) -> Connection {
    Connection::new(&gateway.url(&nginx::route(id)))
        .and_then(|connection| connection.with_header(nginx::HEADER, nginx::HEADER_VALUE))
        .map(|connection| connection.with_api_key("k1").with_ca_file(gateway.ca_file()))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_workspaces_behind_one_gateway() {
    let Some(nginx) = nginx::find() else { return };
    let agent = AgentServer::spawn(AgentConfig::default().with_session_key("k1")).unwrap();
    let gateway = Gateway::start(&nginx, &agent.url(), WORKSPACES);
    let fleet = Fleet::start().unwrap();
    let mut names = BTreeSet::new();
    for id in 0..WORKSPACES {
        let connection = connection(&gateway, id);
        let name = connection.display_name();
        fleet.add(WorkspaceConfig::new(name.clone(), connection)).await.unwrap();
        names.insert(name);
    }
    assert_eq!(names.len(), WORKSPACES, "two workspaces behind one gateway got one name");

    // All of them give their own result.
    let echo = ExecuteCommand::new("echo \"$NAME\"").with_env("NAME", "{workspace}");
    let (outcomes, outputs) = run(&fleet, RunSpec::command(Selector::all(), echo), |_| {}).await;
    assert_eq!(outcomes, BTreeMap::from([(Outcome::Succeeded, WORKSPACES)]));
    assert!(names.iter().all(|name| outputs[name] == format!("{name}\n")), "a result of another workspace");

    // 50 routes vanish while commands run: those, and only those, are gone. The commands end by themselves when the
    // file appears, which is when the first 50 targets have ended.
    let go = gateway.folder().join("go");
    let wait = format!("while [ ! -e '{}' ]; do sleep 1; done; echo \"$NAME\"", go.display());
    let command = ExecuteCommand::new(wait).with_env("NAME", "{workspace}").with_timeout(None);
    let (mut started, mut finished) = (0, 0);
    let spec = RunSpec::command(Selector::all(), command).with_fanout(WORKSPACES);
    let (outcomes, outputs) = run(&fleet, spec, |event| {
        started += usize::from(matches!(event, RunEventKind::TargetStarted { .. }));
        finished += usize::from(matches!(event, RunEventKind::TargetFinished(_)));
        match event {
            RunEventKind::TargetStarted { .. } if started == WORKSPACES => {
                (0..DELETED).for_each(|id| gateway.delete_route(id));
            }
            RunEventKind::TargetFinished(_) if finished == DELETED => std::fs::write(&go, "").unwrap(),
            _ => {}
        }
    })
    .await;
    assert_eq!(outcomes, BTreeMap::from([(Outcome::Succeeded, WORKSPACES - DELETED), (Outcome::Gone, DELETED)]));
    let deleted: BTreeSet<_> = (0..DELETED).map(|id| connection(&gateway, id).display_name()).collect();
    assert!(names.difference(&deleted).all(|name| outputs[name] == format!("{name}\n")));

    fleet.shutdown().await;
    agent.stop().await;
}

/// Carries a run out; returns the count of each outcome, and the output of each target.
async fn run(
    fleet: &Fleet,
    spec: RunSpec,
    mut see: impl FnMut(&RunEventKind),
) -> (BTreeMap<Outcome, usize>, BTreeMap<String, String>) {
    let (mut outcomes, mut outputs) = (BTreeMap::new(), BTreeMap::new());
    let mut run = fleet.run(spec);
    while let Some(event) = run.next().await {
        see(&event.kind);
        if let RunEventKind::TargetFinished(target) = event.kind {
            *outcomes.entry(target.outcome).or_default() += 1;
            if let Some(TargetValue::Command(result)) = target.value {
                outputs.insert(target.target.workspace.to_string(), result.stdout);
            }
        }
    }
    (outcomes, outputs)
}
