//! The official Python client cannot tell the embedded agent server from the real one.

use std::{process::Stdio, time::Duration};

use tokio::process::Command;

use crate::{
    case::{Case, case},
    sandbox::Sandbox,
    support::{
        boot,
        server::{Kind, Server},
    },
};

pub(crate) const CASES: &[Case] = &[case!(the_python_client_sees_no_difference).only(is_the_measure).within(10)];

/// The version whose API the embedded server has.
const MEASURE: &str = "1.58.0";

fn is_the_measure(kind: Kind) -> bool {
    kind == Kind::OpenHands(MEASURE)
}

async fn the_python_client_sees_no_difference(sandbox: &Sandbox) {
    let ours = Server::get(Kind::Embedded).expect("the embedded server starts");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential.py");
    let client = Command::new(boot::python(MEASURE))
        .args([script, &sandbox.server.url(), sandbox.server.keys[0], &ours.url(), ours.keys[0], "--ours", "--raw"])
        .current_dir(sandbox.directory())
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(540), client).await.expect("it ends in time").unwrap();
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let differing: Vec<&str> = lines.lines().filter(|line| line.starts_with("DIFF")).collect();
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let same = lines.lines().filter(|line| line.starts_with("ok")).count();
    assert!(same > 200, "only {same} cases were tried");
}
