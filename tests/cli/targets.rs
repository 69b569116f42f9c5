//! Which workspaces are meant.

use std::collections::BTreeSet;

use crate::support::{Agent, Place};

/// The workspaces that answered a ping, in the order of the lines.
fn pinged(place: &Place, args: &[&str]) -> BTreeSet<String> {
    let ended = place.run(&[&["ping", "--json"], args].concat()).expect(0);
    let lines = ended.json();
    let finished = lines.iter().filter(|line| line["event"] == "target_finished");
    let names: Vec<String> = finished.map(|line| line["workspace"].as_str().unwrap().to_owned()).collect();
    let set: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(names.len(), set.len(), "each workspace once: {names:?}");
    set
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn with_inventory(agent: &Agent, place: &Place, file: &str) {
    let url = &agent.url;
    let entry = |name: &str, labels: &str| {
        format!("[[workspace]]\nname = \"{name}\"\nhost = \"{url}\"\nlabels = {{ {labels} }}\n")
    };
    let text = [
        entry("gpu-1", "tier = \"gpu\", zone = \"eu\""),
        entry("gpu-2", "tier = \"gpu\", zone = \"us\""),
        entry("web", "tier = \"cpu\""),
    ];
    place.file(file, text.concat());
}

#[test]
fn names_labels_and_all_come_from_the_inventory() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    with_inventory(&agent, &place, "wsfleet.toml");
    assert_eq!(pinged(&place, &["-a"]), set(&["gpu-1", "gpu-2", "web"]));
    assert_eq!(pinged(&place, &["-w", "web,gpu-1", "-w", "web"]), set(&["gpu-1", "web"]));
    assert_eq!(pinged(&place, &["-l", "tier=gpu"]), set(&["gpu-1", "gpu-2"]));
    assert_eq!(pinged(&place, &["-l", "tier=gpu", "-l", "zone=us"]), set(&["gpu-2"]));
    assert_eq!(pinged(&place, &["-w", &agent.url, "-l", "tier=cpu"]), set(&[agent.name(), "web"]));
}

#[test]
fn the_inventory_is_found_in_the_configuration_folder_too() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    with_inventory(&agent, &place, "config/wsfleet/wsfleet.toml");
    assert_eq!(pinged(&place, &["-w", "web"]), set(&["web"]));
    // The one in the working directory comes first.
    place.file("wsfleet.toml", "");
    place.run(&["ping", "-w", "web"]).expect(2).says(&["unknown workspace `web`"]);
    // And one that is named comes before both.
    with_inventory(&agent, &place, "other.toml");
    assert_eq!(pinged(&place, &["--inventory", "other.toml", "-l", "tier=cpu"]), set(&["web"]));
}

#[test]
fn hostfiles_hold_names_and_urls() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    with_inventory(&agent, &place, "wsfleet.toml");
    let text = format!("# two\nweb\n\n{}  # by address\nweb\n", agent.url);
    place.file("hosts", &text);
    assert_eq!(pinged(&place, &["--hostfile", "hosts"]), set(&["web", agent.name()]));
    let ended = place.run_with_stdin(&["ping", "--hostfile", "-"], &text).expect(0);
    assert!(ended.stderr.contains("2 succeeded"), "{}", ended.stderr);
}

#[test]
fn a_broken_inventory_harms_nobody_who_needs_none() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    place.file("wsfleet.toml", "not toml at all");
    assert_eq!(pinged(&place, &["-w", &agent.url]), set(&[agent.name()]));
}

#[test]
fn two_workspaces_behind_one_gateway_stay_two() {
    let ended = Place::new().run(&["ping", "--json", "-w", "http://127.0.0.1:1/s/a,http://127.0.0.1:1/s/b"]).expect(4);
    for name in ["127.0.0.1:1/s/a", "127.0.0.1:1/s/b"] {
        assert!(ended.stdout.contains(&format!("\"workspace\":\"{name}\"")), "{}", ended.stdout);
    }
}

#[test]
fn a_key_for_urls_comes_from_the_environment() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[("SESSION_API_KEY", "k1")]);
    let mut command = place.command(&["run", "-w", &agent.url, "--api-key-env", "K", "--", "echo in"]);
    command.env("K", "k1");
    assert!(crate::support::Ended::of(command).expect(0).stdout.contains("in\n"));
}
