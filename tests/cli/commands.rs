//! What `run` gives to commands and takes from them.

use crate::support::{Agent, Ended, Place};

#[test]
fn output_is_grouped_by_workspace_and_stderr_is_marked() {
    let ended = Place::new().run(&["run", "--local", "2", "--", "echo out; echo err >&2"]).expect(0);
    for name in ["local-1", "local-2"] {
        let group = ended.stdout.split("== ").find(|group| group.starts_with(name)).unwrap();
        let (headline, body) = group.split_once('\n').unwrap();
        assert!(headline.starts_with(&format!("{name}: succeeded, exit 0, ")), "{headline}");
        assert_eq!(body, "out\n");
        assert!(ended.stderr.contains(&format!("{name} stderr: err\n")), "{}", ended.stderr);
    }
    assert!(ended.stderr.lines().last().unwrap().ends_with(": 2 succeeded"), "{}", ended.stderr);
    assert!(!ended.stdout.contains('\u{1b}') && !ended.stderr.contains('\u{1b}'), "no colours but on a terminal");
}

#[test]
fn live_lines_are_marked_with_their_workspace() {
    let args = ["run", "--local", "2", "--stream", "--color", "never", "--", "echo one; printf two"];
    let ended = Place::new().run(&args).expect(0);
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["local-1: one", "local-1: two", "local-2: one", "local-2: two"]);
}

#[test]
fn colours_when_asked_for() {
    let ended = Place::new().run(&["run", "--local", "1", "--color", "always", "--", "echo hi"]).expect(0);
    assert!(ended.stdout.contains("\u{1b}["), "{:?}", ended.stdout);
    assert!(ended.stdout.contains("\nhi\n"));
}

#[test]
fn words_are_joined_by_spaces_for_the_shell() {
    let ended = Place::new().run(&["run", "--local", "1", "echo", "-n", "$((1 +", "2))", "a b"]).expect(0);
    assert!(ended.stdout.ends_with("\n3 a b\n"), "{}", ended.stdout);
}

#[test]
fn variables_know_their_workspace() {
    let args = ["run", "--local", "2", "-e", "WHO=<{workspace}>", "-e", "Q='$x'", "--", "echo \"$WHO $Q\""];
    let ended = Place::new().run(&args).expect(0);
    for name in ["local-1", "local-2"] {
        assert!(ended.stdout.contains(&format!("<{name}> '$x'\n")), "{}", ended.stdout);
    }
}

#[test]
fn the_working_directory_can_be_chosen() {
    let ended = Place::new().run(&["run", "--local", "1", "--cwd", "/", "--", "pwd"]).expect(0);
    assert!(ended.stdout.ends_with("\n/\n"), "{}", ended.stdout);
}

#[test]
fn stdin_reaches_every_command_when_asked_for() {
    let place = Place::new();
    let ended = place.run_with_stdin(&["run", "--local", "2", "--stdin", "--", "cat"], "piped\n").expect(0);
    assert_eq!(ended.stdout.matches("\npiped\n").count(), 2, "{}", ended.stdout);
    let ended = place.run_with_stdin(&["run", "--local", "1", "--", "cat"], "piped\n").expect(0);
    assert!(!ended.stdout.contains("piped"), "{}", ended.stdout);
}

#[test]
fn exit_codes_say_what_happened() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    let both = format!("{},http://127.0.0.1:1", agent.url);
    place.run(&["run", "-w", &agent.url, "--", "exit 9"]).expect(5);
    place.run(&["run", "-w", &agent.url, "-S", "--", "exit 9"]).expect(9);
    place.run(&["run", "-w", &agent.url, "-S", "--", "true"]).expect(0);
    // An unreachable workspace weighs more than a failed command.
    place.run(&["run", "-w", &both, "--", "exit 9"]).expect(4).says(&["1 failed, 1 unreachable"]);
    place.run(&["run", "-w", &both, "-S", "--", "exit 9"]).expect(9);
    place.run(&["run", "-w", &both, "-S", "--", "true"]).expect(4);
}

#[test]
fn ends_are_known_to_an_agent_whose_parent_wants_to_hear_of_none() {
    let place = Place::new();
    let agent = Agent::start_after(&place, "trap '' CHLD");
    place.run(&["run", "-w", &agent.url, "-S", "--", "exit 9"]).expect(9);
}

#[test]
fn a_secret_appears_nowhere() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[("OH_SESSION_API_KEYS_0", "hush-key")]);
    place.file(
        "wsfleet.toml",
        format!(
            "[[workspace]]\nname = \"w\"\nhost = \"{}\"\napi_key = \"hush-key\"\nheaders = {{ X-Gate = \"hush-gate\" }}\n",
            agent.url
        ),
    );
    // The command proves that it has the secret without printing it, and looks for it in every process's command line.
    let script = "[ ${#TOKEN} = 10 ] && [ ${#OTHER} = 10 ] && echo arrived; cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
    for output in [&["--json"][..], &["--stream"], &["--color", "always"]] {
        let mut command = place.command(&["run", "-a", "--secret-env", "TOKEN", "--secret-env", "OTHER=TOKEN"]);
        command.args(output).args(["--", script]);
        command.env("TOKEN", "hush-token").env("RUST_LOG", "trace");
        let ended = Ended::of(command).expect(0);
        assert!(ended.stdout.contains("arrived"), "{}", ended.stdout);
        assert!(ended.stderr.contains("DEBUG") || ended.stderr.contains("TRACE"), "no log to look into");
        for secret in ["hush-key", "hush-gate", "hush-token"] {
            assert!(!ended.stdout.contains(secret), "{secret} is in stdout:\n{}", ended.stdout);
            assert!(!ended.stderr.contains(secret), "{secret} is in stderr:\n{}", ended.stderr);
        }
    }
}

#[test]
fn nothing_is_logged_unless_asked_for() {
    let ended = Place::new().run(&["run", "--local", "1", "--", "true"]).expect(0);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn local_directories_are_removed() {
    let place = Place::new();
    let ended = place.run(&["run", "--local", "2", "--", "touch left-behind; pwd"]).expect(0);
    assert!(ended.stdout.contains("wsfleet-local-1-"), "{}", ended.stdout);
    assert_eq!(std::fs::read_dir(place.temporary()).unwrap().count(), 0);
}

#[test]
fn as_many_files_as_allowed_can_be_open() {
    // A command has the limits of the agent that starts it, which here is the program itself.
    let place = Place::new();
    let mut command = std::process::Command::new("/bin/sh");
    let script = "ulimit -Sn 300; ulimit -Hn 900; exec \"$0\" run --local 1 -- ulimit -Sn";
    command.args(["-c", script, env!("CARGO_BIN_EXE_wsfleet")]).current_dir(place.path());
    let ended = Ended::of(command).expect(0);
    assert!(ended.stdout.ends_with("\n900\n"), "{}", ended.stdout);
}
