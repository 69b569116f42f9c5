//! What a run writes besides lines, and how its output can be arranged.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Agent, Ended, Place};

/// How long something may take before a test gives it up.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn all_sinks_of_one_run() {
    let place = Place::new();
    let script = "printf 'one\\ntwo\\nthree\\n'; echo err >&2; [ $WHO != local-2 ]";
    let mut args = vec!["run", "--local", "3", "-e", "WHO={workspace}", "--json", "--max-output", "6"];
    args.extend(["--junit", "junit.xml", "--joblog", "log", "--results", "out", "--", script]);
    let ended = place.run(&args).expect(5);

    let lines = ended.json();
    let finished: Vec<&Value> = lines.iter().filter(|line| line["event"] == "target_finished").collect();
    assert_eq!(finished.len(), 3);
    for line in finished {
        assert_eq!(
            (&line["truncated"], &line["stdout_bytes"], &line["stderr_bytes"]),
            (&json!(true), &json!(14), &json!(4))
        );
        assert!(line["stdout"].as_str().unwrap().starts_with("one"), "{line}");
        assert!(line["stdout"].as_str().unwrap().ends_with("ee\n"), "{line}");
    }
    assert!(lines.iter().all(|line| line["event"] != "output"), "only --stream has those");

    for name in ["local-1", "local-2", "local-3"] {
        assert_eq!(place.read(&format!("out/{name}/stdout")), "one\ntwo\nthree\n", "beyond --max-output");
        assert_eq!(place.read(&format!("out/{name}/stderr")), "err\n");
        let meta: Value = serde_json::from_str(&place.read(&format!("out/{name}/meta.json"))).unwrap();
        assert_eq!(meta["outcome"], if name == "local-2" { "failed" } else { "succeeded" });
        assert_eq!((&meta["workspace"], &meta["truncated"]), (&json!(name), &json!(false)));
    }
    assert_eq!(fs::read_dir(place.path().join("out")).unwrap().count(), 3);

    let log = place.read("log");
    assert_eq!(log.lines().count(), 4, "{log}");
    assert_eq!(
        log.lines().filter(|line| line.contains("\tlocal-2\t") && line.contains("\tfailed\t")).count(),
        1,
        "{log}"
    );

    let junit = place.read("junit.xml");
    assert!(junit.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"0\""), "{junit}");
    assert_eq!(junit.matches("<testcase ").count(), 3);
}

#[test]
fn output_that_was_cut_is_told_loudly() {
    let ended = Place::new().run(&["run", "--local", "1", "--max-output", "1K", "--", "seq 1 1000"]).expect(0);
    assert!(ended.stdout.contains("output cut to"), "{}", ended.stdout);
    assert!(ended.stdout.contains("bytes left out]") && ended.stdout.ends_with("\n1000\n"), "{}", ended.stdout);
    ended.says(&["output of 1 target was cut: raise --max-output"]);
    // The line that says so is longer than what it stands for.
    let little =
        Place::new().run(&["run", "--local", "1", "--max-output", "10", "--", "printf 123456789012"]).expect(0);
    assert!(little.stdout.contains("output cut to 10 of 12 bytes"), "{}", little.stdout);
    little.says(&["output of 1 target was cut"]);
    let none = Place::new().run(&["run", "--local", "1", "--max-output", "0", "--", "seq 1 1000"]).expect(0);
    assert_eq!(none.stdout.lines().count(), 1, "{}", none.stdout);
}

#[test]
fn targets_without_an_answer_are_folded_too() {
    let ended = Place::new().run(&["run", "-w", "http://127.0.0.[1-3]:1", "-b", "--", "true"]).expect(4);
    assert_eq!(ended.stdout, "== 127.0.0.1:1,127.0.0.2:1,127.0.0.3:1 (3): unreachable\n");
    // Each with its own reason.
    ended
        .says(&["127.0.0.1:1: unreachable: cannot connect to 127.0.0.1:1", "127.0.0.3:1: unreachable: cannot connect"]);
}

/// A script that takes longer on the first workspaces.
const LAST_FIRST: &str = "case $WHO in local-1) sleep 1;; local-2) sleep 0.5;; esac; echo $WHO";

#[test]
fn output_can_be_tagged_ordered_and_folded() {
    let run = |flags: &[&str], script: &str| {
        let mut args = vec!["run", "--local", "3", "-e", "WHO={workspace}"];
        args.extend(flags);
        args.extend(["--", script]);
        Place::new().run(&args).expect(0).stdout
    };
    assert_eq!(run(&["--tag"], LAST_FIRST), "local-3: local-3\nlocal-2: local-2\nlocal-1: local-1\n");
    assert_eq!(run(&["--tag", "-k"], LAST_FIRST), "local-1: local-1\nlocal-2: local-2\nlocal-3: local-3\n");
    assert_eq!(run(&["--line-buffer", "-k"], LAST_FIRST), "local-1: local-1\nlocal-2: local-2\nlocal-3: local-3\n");
    let folded = run(&["-b"], "[ $WHO = local-2 ] && echo odd || echo even");
    assert_eq!(folded, "== local-1,local-3 (2): succeeded, exit 0\neven\n== local-2 (1): succeeded, exit 0\nodd\n");
}

