//! Commands that are left running, and picked up or stopped by their ids.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Agent, Ended, Place, is_running};

/// A place with an inventory of two agents.
struct Scene {
    place: Place,
    _agents: [Agent; 2],
}

impl Scene {
    fn start() -> Self {
        let place = Place::new();
        let agents = [(); 2].map(|()| Agent::start(&place, &[], &[]));
        let entry = |(number, agent): (usize, &Agent)| {
            format!("[[workspace]]\nname = \"w{}\"\nhost = \"{}\"\n", number + 1, agent.url)
        };
        place.file("wsfleet.toml", agents.iter().enumerate().map(entry).collect::<String>());
        Self { place, _agents: agents }
    }

    /// What is put before a command, so that it goes on when the file is there.
    fn wait_for(&self, file: &str) -> String {
        format!("while [ ! -e '{}' ]; do sleep 0.02; done", self.place.path().join(file).display())
    }

    fn spawn(&self, args: &[&str]) -> Child {
        self.place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// The id in the line of a workspace.
fn id<'a>(lines: &'a str, workspace: &str) -> &'a str {
    let of = |line: &'a str| line.split_once('\t').filter(|(name, _)| *name == workspace).map(|(_, id)| id);
    lines.lines().find_map(of).unwrap_or_else(|| panic!("{workspace} has no line:\n{lines}"))
}

/// Waits until a command runs, which it may do a moment after its start was answered, or until none does.
fn until(mark: &str, runs: bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while is_running(mark) != runs {
        assert!(Instant::now() < until, "{mark} {}", if runs { "does not run" } else { "still runs" });
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn commands_are_left_running_and_picked_up() {
    let scene = Scene::start();
    let script = format!("echo begun; {}; echo done; echo oops >&2; exit 3", scene.wait_for("go"));
    let started = scene.place.run(&["run", "-a", "-k", "--detach", "--", &script]).expect(0).says(&["2 succeeded"]);
    let (first, second) = (id(&started.stdout, "w1"), id(&started.stdout, "w2"));
    assert_eq!(started.stdout, format!("w1\t{first}\nw2\t{second}\n"));
    assert!(first.len() == 32 && first != second, "{first} {second}");
    scene.place.file("ids", &started.stdout);

    // One is followed while it runs, and both when they have ended.
    let mut live = scene.spawn(&["attach", "w1", first, "--stream"]);
    let mut line = String::new();
    let mut stdout = BufReader::new(live.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "w1: begun\n");
    scene.place.file("go", "");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "w1: done\n");
    Ended::wait(live).expect(5).says(&["w1 stderr: oops", "w1: failed: exit 3"]);
    let ended = scene.place.run(&["attach", "--from", "ids", "-b"]).expect(5);
    assert_eq!(ended.stdout, "== w1,w2 (2): failed, exit 3\nbegun\ndone\n");
    scene.place.run(&["attach", "--from", "ids", "-S"]).expect(3);

    // From a position on, which the bytes of an earlier look are.
    let rest =
        scene.place.run(&["attach", "w2", second, "--stdout-from", "6", "--stderr-from", "5", "--json"]).expect(5);
    let lines: Vec<Value> = rest.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ended = lines.iter().find(|line| line["event"] == "target_finished").unwrap();
    assert_eq!((&ended["stdout"], &ended["stderr"]), (&"done\n".into(), &"".into()), "{ended}");
    assert_eq!((&ended["stdout_bytes"], &ended["stderr_bytes"]), (&11.into(), &5.into()), "{ended}");
    assert!(lines.iter().any(|line| line["event"] == "target_started" && line["command_id"] == second), "{lines:?}");
}

#[test]
fn an_interrupt_leaves_commands_running_unless_they_are_to_be_stopped() {
    let scene = Scene::start();
    let mark = format!("sleep 8{}", std::process::id());
    let started = scene.place.run(&["run", "-w", "w1", "--detach", "--", &format!("echo begun; {mark}")]).expect(0);
    let id = id(&started.stdout, "w1");
    let interrupted = |args: &[&str]| {
        let mut child = scene.spawn(&[&["attach", "w1", id, "--stream"], args].concat());
        let mut line = String::new();
        // Held open to the end: a reader that goes away is another matter.
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "w1: begun\n");
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        Ended::wait(child).expect(130)
    };
    interrupted(&[]).says(&["it runs on"]);
    assert!(is_running(&mark), "the command was stopped");
    interrupted(&["--stop"]).says(&["stopping", "interrupted, 1 stopped"]);
    until(&mark, false);
}

