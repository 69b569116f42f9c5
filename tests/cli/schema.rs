//! The lines of `--json` hold to their schema, which is part of the documentation.

use std::{fs, process::Command, sync::LazyLock};

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};

use crate::support::{Agent, Ended, Place};

const SCHEMA: &str = include_str!("../../docs/events.schema.json");

/// A line of every event, as the snapshot tests hold them.
const EVERY_EVENT: &str =
    include_str!("../../src/cli/output/snapshots/workspace_fleet__cli__output__json__tests__json_lines.snap");

/// The schema, compiled.
struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

/// As it is published.
static PUBLISHED: LazyLock<Schema> = LazyLock::new(|| Schema::new(schema()));

/// With every field that it does not name forbidden: none is printed that is not documented.
static CLOSED: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema = schema();
    close(&mut schema);
    let root = schema.as_object_mut().unwrap();
    root.remove("additionalProperties");
    root.insert("unevaluatedProperties".to_owned(), false.into());
    Schema::new(schema)
});

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// Forbids other fields in every object.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("type") == Some(&json!("object")) && fields.contains_key("properties") {
                fields.entry("additionalProperties").or_insert(false.into());
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

impl Schema {
    fn new(schema: Value) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource("events.schema.json", schema).unwrap();
        let index = compiler.compile("events.schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn check(&self, line: &Value) -> Result<(), String> {
        self.schemas.validate(line, self.index).map_err(|error| format!("{error:#}"))
    }
}

impl Ended {
    /// The lines of stdout as JSON. Those that are events hold to the schema.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let lines: Vec<Value> = self.stdout.lines().map(parse).collect();
        check(&lines);
        lines
    }
}

/// Asserts of each line that is an event that it holds to the schema.
#[track_caller]
fn check(lines: &[Value]) {
    for line in lines.iter().filter(|line| line.get("event").is_some()) {
        CLOSED.check(line).unwrap_or_else(|error| panic!("{error}\n{line}"));
        PUBLISHED.check(line).unwrap_or_else(|error| panic!("{error}\n{line}"));
    }
}

