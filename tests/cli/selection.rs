//! Patterns, exclusion, inventories of other kinds, and what would be done.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _};

use crate::support::{Agent, Ended, Place};

/// An inventory of workspaces that nobody listens behind.
fn inventory(names: &[&str]) -> String {
    let entry = |name: &&str| format!("[[workspace]]\nname = \"{name}\"\nhost = \"http://127.0.0.1:1\"\n");
    names.iter().map(entry).collect()
}

fn place(names: &[&str]) -> Place {
    let place = Place::new();
    place.file("wsfleet.toml", inventory(names));
    place
}

/// What is listed, in its order.
#[track_caller]
fn listed(place: &Place, args: &[&str]) -> Vec<String> {
    let ended = place.run(&[&["ping", "--list-targets"], args].concat()).expect(0);
    ended.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn ranges_globs_and_exclusions_select() {
    let place = place(&["n1", "n2", "n3", "n10", "web-01", "web-02"]);
    assert_eq!(listed(&place, &["-w", "n[1-3,10]"]), ["n1", "n2", "n3", "n10"]);
    assert_eq!(listed(&place, &["-w", "web-[01-02],n?"]), ["web-01", "web-02", "n1", "n2", "n3"]);
    assert_eq!(listed(&place, &["-a", "-x", "n*", "-x", "web-[02]"]), ["web-01"]);
    assert_eq!(
        listed(&place, &["-w", "http://127.0.0.[1-3]:9", "-x", "http://127.0.0.2:9"]),
        ["127.0.0.1:9", "127.0.0.3:9"]
    );
    assert_eq!(listed(&place, &["-a", "--pick", "2"]).len(), 2);
    assert_eq!(listed(&place, &["--local", "4", "-x", "local-[2-3]"]), ["local-1", "local-4"]);
    place.file("hosts", "n[1-2] # two\nweb*\n");
    assert_eq!(listed(&place, &["--hostfile", "hosts"]), ["n1", "n2", "web-01", "web-02"]);
    let ended = place.run_with_stdin(&["ping", "--list-targets", "-w", "-"], "n3\nn[1-2]\n").expect(0);
    assert_eq!(ended.stdout, "n3\nn1\nn2\n");
}

#[test]
fn what_is_not_there_is_told() {
    let place = place(&["n1", "n2"]);
    let said =
        |args: &[&str], code, parts: &[&str]| drop(place.run(&[&["ping"], args].concat()).expect(code).says(parts));
    said(
        &["-w", "n[1-20]"],
        2,
        &["18 of the 20 workspaces of `n[1-20]` are not in wsfleet.toml", "`n3`, `n4`, `n5` and more"],
    );
    said(&["-w", "nn*"], 6, &["`nn*` matches none of the 2 workspaces", "did you mean"]);
    said(&["-a", "-x", "*"], 6, &["all 2 of them are excluded"]);
    said(&["-a", "-x", "m1"], 2, &["-x `m1`", "did you mean `n1`"]);
    said(&["-w", "n[2-1]"], 2, &["target `n[2-1]`", "turn them round"]);
    said(&["-w", "n[1-9999999]"], 2, &["9999999 names", "1000000"]);
    said(&["-w", "http://h:[1-9999999]"], 2, &["9999999 names"]);
    said(&["-l", "tier"], 6, &["satisfies tier"]);
    said(&["-w", "-", "--hostfile", "-"], 2, &["-w - and --hostfile - both read stdin"]);
    said(&["-x", "n1"], 2, &["no targets"]);
}

#[test]
fn an_inventory_comes_from_a_program_or_from_stdin() {
    let place = Place::new();
    let json = r#"{"workspace":[{"name":"a","host":"http://127.0.0.1:1","labels":{"tier":"gpu"}},{"name":"b","host":"http://h:2"}]}"#;
    let line = format!("echo hello >&2; echo '{json}'");
    let ended = place.run(&["ping", "-l", "tier=gpu", "--list-targets", "--inventory-program", &line]).expect(0);
    assert_eq!(ended.stdout, "a\n");
    ended.says(&["hello"]);
    let program = place.file("inv", format!("#!/bin/sh\n{line}\n"));
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(listed(&place, &["-a", "--inventory", "inv"]), ["a", "b"]);
    for text in [json.to_owned(), inventory(&["a", "b"])] {
        let ended = place.run_with_stdin(&["ping", "-a", "--list-targets", "--inventory", "-"], &text).expect(0);
        assert_eq!(ended.stdout, "a\nb\n");
    }
    let failing = |line: &str, parts: &[&str]| {
        let args = ["ping", "-a", "--inventory-timeout", "300ms", "--inventory-program", line];
        drop(place.run(&args).expect(2).says(parts));
    };
    failing("echo why >&2; exit 3", &["why", "exit code 3"]);
    failing("sleep 1000", &["longer than 300ms", "--inventory-timeout"]);
    // The nearer one wins, and two that are equally near are too many.
    let mut command = place.command(&["ping", "-a", "--list-targets", "--inventory", "inv"]);
    command.env("WSFLEET_INVENTORY_PROGRAM", "exit 9");
    Ended::of(command).expect(0);
    place.run(&["ping", "-a", "--inventory", "inv", "--inventory-program", "true"]).expect(2).says(&["choose one"]);
}

#[test]
fn targets_are_listed_without_their_secrets() {
    let place = Place::new();
    place.file(
        "wsfleet.toml",
        "[[workspace]]\nname = \"a\"\nhost = \"http://h:1/s/x\"\napi_key = \"hush\"\nheaders = { X-A = \"hush\" }\nlabels = { tier = \"gpu\" }\n",
    );
    let ended = place.run(&["run", "-a", "--list-targets", "--json"]).expect(0);
    assert!(!ended.stdout.contains("hush"), "{}", ended.stdout);
    let lines = ended.json();
    assert_eq!(lines[0]["workspace"], "a");
    assert_eq!(lines[0]["host"], "http://h:1/s/x");
    assert_eq!(lines[0]["labels"]["tier"], "gpu");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    let mark = place.path().join("mark");
    let line = format!("touch {}", mark.display());
    let ended = place.run(&["run", "-w", &agent.url, "--dry-run", "--", &line]).expect(0);
    assert_eq!(ended.stdout, format!("{}: {line}\n", agent.name()));
    ended.says(&["1 target, 1 at a time; nothing was sent"]);
    assert!(!mark.exists());
    place.file("a.txt", "a");
    let args = ["upload", "-w", "http://127.0.0.[1-2]:1", "--dry-run", "--json", "a.txt", "/tmp/"];
    let would: BTreeSet<String> =
        place.run(&args).expect(0).json().iter().map(|line| line["would"][0].as_str().unwrap().to_owned()).collect();
    assert_eq!(would, BTreeSet::from(["upload a.txt to /tmp/a.txt".to_owned()]));
    let ended = place.run(&["download", "--local", "2", "--dry-run", "/etc/passwd", "out"]).expect(0);
    assert_eq!(
        ended.stdout,
        "local-1: download /etc/passwd to out/local-1/passwd\nlocal-2: download /etc/passwd to out/local-2/passwd\n"
    );
    assert!(!place.path().join("out").exists());
}

const PAGE: &str = include_str!("../../docs/selection.md");

#[test]
fn the_page_about_selection_shows_what_happens() {
    let place = Place::new();
    place.file("wsfleet.toml", PAGE.split("```toml\n").nth(1).unwrap().split("```").next().unwrap());
    let blocks = PAGE.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap());
    let examples: Vec<&str> = blocks.flat_map(|block| block.split("$ wsfleet ").skip(1)).collect();
    assert!(examples.len() >= 8, "{examples:?}");
    for example in examples {
        let (line, expected) = example.split_once('\n').unwrap();
        let words: Vec<String> = line.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect();
        let mut command = place.command(&[]);
        command.args(&words).env("NODE_KEY", "k");
        assert_eq!(Ended::of(command).expect(0).stdout, expected, "{line}");
    }
    let json = PAGE.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let ended = place.run_with_stdin(&["ping", "-a", "--list-targets", "--inventory", "-"], json).expect(0);
    assert_eq!(ended.stdout, "node1\n");
    let config = PAGE.lines().skip_while(|line| *line != "    fanout = 128").take_while(|line| !line.starts_with('#'));
    place.file("config.toml", config.map(|line| format!("{}\n", line.trim())).collect::<String>());
    place.file("inventory.toml", inventory(&["a"]));
    let ended = place.run(&["run", "-a", "--list-targets", "--config", "config.toml"]).expect(0);
    assert_eq!(ended.stdout, "a\n");
}
