//! How long an inventory of 100,000 workspaces takes to be read and selected from: `cargo bench --bench inventory`.

use std::{fmt::Write as _, path::Path, time::Instant};

use workspace_fleet::inventory::{Inventory, Lookup, TargetQuery, UrlDefaults, parse_target_list, resolve};

const WORKSPACES: usize = 100_000;

fn toml() -> String {
    let mut text = String::new();
    for number in 0..WORKSPACES {
        let tier = if number % 3 == 0 { "gpu" } else { "cpu" };
        let host = format!("https://gateway.example/s/{number}");
        write!(text, "[[workspace]]\nname = \"node{number}\"\nhost = \"{host}\"\napi_key = \"k\"\nlabels = {{ tier = \"{tier}\" }}\n")
            .unwrap_or_else(|_| unreachable!("a string takes what is written to it"));
    }
    text
}

fn json() -> String {
    let entry = |number| {
        format!(
            "{{\"name\": \"node{number}\", \"host\": \"https://gateway.example/s/{number}\", \"labels\": {{\"tier\": \"gpu\"}}}}"
        )
    };
    format!("{{\"workspace\": [{}]}}", (0..WORKSPACES).map(entry).collect::<Vec<_>>().join(",\n"))
}

fn main() {
    for (what, text) in [("toml", toml()), ("json", json())] {
        let began = Instant::now();
        let inventory = Inventory::parse(Path::new("inventory"), &text).unwrap_or_else(|error| panic!("{error}"));
        println!("{what}: {} workspaces of {} MiB read in {:?}", inventory.len(), text.len() >> 20, began.elapsed());
        for (how, targets, labels) in
            [("a range", "node[0-99999]", None), ("a glob", "*9", None), ("a label", "", Some("tier=gpu"))]
        {
            let targets = parse_target_list(targets).unwrap_or_else(|(target, reason)| panic!("{target}: {reason}"));
            let query = TargetQuery {
                targets: targets.into_iter().map(|target| (None, target)).collect(),
                labels: labels.into_iter().filter_map(|label: &str| label.parse().ok()).collect(),
                ..TargetQuery::default()
            };
            let read = |_: &str| Ok(inventory.clone());
            let lookup = Lookup { inventory: &read, variable: &|_| None };
            let began = Instant::now();
            let selected = resolve(&query, &UrlDefaults::default(), &lookup).unwrap_or_else(|error| panic!("{error}"));
            println!(
                "{what}: {} workspaces selected by {how} in {:?}, a copy of the inventory included",
                selected.len(),
                began.elapsed()
            );
        }
    }
}