#[test]
fn a_run_goes_on_where_its_joblog_ends() {
    let place = Place::new();
    let agents = [Agent::start(&place, &[], &[]), Agent::start(&place, &[], &[]), Agent::start(&place, &[], &[])];
    let urls: Vec<&str> = agents.iter().map(|agent| agent.url.as_str()).collect();
    let (two, all) = (urls[..2].join(","), urls.join(","));
    let allowed = place.path().join("allowed");
    // It fails on the second workspace until the file is there.
    let script = format!("[ $WHO != {} ] || [ -e {} ] && echo \"$WHO did it\"", agents[1].name(), allowed.display());
    let run = |targets: &str, flags: &[&str], command: &[&str]| {
        let mut args = vec!["run", "-w", targets, "-e", "WHO={workspace}", "--joblog", "log", "--tag"];
        args.extend(flags);
        args.extend(command);
        place.run(&args)
    };
    let command = ["--", &*script];
    run(&two, &[], &command).expect(5);

    // The third is new; the others are in the joblog.
    let resumed = run(&all, &["--resume"], &command).expect(0);
    assert_eq!(resumed.stdout, format!("{0}: {0} did it\n", agents[2].name()));
    run(&all, &["--resume"], &command).expect(0).says(&["nothing to do"]);
    run(&all, &["--resume-failed"], &command).expect(5).says(&["1 target in"]);

    fs::write(&allowed, "").unwrap();
    let retried = run(&all, &["--retry-failed"], &[]).expect(0);
    assert_eq!(retried.stdout, format!("{0}: {0} did it\n", agents[1].name()));
    run(&all, &["--retry-failed"], &[]).expect(0).says(&["nothing to do"]);
    assert_eq!(place.read("log").lines().count(), 6, "{}", place.read("log"));
    // Another command is another matter.
    run(&all, &["--resume"], &["--", "true"]).expect(0).says(&["3 targets in"]);

    let log = place.read("log");
    place.file("log", format!("{log}9\tsomew"));
    run(&all, &["--resume"], &command).expect(0).says(&["half-written and ignored"]);
    place.file("log", format!("{log}9\tsomewhere\n"));
    run(&all, &["--resume"], &command).expect(2).says(&["log:10: not a line of a joblog: it has 2 columns"]);
}

#[test]
fn a_joblog_of_something_else_is_no_command_to_run() {
    let place = Place::new();
    let mark = place.path().join("ran");
    // A directory in its name, so that the words of the joblog would do something.
    let remote = format!("/dev/null/x; touch {}", mark.display());
    place.file("file", "");
    place.run(&["upload", "--local", "1", "--joblog", "log", "file", &remote]).expect(4);
    for flags in [&["--retry-failed"][..], &["--resume", "--", "true"], &["--resume-failed", "--", "true"]] {
        let mut args = vec!["run", "--local", "1", "--joblog", "log"];
        args.extend(flags);
        place.run(&args).expect(2).says(&["log:2", "written by wsfleet upload", "repeat the upload"]);
    }
    assert!(!mark.exists());
    place.file("jobs", "{\"name\": \"a\", \"steps\": [{\"run\": \"false\"}]}");
    let jobs = ["run", "--local", "1", "--joblog", "log", "--jobs", "jobs"];
    place.run(&jobs).expect(5);
    place.run(&["run", "--local", "1", "--joblog", "log", "--retry-failed"]).expect(2).says(&["--jobs FILE"]);
    place.run(&[&jobs[..], &["--retry-failed"]].concat()).expect(5).says(&["1 target in"]);
}

#[test]
fn a_joblog_says_what_went_there_and_what_came_back() {
    let place = Place::new();
    let remote = place.path().join("remote").display().to_string();
    place.file("file", "12345");
    for (words, moved) in [
        (&["upload", "file", &remote][..], ["5", "0"]),
        (&["download", &remote, "copy"], ["0", "5"]),
        (&["run", "--", "echo abc; echo defg >&2"], ["0", "9"]),
        (&["ping"], ["0", "0"]),
    ] {
        let mut args = vec![words[0], "--local", "1", "--joblog", "log"];
        args.extend(&words[1..]);
        place.run(&args).expect(0);
        let log = place.read("log");
        let line: Vec<_> = log.lines().nth(1).unwrap().split('\t').collect();
        assert_eq!((line[4..6].to_vec(), line[11]), (moved.to_vec(), words[0]), "{log}");
    }
}

