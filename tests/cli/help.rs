//! What `--help` and wrong command lines say, word by word. After a change: `INSTA_UPDATE=always cargo test --test cli help`.

use crate::support::Place;

#[test]
fn help_of_every_subcommand() {
    let place = Place::new();
    for name in ["", "run", "attach", "stop", "upload", "download", "changes", "diff", "ping", "info", "agent", "serve"]
    {
        let args: Vec<&str> = [name, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let help = place.run(&args).expect(0).stdout;
        insta::assert_snapshot!(format!("help_{}", if name.is_empty() { "wsfleet" } else { name }), help);
    }
}

#[test]
fn the_version_is_told_the_same_by_itself_and_beside_other_options() {
    let place = Place::new();
    let told = place.run(&["--no-config", "--version"]).expect(0).stdout;
    assert_eq!(told, concat!("wsfleet ", env!("CARGO_PKG_VERSION"), "\n"));
    for alone in ["--version", "-V"] {
        assert_eq!(place.run(&[alone]).expect(0).stdout, told, "{alone}");
    }
}

#[test]
fn messages_for_wrong_command_lines() {
    let place = Place::new();
    let mut said = String::new();
    for line in [
        "run -- true",
        "run --local 1",
        "run --local 1 --max-output lots -- true",
        "run --local 1 --resume -- true",
        "run --local 1 -b --stream -- true",
        "run --local 1 --progress pie -- true",
        "upload --local 1 missing /tmp/x",
        "download --local 1 relative x",
        "run --local 1 --detach -- true",
        "attach w1",
        "attach --from ids w1 0f8fad5bd9cb469fa16570867728950e",
        "frobnicate",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = place.run(&words).expect(2);
        said.push_str(&format!("$ wsfleet {line}\n{}\n", ended.stderr));
    }
    insta::assert_snapshot!("messages", said);
}

/// The exit codes that a text lists, at the beginning of lines or in the first column of a table.
fn codes(text: &str) -> Vec<&str> {
    let words = text.lines().filter_map(|line| line.trim_start_matches("| ").split_whitespace().next());
    words.filter(|word| word.parse::<u8>().is_ok()).collect()
}

#[test]
fn the_documentation_has_the_exit_codes_of_the_help() {
    let help = Place::new().run(&["run", "--help"]).expect(0).stdout;
    let (_, help) = help.split_once("Exit codes:").unwrap();
    let page = include_str!("../../docs/fleet.md").split_once("## Exit codes").unwrap().1;
    assert_eq!(codes(help), ["0", "1", "2", "3", "4", "5", "6", "7", "130"]);
    assert_eq!(codes(page.split_once("## Events").unwrap().0), codes(help));
}
