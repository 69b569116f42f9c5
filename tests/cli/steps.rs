//! What each step of a job gave is in every arrangement of the output, and in every file.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::support::{Ended, Place};

/// Two jobs alike: a command that writes to both streams, a query, a comparison, and a `finally` step that fails.
fn place_with_jobs() -> Place {
    let place = Place::new();
    let path = place.path().join("repository");
    fs::create_dir(&path).unwrap();
    let script = "git init -q && echo one > file && git add file && \
        git -c user.name=a -c user.email=a@b commit -qm first && echo two > file";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&path).status().unwrap().success());
    let path = path.to_str().unwrap();
    let job = |name: &str| {
        json!({ "name": name, "steps": [
            { "name": "build", "run": "echo built; echo warning >&2" },
            { "name": "list", "changes": { "path": path } },
            { "name": "compare", "diff": { "path": format!("{path}/file") } },
        ], "finally": [{ "name": "log", "run": "printf log; exit 3" }] })
    };
    place.file("jobs", format!("{}\n{}\n", job("a"), job("b")));
    place
}

fn run(place: &Place, flags: &[&str]) -> Ended {
    let mut args = vec!["run", "--local", "2", "--jobs", "jobs"];
    args.extend(flags);
    place.run(&args).expect(5)
}

const DIFFERENCE: &str = "--- original\n+++ modified\n@@ -1 +1 @@\n-one\n+two\n";

#[test]
fn folded_output_has_all_steps() {
    let ended = run(&place_with_jobs(), &["-b"]);
    let expected = format!(
        "== a,b (2): failed, exit 3\n-- build: succeeded, exit 0\nbuilt\n-- list: succeeded, 1 change\nUPDATED  file\n\
         -- compare: succeeded\n{DIFFERENCE}-- log: failed, exit 3\nlog\n"
    );
    assert_eq!(ended.stdout, expected);
    ended.says(&["a,... (2) stderr: warning"]);
}

#[test]
fn live_output_has_what_is_no_command() {
    let place = place_with_jobs();
    for flag in ["--stream", "--tag"] {
        let ended = run(&place, &[flag, "-k"]);
        let of = |job: &str| {
            let text = format!("built\nUPDATED  file\n{DIFFERENCE}log\n");
            text.lines().map(|line| format!("{job}: {line}\n")).collect::<String>()
        };
        assert_eq!(ended.stdout, of("a") + &of("b"), "{flag}");
        ended.says(&["a stderr: warning", "b stderr: warning"]);
    }
}

#[test]
fn results_have_all_steps_and_count_all_bytes() {
    let place = place_with_jobs();
    run(&place, &["--results", "out", "--joblog", "log", "--max-output", "2"]);
    assert_eq!(place.read("out/a/stdout"), format!("built\nUPDATED  file\n{DIFFERENCE}log"));
    assert_eq!(place.read("out/a/stderr"), "warning\n");
    let meta: Value = serde_json::from_str(&place.read("out/a/meta.json")).unwrap();
    assert_eq!((&meta["stdout_bytes"], &meta["stderr_bytes"]), (&json!(9), &json!(8)));
    assert_eq!((&meta["truncated"], &meta["exit_code"]), (&json!(false), &json!(3)));
    let steps = meta["steps"].as_array().unwrap();
    let told = |name: &str| steps.iter().map(|step| step[name].clone()).collect::<Vec<_>>();
    assert_eq!(told("step"), ["build", "list", "compare", "log"]);
    assert_eq!(told("exit_code"), [json!(0), Value::Null, Value::Null, json!(3)]);
    assert_eq!(told("stdout_bytes"), [json!(6), Value::Null, Value::Null, json!(3)]);
    assert_eq!(told("finally"), [false, false, false, true]);
    let log = place.read("log");
    for line in log.lines().skip(1) {
        let columns: Vec<_> = line.split('\t').collect();
        assert_eq!((columns[4], columns[5], columns[6]), ("0", "17", "3"), "{line}");
    }
}

#[test]
fn a_report_has_all_steps() {
    let place = place_with_jobs();
    run(&place, &["--junit", "junit.xml"]);
    let report = place.read("junit.xml");
    crate::junit::check(&report).unwrap();
    let difference = DIFFERENCE.replace('>', "&gt;");
    let out = format!(
        "<system-out>== build: succeeded, exit 0\nbuilt\n== list: succeeded, 1 change\nUPDATED  file\n\
         == compare: succeeded\n{difference}== log: failed, exit 3\nlog\n</system-out>"
    );
    assert_eq!(report.matches(&out).count(), 2, "{report}");
    let err = "<system-err>== build: succeeded, exit 0\nwarning\n</system-err>";
    assert_eq!(report.matches(err).count(), 2, "{report}");
}

#[test]
fn only_the_last_try_of_a_job_counts() {
    let place = Place::new();
    let job =
        json!({ "name": "a", "steps": [{ "run": "echo begun" }, { "run": "[ -e seen ] || { touch seen; exit 1; }" }] });
    for flag in [&["-b"][..], &["--results", "out"], &["--junit", "junit.xml"]] {
        place.file("jobs", job.to_string());
        let mut args = vec!["run", "--local", "1", "--jobs", "jobs", "--retries", "1"];
        args.extend(flag);
        let ended = place.run(&args).expect(0);
        let told = match flag.get(1) {
            None => ended.stdout,
            Some(&"out") => place.read("out/a/stdout"),
            Some(file) => place.read(file),
        };
        assert_eq!(told.matches("begun\n").count(), 1, "{told}");
    }
}