#[test]
fn what_can_not_be_written_is_told_before_anything_runs() {
    let place = Place::new();
    place.file("file", "");
    for (flag, path) in [("--joblog", "none/log"), ("--junit", "none/x.xml"), ("--junit", "."), ("--results", "file")] {
        let ended = place.run(&["run", "--local", "1", flag, path, "--", "touch ran"]).expect(2);
        assert_eq!(ended.stdout, "");
        assert!(!ended.stderr.contains(".tmp"), "{}", ended.stderr);
        ended.says(&[flag, path]);
    }
    for args in
        [&["--resume"][..], &["--retry-failed"], &["--fold", "--stream"], &["--json", "--tag"], &["--max-output", "x"]]
    {
        let mut line = vec!["run", "--local", "1"];
        line.extend(args);
        line.extend(["--", "true"]);
        place.run(&line).expect(2).says(&[args[0]]);
    }
}

#[test]
fn a_reader_that_stalls_does_not_slow_the_commands() {
    let place = Place::new();
    let mark = place.path().join("done");
    let script = format!("head -c 50000000 /dev/zero | tr '\\0' x; touch {}", mark.display());
    let mut command = place.command(&["run", "--local", "1", "--stream", "--", &script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !mark.exists() {
        assert!(began.elapsed() < PATIENCE, "the command waits for the reader");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(child.try_wait().unwrap().is_none(), "the output is still to be read");
    let ended = Ended::wait(child).expect(0);
    assert_eq!(ended.stdout.matches('x').count(), 50_000_000);
}

#[test]
fn what_runs_is_told_when_asked() {
    let place = Place::new();
    let mut child = place
        .command(&["run", "--local", "1", "--stream", "--", "echo re''ady; exec sleep 600"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    kill_process(Pid::from_child(&child), Signal::USR1).unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("running for") {
        assert_ne!(stderr.read_line(&mut told).unwrap(), 0, "{told}");
    }
    assert!(told.contains("0/1 (0 %), 1 running") && told.trim_end().ends_with(": local-1"), "{told}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    Ended::wait(child).expect(130);
}

#[test]
fn a_counter_is_printed_when_asked_for() {
    let place = Place::new();
    let script = "sleep 1";
    let ended = place.run(&["run", "--local", "2", "-f", "1", "--progress", "counter", "--", script]).expect(0);
    ended.says(&["wsfleet: 1/2 (50 %), 1 ok"]);
    let ended = place.run(&["run", "--local", "2", "-f", "1", "--progress", "none", "--", script]).expect(0);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn a_wrong_value_from_the_environment_is_told_with_its_variable() {
    let place = Place::new();
    for (variable, value) in [("WSFLEET_COLOR", "pink"), ("WSFLEET_PROGRESS", "pie"), ("WSFLEET_FANOUT", "many")] {
        let mut command = place.command(&["run", "--local", "1", "--", "true"]);
        command.env(variable, value);
        Ended::of(command).expect(2).says(&[value, &format!("environment variable {variable}")]);
    }
    let mut command = place.command(&["run", "--local", "1", "--color", "mauve", "--", "true"]);
    command.env("WSFLEET_COLOR", "never");
    let ended = Ended::of(command).expect(2).says(&["mauve"]);
    assert!(!ended.stderr.contains("environment variable"), "{}", ended.stderr);
}

#[test]
fn results_take_the_place_of_results_only() {
    let place = Place::new();
    let run = |folder: &str| place.run(&["run", "--local", "1", "--results", folder, "--", "echo out"]);
    run("out").expect(0);
    // Those of an earlier run are replaced,
    run("out").expect(0);
    assert_eq!(place.read("out/local-1/stdout"), "out\n");
    // and nothing else is.
    place.file("project/local-1/src/code.c", "int main;");
    run("project").expect(2).says(&["project/local-1", "no result", "another directory"]);
    assert_eq!(place.read("project/local-1/src/code.c"), "int main;");
    place.file("taken/local-1", "a file");
    run("taken").expect(2).says(&["taken/local-1", "no directory"]);
}

#[test]
fn a_link_to_a_report_stays_a_link() {
    let place = Place::new();
    place.file("report.xml", "old");
    std::os::unix::fs::symlink("report.xml", place.path().join("link.xml")).unwrap();
    place.run(&["run", "--local", "1", "--junit", "link.xml", "--", "true"]).expect(0);
    assert!(place.path().join("link.xml").is_symlink());
    assert!(place.read("report.xml").contains("<testsuites"), "{}", place.read("report.xml"));
}