fn every_event() -> Vec<Value> {
    let lines = EVERY_EVENT.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_event_holds_to_the_schema_and_the_schema_has_every_event() {
    let lines = every_event();
    check(&lines);
    let schema = schema();
    for event in schema["properties"]["event"]["enum"].as_array().unwrap() {
        assert!(lines.iter().any(|line| line["event"] == *event), "no line shows {event}");
    }
}

#[test]
fn a_broken_line_does_not() {
    let lines = every_event();
    for line in &lines {
        for name in line.as_object().unwrap().keys() {
            let mut wrong = line.clone();
            wrong[name] = json!(-1.5);
            assert!(PUBLISHED.check(&wrong).is_err(), "`{name}` may be a number: {line}");
            if name != "job" {
                wrong.as_object_mut().unwrap().remove(name);
                assert!(PUBLISHED.check(&wrong).is_err(), "`{name}` may be missing: {line}");
            }
        }
    }
    let broken = |event: &str, change: fn(&mut Value)| {
        let mut line = lines.iter().rfind(|line| line["event"] == event).unwrap().clone();
        change(&mut line);
        assert!(PUBLISHED.check(&line).is_err(), "{line}");
    };
    broken("target_finished", |line| line["outcome"] = "perhaps".into());
    broken("target_finished", |line| line["error"]["effect"] = "none".into());
    broken("target_finished", |line| drop(line["error"].as_object_mut().unwrap().remove("kind")));
    broken("run_finished", |line| drop(line["outcomes"].as_object_mut().unwrap().remove("gone")));
    broken("run_finished", |line| line["event"] = "run_ended".into());
    broken("run_started", |line| line["schema"] = 2.into());
    broken("run_started", |line| line["time"] = "yesterday, Z".into());
    // What is new is no fault, and what is not documented is not printed.
    let mut line = lines[0].clone();
    line["colour"] = "red".into();
    PUBLISHED.check(&line).unwrap();
    assert!(CLOSED.check(&line).is_err());
}

/// A repository with a change in it.
fn repository(place: &Place) -> String {
    let path = place.path().join("repository");
    fs::create_dir(&path).unwrap();
    let script = "git init -q && echo one > file && git add file && \
        git -c user.name=a -c user.email=a@b commit -qm first && echo two > file";
    assert!(Command::new("sh").args(["-c", script]).current_dir(&path).status().unwrap().success());
    path.display().to_string()
}

/// The lines of one run, all of which have been checked.
fn lines(place: &Place, args: &[&str], code: i32) -> Vec<Value> {
    let lines = place.run(args).expect(code).json();
    assert!(lines.len() > 3 && lines.iter().all(|line| line["event"].is_string()), "{lines:?}");
    lines
}

fn value_of(lines: &[Value], workspace: &str) -> Value {
    let is_it = |line: &&Value| line["event"] == "target_finished" && line["workspace"] == *workspace;
    lines.iter().find(is_it).unwrap()["value"].clone()
}

#[test]
fn every_subcommand_prints_lines_of_the_schema() {
    let place = Place::new();
    let agent = Agent::start(&place, &[], &[]);
    let repository = repository(&place);
    place.file("file", "content");
    let targets = format!("{},http://127.0.0.1:1", agent.url);
    let remote = place.path().join("remote").display().to_string();
    let missing = place.path().join("missing").display().to_string();
    let run_to = |code, words: &[&str]| {
        let mut args = vec![words[0], "-w", &targets, "--json"];
        args.extend(&words[1..]);
        lines(&place, &args, code)
    };
    let run = |words: &[&str]| run_to(4, words);
    run(&["run", "--stream", "--trace-tag", "a=b", "--", "echo out; echo err >&2; exit 3"]);
    run_to(
        7,
        &["run", "--retries", "1", "--max-fail", "1", "-f", "1", "--slow-after", "1ms", "--", "sleep 0.1; false"],
    );
    for (words, field) in [
        (&["run", "--detach", "--", "true"][..], "command_id"),
        (&["upload", "file", &remote], "file_size"),
        (&["download", &remote, "here/{workspace}"], "file_size"),
        (&["upload", "-r", &repository, &format!("{remote}.d")], "files"),
        (&["download", "-r", &format!("{remote}.d"), "there/{workspace}"], "files"),
        (&["diff", "--cwd", &repository, "file"], "modified"),
        (&["ping"], "round_trip_ms"),
        (&["info"], "uptime"),
    ] {
        let value = value_of(&run(words), agent.name());
        assert!(!value[field].is_null(), "{words:?}: {value}");
    }
    let changes = value_of(&run(&["changes", &repository]), agent.name());
    assert_eq!(changes, json!([{ "status": "UPDATED", "path": "file" }]));
    assert_eq!(value_of(&run(&["download", &missing, "x/{workspace}"]), agent.name()), Value::Null);
}

#[test]
fn jobs_print_lines_of_the_schema() {
    let place = Place::new();
    let repository = repository(&place);
    let jobs = [
        json!({ "name": "mixed", "steps": [{ "run": "echo built" }, { "changes": { "path": repository } }],
            "finally": [{ "diff": { "path": format!("{repository}/file") } }] }),
        json!({ "name": "lost", "steps": [{ "run": "echo before" }, { "download": { "from": "/no/such", "to": "x" } }],
            "finally": [{ "run": "exit 3" }] }),
        json!({ "name": "single", "steps": [{ "download": { "from": "/no/such", "to": "y" } }] }),
    ];
    place.file("jobs", jobs.map(|job| job.to_string()).join("\n"));
    let lines = lines(&place, &["run", "--local", "2", "--json", "--stream", "--jobs", "jobs"], 4);
    let ended = |job: &str| lines.iter().find(|line| line["event"] == "target_finished" && line["job"] == job).unwrap();
    for job in ["lost", "single"] {
        assert_eq!(ended(job)["value"], Value::Null);
        assert!(ended(job).get("stdout").is_none() && ended(job)["error"]["kind"] == "not_found", "{}", ended(job));
    }
    let steps = lines.iter().filter(|line| line["event"] == "step_finished");
    assert_eq!(steps.filter(|line| line["finally"] == true).count(), 2);
}
