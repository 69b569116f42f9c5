use crate::{
    peers::{python, python_class, stub, wrk},
    process::{Result, work},
    report::{Report, Table, number, rounds},
};

/// How many commands the fast contenders run in a round.
const COMMANDS: usize = 40_000;

fn words(words: &[&dyn std::fmt::Display]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Commands per second on one workspace, 64 at once, beside the bare clients and the Python class.
pub(crate) fn one_workspace(report: &mut Report) -> Result<()> {
    let (mut stub, python) = (stub()?, python());
    let url = format!("http://127.0.0.1:{}", stub.port);
    let (mut table, mut requests) = (Table::new("commands/s"), Table::new("requests"));
    for _ in 0..rounds() {
        let before = stub.requests()?;
        let ours = work("fleet", &words(&[&url, &1, &COMMANDS, &64]))?;
        requests.add(0, "per command, 64 at once", (stub.requests()? - before) / COMMANDS as f64);
        table.add(0, "workspace-fleet, 64 at once", ours.per_second());
        table.add(1, "workspace-fleet, one at a time", work("fleet", &words(&[&url, &1, &4000, &1]))?.per_second());
        table.add(2, "bare awc", work("awc", &words(&[&url, &COMMANDS, &64]))?.per_second());
        table.add(3, "bare hyper", work("hyper", &words(&[&stub.port, &COMMANDS, &64]))?.per_second());
        if let Some(requests) = wrk(stub.port, 64)? {
            table.add(4, "wrk, half of its requests", requests / 2.0);
        }
        if let Some(python) = &python {
            table.add(5, "AsyncRemoteWorkspace", python_class(python, &url, 1, 640, 64)?.per_second());
        }
    }
    report.table(
        "One workspace",
        "Commands on one workspace whose server answers at once. The bare clients send a start and a search for each, and so does the Python class; the \
         runtime lets one search serve many. `wrk` sends both and reads neither: what the server can do at most.",
        &table,
    );
    report.table("One workspace: requests", "Those of workspace-fleet.", &requests);
    let ours = "workspace-fleet, 64 at once";
    let at_least = |below: &str, bound: f64| {
        let ratio = table.ratio(ours, below)?;
        Some((format!("{}x", number(ratio)), ratio >= bound))
    };
    report.verdict("one workspace, 64 at once", ">= 30x AsyncRemoteWorkspace", at_least("AsyncRemoteWorkspace", 30.0));
    report.verdict("one workspace, 64 at once", ">= 0.65x bare awc", at_least("bare awc", 0.65));
    Ok(())
}

/// Commands per second over a thousand workspaces, from cold.
pub(crate) fn thousand_workspaces(report: &mut Report) -> Result<()> {
    let (stub, python) = (stub()?, python());
    let url = format!("http://127.0.0.1:{}", stub.port);
    let mut table = Table::new("commands/s");
    for _ in 0..rounds() {
        table.add(0, "workspace-fleet", work("fleet", &words(&[&url, &1000, &4, &1]))?.per_second());
        if let Some(python) = &python {
            table.add(1, "AsyncRemoteWorkspace", python_class(python, &url, 1000, 1, 1)?.per_second());
        }
    }
    report.table(
        "A thousand workspaces, from cold",
        "Workspaces are made, connect, and run commands at the same time, four each; one each with the Python class, which takes long enough.",
        &table,
    );
    let ratio = table.ratio("workspace-fleet", "AsyncRemoteWorkspace");
    let measured = ratio.map(|ratio| (format!("{}x", number(ratio)), ratio >= 60.0));
    report.verdict("1,000 workspaces, from cold", ">= 60x AsyncRemoteWorkspace", measured);
    Ok(())
}

/// What a command costs when there are a hundred times as many workspaces.
pub(crate) fn cost_at_scale(report: &mut Report) -> Result<()> {
    let stub = stub()?;
    let url = format!("http://127.0.0.1:{}", stub.port);
    let mut table = Table::new("µs of processor time per command");
    for _ in 0..rounds() {
        let few = work("fleet-warm", &words(&[&url, &100, &1000, &1]))?;
        let many = work("fleet-warm", &words(&[&url, &10_000, &10, &1]))?;
        let turns = work("fleet-turns", &words(&[&url, &10_000, &10, &1, &100]))?;
        table.add(0, "100 workspaces", few.cpu_each() * 1e6);
        table.add(1, "10,000 workspaces", many.cpu_each() * 1e6);
        table.add(4, "10,000 workspaces, 100 of them at work", turns.cpu_each() * 1e6);
        let bare = |connections: usize| work("hyper", &words(&[&stub.port, &100_000, &connections]));
        table.add(2, "bare hyper, 100 connections", bare(100)?.cpu_each() * 1e6);
        table.add(3, "bare hyper, 10,000 connections", bare(10_000)?.cpu_each() * 1e6);
    }
    report.table(
        "Cost at scale",
        "100,000 commands over few and over many workspaces, each of which has run one before. All workspaces are at work all the time, \
         but in the last row, which has as many at work as the first and connects to each anew.",
        &table,
    );
    let ratio = table.ratio("10,000 workspaces", "100 workspaces");
    let measured = ratio.map(|ratio| (format!("{}x", number(ratio)), ratio <= 1.25));
    report.verdict("processor time per command, 10,000 workspaces to 100", "<= 1.25x", measured);
    let ratio = table.ratio("10,000 workspaces, 100 of them at work", "100 workspaces");
    let measured = ratio.map(|ratio| (format!("{}x", number(ratio)), ratio <= 1.25));
    report.verdict("the same, 100 of the 10,000 at work at a time", "<= 1.25x", measured);
    let bare = table.ratio("bare hyper, 10,000 connections", "bare hyper, 100 connections");
    report.verdict(
        "the same of bare hyper and its connections",
        "reported",
        bare.map(|ratio| (format!("{}x", number(ratio)), true)),
    );
    Ok(())
}
