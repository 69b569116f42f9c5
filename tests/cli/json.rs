//! The lines of `--json`, field by field.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::Place;

/// The fields of a line, besides those that every line has.
#[track_caller]
fn fields(line: &Value) -> BTreeSet<&str> {
    let fields = line.as_object().unwrap();
    let mut names: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
    for common in ["schema", "seq", "time", "run_id", "event"] {
        assert!(names.remove(common), "{common} is missing: {line}");
    }
    names
}

#[track_caller]
fn check_common(lines: &[Value]) {
    for (seq, line) in lines.iter().enumerate() {
        assert_eq!(line["schema"], 1);
        assert_eq!(line["seq"], seq);
        assert_eq!(line["run_id"], lines[0]["run_id"]);
        let time = line["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
    assert_eq!(lines.first().unwrap()["event"], "run_started");
    assert_eq!(lines.last().unwrap()["event"], "run_finished");
}

fn of<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

#[test]
fn every_line_of_a_run() {
    let ended = Place::new().run(&["run", "--local", "2", "--json", "--", "echo out; echo err >&2; exit 3"]).expect(5);
    let lines = ended.json();
    check_common(&lines);
    assert_eq!(lines.len(), 8, "{}", ended.stdout);

    assert_eq!(fields(&lines[0]), BTreeSet::from(["command", "fanout", "targets"]));
    assert_eq!(lines[0]["command"], "echo out; echo err >&2; exit 3");
    assert_eq!(lines[0]["targets"], 2);

    for started in of(&lines, "target_started") {
        assert_eq!(fields(started), BTreeSet::from(["workspace", "command_id", "attempt", "step"]));
        assert_eq!(started["command_id"].as_str().unwrap().len(), 32);
        assert_eq!(started["attempt"], 1);
    }

    let finished = of(&lines, "target_finished");
    let names: BTreeSet<&str> = finished.iter().map(|line| line["workspace"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["local-1", "local-2"]));
    for line in finished {
        let expected = [
            "workspace",
            "outcome",
            "exit_code",
            "stdout",
            "stderr",
            "timeout_occurred",
            "stdout_bytes",
            "stderr_bytes",
            "truncated",
            "duration_ms",
            "attempt",
            "error",
        ];
        assert_eq!(fields(line), BTreeSet::from(expected));
        assert_eq!(line["outcome"], "failed");
        assert_eq!(line["exit_code"], 3);
        assert_eq!((&line["stdout"], &line["stderr"]), (&json!("out\n"), &json!("err\n")));
        assert_eq!((&line["timeout_occurred"], &line["error"]), (&json!(false), &Value::Null));
        assert!(line["duration_ms"].is_u64());
    }

    let last = lines.last().unwrap();
    assert_eq!(fields(last), BTreeSet::from(["total", "outcomes", "flaky", "cancelled", "exit_code", "duration_ms"]));
    assert_eq!((&last["total"], &last["exit_code"]), (&json!(2), &json!(5)));
    let outcomes = last["outcomes"].as_object().unwrap();
    assert_eq!(outcomes.len(), 12);
    assert_eq!(outcomes["failed"], 2);
    assert_eq!(outcomes.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 2);
}

#[test]
fn output_events_only_with_stream() {
    let args = ["run", "--local", "1", "--json", "--stream", "--", "echo one; echo two >&2"];
    let lines = Place::new().run(&args).expect(0).json();
    check_common(&lines);
    let text = |stream: &str| -> String {
        let output = of(&lines, "output").into_iter().filter(|line| line["stream"] == stream);
        output
            .map(|line| {
                assert_eq!(fields(line), BTreeSet::from(["workspace", "stream", "text"]));
                line["text"].as_str().unwrap()
            })
            .collect()
    };
    assert_eq!((text("stdout").as_str(), text("stderr").as_str()), ("one\n", "two\n"));
    let quiet = Place::new().run(&["run", "--local", "1", "--json", "--", "echo one"]).expect(0).json();
    assert!(of(&quiet, "output").is_empty());
}

#[test]
fn a_command_that_runs_out_of_time_keeps_its_output() {
    let args = ["run", "--local", "1", "--json", "-u", "0.5", "--", "echo partial; exec sleep 60"];
    let lines = Place::new().run(&args).expect(3).json();
    let finished = of(&lines, "target_finished")[0];
    assert_eq!(finished["outcome"], "timed_out");
    assert_eq!(finished["timeout_occurred"], true);
    assert_eq!(finished["exit_code"], -1);
    assert_eq!(finished["stdout"], "partial\n");
    assert_eq!(lines.last().unwrap()["exit_code"], 3);
}

#[test]
fn an_error_has_kind_message_effect_and_whether_to_try_again() {
    let lines = Place::new().run(&["run", "-w", "http://127.0.0.1:1", "--json", "--", "true"]).expect(4).json();
    check_common(&lines);
    let finished = of(&lines, "target_finished")[0];
    assert_eq!(finished["workspace"], "127.0.0.1:1");
    assert_eq!(finished["outcome"], "unreachable");
    assert_eq!(finished["exit_code"], Value::Null);
    let error = finished["error"].as_object().unwrap();
    let names: BTreeSet<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["kind", "message", "effect", "retryable"]));
    assert_eq!((&error["kind"], &error["effect"]), (&json!("unreachable"), &json!("not_sent")));
    assert_eq!(error["retryable"], true);
    assert!(error["message"].as_str().unwrap().contains("refused"), "{finished}");
}

#[test]
fn other_operations_have_a_value() {
    let lines = Place::new().run(&["ping", "--local", "1", "--json"]).expect(0).json();
    check_common(&lines);
    let finished = of(&lines, "target_finished")[0];
    assert_eq!(fields(finished), BTreeSet::from(["workspace", "outcome", "value", "duration_ms", "attempt", "error"]));
    assert!(finished["value"]["round_trip_ms"].as_f64().unwrap() > 0.0);
    let lines = Place::new().run(&["info", "--local", "1", "--json"]).expect(0).json();
    assert!(of(&lines, "target_finished")[0]["value"]["version"].is_string());
}

#[test]
fn a_run_belongs_to_the_trace_it_is_given() {
    let place = Place::new();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let flags = ["run", "--local", "1", "--json", "--traceparent", parent, "--trace-tag", "episode=17", "--", "true"];
    for line in place.run(&flags).expect(0).json() {
        assert_eq!(line["trace"], json!({ "traceparent": parent, "tags": { "episode": "17" } }), "{line}");
    }
    place.run(&["run", "--local", "1", "--traceparent", "00-1-2-3", "--", "true"]).expect(2).says(&["00-1-2-3"]);
    place.run(&["run", "--local", "1", "--trace-tag", "a b=1", "--", "true"]).expect(2).says(&["--trace-tag", "a b"]);
}
