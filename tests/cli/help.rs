//! What `--help` and wrong command lines say, word by word. After a change: `INSTA_UPDATE=always cargo test --test cli help`.

use crate::support::Place;

#[test]
fn help_of_every_subcommand() {
    let place = Place::new();
    for name in ["", "run", "upload", "download", "changes", "diff", "ping", "info", "agent"] {
        let args: Vec<&str> = [name, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let help = place.run(&args).expect(0).stdout;
        insta::assert_snapshot!(format!("help_{}", if name.is_empty() { "wsfleet" } else { name }), help);
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
        "frobnicate",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = place.run(&words).expect(2);
        said.push_str(&format!("$ wsfleet {line}\n{}\n", ended.stderr));
    }
    insta::assert_snapshot!("messages", said);
}