#[test]
fn commands_are_stopped_by_their_ids() {
    let scene = Scene::start();
    let mark = format!("sleep 9{}", std::process::id());
    let script = format!("{mark} & wait");
    let started = scene.place.run(&["run", "-a", "--detach", "--json", "--", &script]).expect(0);
    let ended: Vec<Value> = started.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<_> = ended.iter().filter(|line| line["event"] == "target_finished").collect();
    assert!(ids.len() == 2 && ids.iter().all(|line| line["value"]["command_id"].is_string()), "{ids:?}");
    until(&mark, true);
    // JSON Lines name the commands too, and -w says which of them are meant.
    let stopped = scene.place.run_with_stdin(&["stop", "--from", "-", "-w", "w2"], &started.stdout).expect(0);
    assert!(stopped.stdout.starts_with("== w2: succeeded, command "), "{}", stopped.stdout);
    // That of w1 runs on.
    until(&mark, true);
    scene.place.run_with_stdin(&["stop", "--from", "-"], &started.stdout).expect(0).says(&["2 succeeded"]);
    until(&mark, false);
    let ended = scene.place.run_with_stdin(&["attach", "--from", "-", "-b"], &started.stdout).expect(5);
    assert!(ended.stdout.starts_with("== w1,w2 (2): failed, killed by signal"), "{}", ended.stdout);
}

#[test]
fn what_a_command_is_given_reaches_it_although_nobody_waits() {
    let scene = Scene::start();
    let mut run = scene.place.command(&[
        "run",
        "-w",
        "w1",
        "--detach",
        "--stdin",
        "--secret-env",
        "TOKEN",
        "-e",
        "ME={workspace}",
    ]);
    run.args(["--", "cat; echo $TOKEN $ME"])
        .env("TOKEN", "hush")
        .stdin(fs::File::open(scene.place.file("in", "given\n")).unwrap());
    let started = Ended::of(run).expect(0);
    let ended = scene.place.run(&["attach", "w1", id(&started.stdout, "w1"), "--tag"]).expect(0);
    assert_eq!(ended.stdout, "w1: given\nw1: hush w1\n");
}

#[test]
fn the_server_ends_a_command_whose_time_is_up() {
    let scene = Scene::start();
    let mark = format!("sleep 7{}", std::process::id() + 1);
    scene.place.run(&["run", "-w", "w1", "--detach", "-u", "1.5", "--", &mark]).expect(0);
    until(&mark, true);
    until(&mark, false);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let scene = Scene::start();
    let unknown = "0f8fad5bd9cb469fa16570867728950e";
    scene.place.run(&["attach", "w1", unknown]).expect(4).says(&["the server knows no command"]);
    scene.place.run(&["attach", "w1", "nonsense"]).expect(2).says(&["ID: `nonsense` is not an id"]);
    scene.place.run(&["attach", "w*", unknown]).expect(2).says(&["2 workspaces", "belongs to one"]);
    scene.place.run(&["attach", "w1"]).expect(2).says(&["ID"]);
    scene.place.run(&["attach", "--from", "missing"]).expect(2).says(&["can not read missing"]);
    scene.place.file("empty", "# nothing\n");
    scene.place.run(&["attach", "--from", "empty"]).expect(6).says(&["empty has no commands"]);
    scene.place.file("twice", format!("w1 {unknown}\nw1 {unknown}\n"));
    scene.place.run(&["stop", "--from", "twice"]).expect(2).says(&["twice:2", "line 1"]);
    scene.place.file("one", format!("w1 {unknown}\n"));
    scene.place.run(&["stop", "--from", "one", "-w", "w2"]).expect(6).says(&["no command of any"]);
    scene.place.run(&["run", "--local", "1", "--detach", "--", "true"]).expect(2).says(&["--local"]);
    let shown = scene.place.run(&["attach", "--from", "one", "--dry-run"]).expect(0);
    assert_eq!(shown.stdout, format!("w1: attach to {unknown}\n"));
}
