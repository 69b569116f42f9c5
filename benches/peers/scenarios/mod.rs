//! What is measured. Each scenario asks its contenders in turns and says which bound it has.

mod agent;
mod commands;
mod fleet_run;
mod idle;
mod lag;
mod output;
mod requests;
mod startup;
mod transfers;
mod wide_area;

use crate::{process::Result, report::Report};

type Scenario = fn(&mut Report) -> Result<()>;

const ALL: [(&str, Scenario); 12] = [
    ("one-workspace", commands::one_workspace),
    ("thousand-workspaces", commands::thousand_workspaces),
    ("cost-at-scale", commands::cost_at_scale),
    ("fleet-run", fleet_run::ten_thousand),
    ("idle-workspaces", idle::memory),
    ("completion-lag", lag::completion),
    ("requests", requests::one_minute),
    ("transfers", transfers::one_gib),
    ("agent-server", agent::beside_the_real_one),
    ("wide-area", wide_area::tls_with_delay),
    ("output", output::one_gib),
    ("start-up", startup::version_and_size),
];

/// Runs the scenarios whose name has this text in it. One that fails keeps none of the others from running; the report says so.
pub(crate) fn run(filter: &str, report: &mut Report) -> Result<()> {
    let chosen: Vec<_> = ALL.into_iter().filter(|(name, _)| name.contains(filter)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = ALL.into_iter().map(|(name, _)| name).collect();
        return Err(format!("no scenario has `{filter}` in its name; there are {}", names.join(", ")).into());
    }
    for (name, scenario) in chosen {
        if let Err(error) = scenario(report) {
            report.failed(name, &*error);
        }
    }
    Ok(())
}
