//! What is done for each command, each event or each workspace, piece by piece and without I/O, so that its cost can be
//! measured. `benches/micro.rs` takes the time of each, `benches/instructions` counts instructions and allocations.

mod inputs;

use std::{collections::BTreeMap, hint::black_box};

use crate::{
    fleet::{LeaseLookups, NamePattern, Selector},
    inventory::{Inventory, parse_hostfile},
    protocol::{BashEvent, BashEventPage, CommandHead, StartBashCommand},
    workspace::settle,
};

/// Goes a path once, and returns how many things there were to do.
pub type Walk = Box<dyn FnMut() -> usize>;

/// A path that is gone often.
#[derive(Debug, Clone, Copy)]
pub struct HotPath {
    /// Its name.
    pub name: &'static str,
    /// Makes everything ready that is not part of it.
    pub prepare: fn() -> Walk,
}

/// All of them.
pub const HOT_PATHS: &[HotPath] = &[
    HotPath { name: "build_head", prepare: build_head },
    HotPath { name: "strip_head", prepare: strip_head },
    HotPath { name: "write_start", prepare: write_start },
    HotPath { name: "read_last_event_page", prepare: || read_page(1) },
    HotPath { name: "read_page_of_8", prepare: || read_page(8) },
    HotPath { name: "read_event", prepare: read_event },
    HotPath { name: "write_event", prepare: write_event },
    HotPath { name: "settle_1_event", prepare: || settle_events(1) },
    HotPath { name: "settle_100_events", prepare: || settle_events(100) },
    HotPath { name: "write_json_line", prepare: write_json_line },
    HotPath { name: "pattern_over_10000_names", prepare: match_pattern },
    HotPath { name: "selector_over_10000_workspaces", prepare: pick },
    HotPath { name: "lease_among_10000_workspaces", prepare: lease },
    HotPath { name: "hostfile_of_10000_lines", prepare: read_hostfile },
    HotPath { name: "inventory_of_10000_lines", prepare: read_inventory },
];

fn build_head() -> Walk {
    let id = inputs::id(1);
    Box::new(move || format!("{}true", CommandHead::new(black_box(id))).len())
}

fn strip_head() -> Walk {
    let text = inputs::text_with_head();
    Box::new(move || CommandHead::strip(black_box(&text)).map_or(0, |(_, command)| command.len()))
}

fn write_start() -> Walk {
    let text = inputs::text_with_head();
    Box::new(move || {
        let start = StartBashCommand { command: black_box(&text).clone(), cwd: None, timeout: 31 };
        serde_json::to_vec(&start).map_or(0, |bytes| bytes.len())
    })
}

/// Pages as they come: the last event alone, which most commands have, or a full page of output.
fn read_page(events: usize) -> Walk {
    let page = inputs::page(events);
    Box::new(move || serde_json::from_slice::<BashEventPage>(black_box(&page)).map_or(0, |page| page.items.len()))
}

fn read_event() -> Walk {
    let event = inputs::event_text();
    Box::new(move || usize::from(serde_json::from_slice::<BashEvent>(black_box(&event)).is_ok()))
}

fn write_event() -> Walk {
    let event = BashEvent::Output(inputs::last_event(0));
    Box::new(move || serde_json::to_vec(black_box(&event)).map_or(0, |bytes| bytes.len()))
}

/// From the events of a command to its output, the copy of the events included.
fn settle_events(events: usize) -> Walk {
    let events = inputs::events(events);
    Box::new(move || settle(black_box(events.clone())))
}

fn write_json_line() -> Walk {
    let mut writer = crate::cli::JsonLineWriter::new(&inputs::run());
    let event = inputs::finished();
    Box::new(move || writer.write(black_box(&event)))
}

fn match_pattern() -> Walk {
    let names = inputs::names();
    let pattern: NamePattern = "node[100-5000]*".parse().expect("it is a pattern");
    Box::new(move || names.iter().filter(|name| pattern.matches(black_box(name))).count())
}

fn pick() -> Walk {
    let workspaces: Vec<_> =
        inputs::names().into_iter().enumerate().map(|(at, name)| (name, inputs::labels(at))).collect();
    let selector = Selector::matching("node[0-9999]").expect("it is a pattern").and_label("tier", "gpu");
    let picks = move |(name, labels): &(String, BTreeMap<String, String>)| selector.picks(name, labels);
    Box::new(move || workspaces.iter().filter(|workspace| picks(black_box(workspace))).count())
}

/// Takes one workspace by its name and one by its label, and gives both back.
fn lease() -> Walk {
    let mut lookups =
        LeaseLookups::new(inputs::names().into_iter().enumerate().map(|(at, name)| (name, inputs::labels(at))));
    let (named, labelled) = (Selector::names(["node5000"]), Selector::label("tier", "gpu"));
    Box::new(move || {
        [&named, &labelled].into_iter().filter(|selector| lookups.take_and_release(black_box(selector))).count()
    })
}

fn read_hostfile() -> Walk {
    let text = inputs::hostfile();
    Box::new(move || parse_hostfile("hosts", black_box(&text)).map_or(0, |targets| targets.len()))
}

fn read_inventory() -> Walk {
    let text = inputs::inventory();
    Box::new(move || {
        Inventory::parse(std::path::Path::new("inventory"), black_box(&text)).map_or(0, |inventory| inventory.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that fails at once would be a fast one.
    #[test]
    fn each_path_does_all_that_there_is_to_do_every_time() {
        let time = "2026-09-21T14:13:20.123456Z";
        let id = "00000000000000000000000000000001";
        // As JSON has it: each line break is two characters.
        let text = inputs::TEXT.replace('\n', "\\n");
        let event = format!(
            r#"{{"kind":"BashOutput","id":"{id}","timestamp":"{time}","command_id":"{id}","order":0,"exit_code":0,"stdout":"{text}","stderr":null}}"#
        );
        let line = format!(
            r#"{{"schema":1,"seq":30000,"time":"{time}","run_id":"{id}","event":"target_finished","workspace":"node5000","outcome":"succeeded","exit_code":0,"stdout":"{text}","stderr":"","timeout_occurred":false,"stdout_bytes":{},"stderr_bytes":0,"truncated":false,"duration_ms":1300,"attempt":1,"error":null}}"#,
            inputs::TEXT.len()
        );
        let start = r#"{"command":"","cwd":null,"timeout":31}"#;
        let expected = |name| match name {
            "build_head" => 26 + 32 + 95 + "true".len(),
            "strip_head" => "cargo test --locked -- --nocapture".len(),
            "write_start" => start.len() + inputs::text_with_head().len(),
            "read_last_event_page" | "read_event" => 1,
            "read_page_of_8" => 8,
            "write_event" => event.len(),
            // Each event brings the same text, and nothing is missing.
            "settle_1_event" => inputs::TEXT.len() + 1,
            "settle_100_events" => 100 * inputs::TEXT.len() + 1,
            "write_json_line" => line.len() + 1,
            // All names of three digits and more begin with a number of the range.
            "pattern_over_10000_names" => 9_900,
            "selector_over_10000_workspaces" => 3_334,
            "lease_among_10000_workspaces" => 2,
            "hostfile_of_10000_lines" => 10_000,
            "inventory_of_10000_lines" => 2_500,
            _ => unreachable!("{name} has no expectation"),
        };
        for path in HOT_PATHS {
            let mut walk = (path.prepare)();
            let done = [walk(), walk()];
            assert_eq!(done, [expected(path.name); 2], "{}", path.name);
        }
    }
}
