//! The configuration file, completion, and the limit of open files.

use crate::support::{Ended, Place};

/// The window that a run announces.
#[track_caller]
fn fanout(place: &Place, args: &[&str], environment: &[(&str, &str)]) -> u64 {
    let mut command = place.command(&[&["ping", "--json", "-w", "http://127.0.0.1:1"], args].concat());
    command.envs(environment.iter().copied());
    Ended::of(command).expect(4).json()[0]["fanout"].as_u64().unwrap()
}

#[test]
fn an_option_wins_over_the_environment_and_that_over_the_file() {
    let place = Place::new();
    assert_eq!(fanout(&place, &[], &[]), 64);
    place.file("config/wsfleet/config.toml", "fanout = 7\nconnect-timeout = \"2s\"\ncolor = \"never\"\n");
    assert_eq!(fanout(&place, &[], &[]), 7);
    assert_eq!(fanout(&place, &[], &[("WSFLEET_FANOUT", "8")]), 8);
    assert_eq!(fanout(&place, &["-f", "9"], &[("WSFLEET_FANOUT", "8")]), 9);
    assert_eq!(fanout(&place, &["--no-config"], &[]), 64);
    place.file("other.toml", "fanout = 5\n[ping]\nfanout = 6\n[run]\nfanout = 3\n");
    assert_eq!(fanout(&place, &["--config", "other.toml"], &[]), 6);
    assert_eq!(fanout(&place, &[], &[("WSFLEET_CONFIG", "other.toml")]), 6);
}

#[test]
fn a_switch_and_paths_can_be_set() {
    let place = Place::new();
    place.file("etc/inv.toml", "[[workspace]]\nname = \"a\"\nhost = \"http://127.0.0.1:1\"\n");
    place.file("etc/config.toml", "json = true\nmaxrc = false\ninventory = \"inv.toml\"\nca-file = \"gone.pem\"\n");
    let ended = place.run(&["ping", "-a", "--list-targets", "--config", "etc/config.toml"]).expect(0);
    assert_eq!(ended.json()[0]["workspace"], "a");
    // Seen from the file's place, and told by its own name.
    let ended = place.run(&["ping", "-w", "http://127.0.0.1:1", "--config", "etc/config.toml"]).expect(2);
    ended.says(&["etc/gone.pem"]);
}

#[test]
fn what_contradicts_the_command_line_is_left_aside() {
    let place = Place::new();
    place.file("c.toml", "fold = true\nkeep-order = true\n");
    let run = |flags: &[&str]| {
        let args = [&["run", "--local", "2", "--config", "c.toml", "-e", "W={workspace}"], flags];
        place.run(&[&args.concat()[..], &["--", "[ $W != local-1 ] || sleep 0.3; echo hi"]].concat()).expect(0)
    };
    assert_eq!(run(&[]).stdout, "== local-1,local-2 (2): succeeded, exit 0\nhi\n");
    assert_eq!(run(&["--tag"]).stdout, "local-1: hi\nlocal-2: hi\n");
    let seq: Vec<u64> = run(&["--json"]).json().iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seq.is_sorted(), "lines of JSON come as they happen: {seq:?}");
    place.file("c.toml", "json = true\n");
    assert_eq!(run(&["-b"]).stdout, "== local-1,local-2 (2): succeeded, exit 0\nhi\n");
    place.file("c.toml", "json = true\nkeep-order = true\n");
    assert!(run(&[]).json().iter().map(|line| line["seq"].as_u64().unwrap()).is_sorted());
}

#[test]
fn what_is_wrong_in_the_file_is_told_with_its_line() {
    let place = Place::new();
    for (text, line, parts) in [
        ("\nfanuot = 3\n", 2, &["unknown key `fanuot`", "did you mean `fanout`"][..]),
        ("# ours\n\nfanout = \"many\"\n", 3, &["`fanout` can not be `many`", "invalid digit"]),
        ("fanout = 0\n", 1, &["`fanout` can not be `0`", "1..=100000"]),
        ("color = \"pink\"\n", 1, &["`color` can not be `pink`", "always"]),
        ("connect-timeout = \"5 weeks\"\n", 1, &["`weeks` is not a unit"]),
        ("json = 1\n", 1, &["true or false"]),
        ("fanout = [1]\n", 1, &["one value"]),
        ("all = true\n", 1, &["`all` can not be set here"]),
        ("[rum]\nfanout = 1\n", 1, &["unknown key `rum`", "`run`"]),
        ("[ping]\nstream = true\n", 2, &["unknown key `stream`"]),
        ("fanout = \n", 1, &[]),
    ] {
        place.file("c.toml", text);
        let ended = place.run(&["ping", "--config", "c.toml", "-w", "http://127.0.0.1:1"]).expect(2);
        ended.says(&[&[format!("c.toml:{line}: ").as_str()][..], parts].concat());
    }
    place.run(&["ping", "--config", "gone.toml", "-a"]).expect(2).says(&["gone.toml", "No such file"]);
}

#[test]
fn a_completion_is_understood_by_its_shell() {
    let place = Place::new();
    for (shell, part) in [("bash", "_wsfleet"), ("zsh", "#compdef wsfleet"), ("fish", "complete -c wsfleet")] {
        let ended = place.run(&["completion", shell]).expect(0);
        assert!(ended.stdout.contains(part) && ended.stdout.contains("list-targets"), "{shell}");
    }
    let script = place.file("complete.bash", place.run(&["completion", "bash"]).expect(0).stdout);
    let check = std::process::Command::new("bash").arg("-n").arg(script).status();
    assert!(check.unwrap().success());
    place.run(&["completion", "cmd"]).expect(2).says(&["bash"]);
}

/// The program under a limit of open files.
fn limited(place: &Place, files: u32, args: &str) -> Ended {
    let program = env!("CARGO_BIN_EXE_wsfleet");
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", &format!("ulimit -n {files} && exec {program} {args}")]).current_dir(place.path());
    command.env("XDG_CONFIG_HOME", place.path()).env_remove("WSFLEET_FANOUT");
    Ended::of(command)
}

#[test]
fn the_window_fits_the_limit_of_open_files() {
    let place = Place::new();
    let ended = limited(&place, 100, "ping --json -w 'http://127.0.0.1:[1-60]' -t 5");
    let window = ended.json()[0]["fanout"].as_u64().unwrap();
    assert!((1..25).contains(&window), "{window}");
    let ended = ended.expect(4).says(&[&format!("{window} workspaces at once in place of 64"), "at most 100 files"]);
    assert_eq!(ended.stderr.matches("at once in place of").count(), 1);
    // Nothing is said where it makes no difference.
    let ended = limited(&place, 100, "ping -w http://127.0.0.1:1").expect(4);
    assert!(!ended.stderr.contains("in place of"), "{}", ended.stderr);
    limited(&place, 36, "ping -w http://127.0.0.1:1").expect(2).says(&["at most 36 files", "ulimit -n"]);
}

#[test]
fn the_help_of_run_has_headings_and_examples() {
    let help = Place::new().run(&["run", "--help"]).expect(0).stdout;
    for part in
        ["Targets:", "Inventory:", "Connection:", "Running:", "Output:", "Configuration:", "Examples:", "Exit codes:"]
    {
        assert!(help.contains(&format!("\n{part}\n")), "{part} in\n{help}");
    }
}
