//! The flags of `run` that say how fast it goes and when it gives up, and the file of jobs.

use crate::support::Place;

#[test]
fn too_many_failures_end_the_run_with_a_code_of_their_own() {
    let place = Place::new();
    let ended = place.run(&["run", "--local", "4", "-f", "1", "--max-fail", "2", "--json", "--", "exit 1"]).expect(7);
    let mut outcomes: Vec<_> = ended
        .json()
        .into_iter()
        .filter(|event| event["event"] == "target_finished")
        .map(|event| event["outcome"].as_str().unwrap().to_owned())
        .collect();
    // What is skipped is told while the last that ran is still being told of.
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["failed", "failed", "skipped", "skipped"]);
    // The same from the environment; and all that failed before the limit mattered is no early end.
    let mut command = place.command(&["run", "--local", "2", "-f", "2", "exit 1"]);
    command.env("WSFLEET_MAX_FAIL", "2");
    crate::support::Ended::of(command).expect(5);
}

#[test]
fn the_time_of_the_run_and_of_a_target_is_code_3() {
    let place = Place::new();
    for flag in ["--global-timeout", "--target-timeout"] {
        let ended = place.run(&["run", "--local", "1", flag, "4s", "--", "echo before; sleep 1000"]).expect(3);
        assert!(ended.stdout.contains("before"), "{}", ended.stdout);
    }
    place.run(&["run", "--local", "2", "-f", "1", "--global-timeout", "2s", "--", "sleep 1000"]).expect(3);
}

#[test]
fn retries_turn_a_failure_into_a_flaky_success() {
    let place = Place::new();
    let flaky = "[ -e seen ] || { touch seen; exit 1; }";
    place.run(&["run", "--local", "1", "--", flaky]).expect(5);
    let ended = place.run(&["run", "--local", "1", "--retries", "1", "--json", "--", flaky]).expect(0);
    let summary = ended.json().pop().unwrap();
    assert_eq!(summary["flaky"], 1, "{summary}");
}

#[test]
fn what_is_wrong_with_a_flag_is_told_with_the_way_out() {
    let place = Place::new();
    for (flag, value, says) in [
        ("--rate", "5/week", "5/s"),
        ("--max-fail", "0", "1 or more"),
        ("--max-fail", "5:now", ":immediate"),
        ("--per-label", "zone", "LABEL=N"),
        ("--per-host", "0", "1.."),
        ("--move-lost-jobs", "--stream", "--jobs"),
    ] {
        place.run(&["run", "--local", "1", flag, value, "--", "true"]).expect(2).says(&[says]);
    }
}

#[test]
fn the_jobs_of_the_documentation_run() {
    let place = Place::new();
    let documentation = include_str!("../../docs/fleet.md");
    let example = documentation.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(example.lines().count(), 3);
    let example = example.replace("/tmp/", &format!("{}/", place.temporary().display()));
    place.file("jobs.jsonl", &example);
    place.file("check.sh", "echo checked");
    let ended = place.run(&["run", "--local", "2", "--jobs", "jobs.jsonl", "--json"]).expect(0);
    assert_eq!(place.read("logs/unit.txt"), "unit tests\n");
    assert!(ended.stdout.contains("lint on local-1") && ended.stdout.contains("checked"), "{}", ended.stdout);
    let ended =
        place.run_with_stdin(&["run", "--local", "1", "--jobs", "-"], &example.replace("echo unit", "exit 3; #"));
    ended.expect(5);
}

#[test]
fn a_bad_line_is_told_with_its_place_and_nothing_is_sent() {
    let place = Place::new();
    let good = r#"{"name": "a", "steps": [{"run": "touch ../sent"}]}"#;
    for (bad, says) in [
        (r#"{"name": "b", "step": []}"#, &["jobs.jsonl:3", "unknown field `step`"][..]),
        (good, &["jobs.jsonl:3", "line 1 has a job named a"]),
        (r#"{"workspace": "w9", "steps": [{"run": "true"}]}"#, &["jobs.jsonl:3", "w9"]),
    ] {
        place.file("jobs.jsonl", format!("{good}\n\n{bad}\n"));
        place.run(&["run", "--local", "1", "--jobs", "jobs.jsonl"]).expect(2).says(says);
    }
    assert!(!place.temporary().join("sent").exists());
    place.file("jobs.jsonl", "\n");
    place.run(&["run", "--local", "1", "--jobs", "jobs.jsonl"]).expect(2).says(&["no job"]);
    place.run(&["run", "--local", "1", "--jobs", "jobs.jsonl", "--", "true"]).expect(2).says(&["--jobs"]);
}

#[test]
fn jobs_that_would_undo_each_other_are_refused() {
    let place = Place::new();
    let run = |lines: &str, says: &[&str]| {
        place.file("jobs.jsonl", lines);
        place.run(&["run", "--local", "1", "--jobs", "jobs.jsonl"]).expect(2).says(says);
    };
    let download = |name: &str, to: &str| {
        format!(
            "{{\"name\": \"{name}\", \"steps\": [{{\"download\": {{\"from\": \"/etc/hostname\", \"to\": \"{to}\"}}}}]}}\n"
        )
    };
    run(&(download("a", "same") + &download("b", "same")), &["jobs.jsonl:2", "line 1", "same", "{job}"]);
    run(&(download("p/q", "x-{job}") + &download("p_q", "x-{job}")), &["jobs.jsonl:2", "line 1"]);
    run(&download("a\\u001b[31m", "x"), &["jobs.jsonl:1", "control characters"]);
}

#[test]
fn what_would_be_done_with_jobs_is_shown() {
    let place = Place::new();
    let jobs = "{\"name\": \"a\", \"workspace\": \"local-2\", \"steps\": [{\"run\": \"echo {job}\"}]}\n{\"steps\": [{\"run\": \"true\"}]}\n{\"steps\": [{\"run\": \"true\"}]}\n";
    place.file("jobs.jsonl", jobs);
    let shown = place.run(&["run", "--local", "2", "--jobs", "jobs.jsonl", "--dry-run"]).expect(0);
    assert!(shown.stdout.starts_with("a, on local-2: echo {job}\njob-2, on any workspace: true\n"), "{}", shown.stdout);
    shown.says(&["3 jobs, 2 at a time; nothing was sent"]);
}

#[test]
fn a_joblog_that_is_not_there_is_told() {
    let place = Place::new();
    let run =
        |flag: &str, code| place.run(&["run", "--local", "1", "--joblog", "none", flag, "--", "true"]).expect(code);
    run("--resume", 0).says(&["none is not there", "everything"]);
    place.run(&["run", "--local", "1", "--joblog", "gone", "--retry-failed"]).expect(2).says(&["gone is not there"]);
}
