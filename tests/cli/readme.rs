//! The README's command lines, as a newcomer would type them.

use std::process::Command;

use crate::support::{Ended, Place};

const README: &str = include_str!("../../README.md");

/// What follows a `$` in the README's console blocks.
fn command_lines() -> impl Iterator<Item = &'static str> {
    README.lines().filter_map(|line| line.strip_prefix("$ "))
}

/// A shell at a place where `wsfleet` is the built program.
fn shell(place: &Place, line: &str) -> Ended {
    let program = env!("CARGO_BIN_EXE_wsfleet");
    let folder = std::path::Path::new(program).parent().unwrap();
    let path = std::env::join_paths(
        std::iter::once(folder.to_owned()).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = Command::new("/bin/sh");
    // The environment of the program is that of the other tests; only its name is found by a shell.
    for (name, value) in place.command(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("PATH", path.unwrap()).current_dir(place.path()).args(["-c", line]);
    Ended::of(command)
}

#[test]
fn the_first_command_gives_what_it_shows() {
    let line = command_lines().next().unwrap();
    let line = line.strip_prefix("cargo run --release -- ").expect("the README opens with a run of the program");
    let ended = shell(&Place::new(), &format!("wsfleet {line}")).expect(0);
    // The times and the temporary names differ from run to run.
    let shape = |text: &str| -> Vec<String> {
        let mut lines: Vec<_> =
            text.lines().map(|line| line.chars().filter(|c| c.is_ascii_lowercase()).take(12).collect()).collect();
        lines.sort();
        lines
    };
    let shown: Vec<&str> = README
        .lines()
        .skip_while(|line| !line.starts_with("$ cargo run"))
        .skip(1)
        .take_while(|line| !line.starts_with('$'))
        .collect();
    let (summary, groups) = shown.split_last().unwrap();
    assert_eq!(shape(&ended.stdout), shape(&groups.join("\n")));
    assert!(
        ended.stderr.trim_end().ends_with(": 4 succeeded") && summary.ends_with(": 4 succeeded"),
        "{}",
        ended.stderr
    );
}

#[test]
fn every_command_line_has_options_that_exist() {
    let lines = command_lines().filter_map(|line| line.strip_prefix("wsfleet "));
    let lines: Vec<_> = lines.map(|line| line.split(" | ").next().unwrap().split(" > ").next().unwrap()).collect();
    assert!(lines.len() >= 10, "{lines:?}");
    for line in lines {
        // Help is given only when everything before it was understood.
        let line = match line.split_once(" -- ") {
            Some((options, command)) => format!("wsfleet {options} --help -- {command}"),
            None => format!("wsfleet {line} --help"),
        };
        assert!(shell(&Place::new(), &line).expect(0).stdout.contains("Usage: wsfleet "), "{line}");
    }
}

#[test]
fn the_inventory_is_understood() {
    let place = Place::new();
    let toml = README.split("```toml\n").map(|block| block.split("```").next().unwrap());
    let inventory = toml.into_iter().find(|block| block.contains("[[workspace]]")).unwrap();
    place.file("wsfleet.toml", inventory);
    let ended = shell(&place, "wsfleet ping -w sandbox-2").expect(2);
    assert!(ended.stderr.contains("sandbox-1"), "{}", ended.stderr);
}
