use std::{
    io::{self, Write},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use super::{Commands, Sink, commands::Kind};
use crate::{
    CommandResult, Operation, Outcome, OutputStream, WorkspaceError,
    fleet::{CancelReason, OutcomeCounts, RunEvent, RunEventKind, StepFinished, TargetFinished, TargetId, TargetValue},
    protocol::{EventId, Trace},
};

/// The version of the lines. It grows when a field goes or changes its meaning; new fields may come without that.
const SCHEMA: u32 = 1;

/// JSON Lines: an object an event, written as it happens; what happened meanwhile goes together.
pub(super) struct JsonLines<W> {
    out: W,
    /// What says which fields there are where there is no result.
    commands: Arc<Commands>,
}

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    seq: u64,
    time: Timestamp,
    run_id: EventId,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a Trace>,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Body<'a> {
    RunStarted {
        command: &'a str,
        targets: usize,
        fanout: usize,
    },
    TargetsAdded {
        targets: usize,
    },
    TargetBegan {
        #[serde(flatten)]
        target: &'a TargetId,
        attempt: u32,
    },
    TargetStarted {
        #[serde(flatten)]
        target: &'a TargetId,
        command_id: EventId,
        attempt: u32,
        step: usize,
    },
    Output {
        #[serde(flatten)]
        target: &'a TargetId,
        stream: OutputStream,
        text: &'a str,
    },
    TargetSlow {
        #[serde(flatten)]
        target: &'a TargetId,
        running_for_ms: u64,
    },
    StepFinished(Step<'a>),
    TargetRetried(Finished<'a>),
    TargetFinished(Finished<'a>),
    RunCancelled {
        reason: CancelReason,
    },
    RunFinished {
        total: usize,
        outcomes: AllOutcomes<'a>,
        flaky: usize,
        cancelled: Option<CancelReason>,
        exit_code: u8,
        duration_ms: u64,
    },
}

#[derive(Serialize)]
struct Step<'a> {
    step: &'a str,
    index: usize,
    finally: bool,
    #[serde(flatten)]
    finished: Finished<'a>,
}

#[derive(Serialize)]
struct Finished<'a> {
    #[serde(flatten)]
    target: &'a TargetId,
    outcome: Outcome,
    #[serde(flatten)]
    result: Fields<'a>,
    duration_ms: u64,
    attempt: u32,
    error: Option<ErrorFields>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    Command {
        exit_code: Option<i32>,
        stdout: &'a str,
        stderr: &'a str,
        timeout_occurred: bool,
        /// How many bytes were written, kept or not.
        stdout_bytes: u64,
        stderr_bytes: u64,
        /// Whether output is missing from `stdout` or `stderr`.
        truncated: bool,
    },
    Other {
        value: Value,
    },
}

/// The fields of a command that never ran.
const NO_COMMAND: Fields<'_> = Fields::Command {
    exit_code: None,
    stdout: "",
    stderr: "",
    timeout_occurred: false,
    stdout_bytes: 0,
    stderr_bytes: 0,
    truncated: false,
};

#[derive(Serialize)]
pub(super) struct ErrorFields {
    kind: &'static str,
    message: String,
    effect: crate::Effect,
    retryable: bool,
}

/// A count for every outcome, also for those that did not occur.
struct AllOutcomes<'a>(&'a OutcomeCounts);

impl Serialize for AllOutcomes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Outcome::ALL.len()))?;
        for outcome in Outcome::ALL {
            map.serialize_entry(outcome.name(), &self.0.get(outcome))?;
        }
        map.end()
    }
}

impl<W: Write> JsonLines<W> {
    pub(super) const fn new(out: W, commands: Arc<Commands>) -> Self {
        Self { out, commands }
    }

    fn body<'a>(&self, kind: &'a RunEventKind, exit_code: u8) -> Body<'a> {
        match kind {
            RunEventKind::RunStarted { command, targets, fanout } => {
                Body::RunStarted { command, targets: *targets, fanout: *fanout }
            }
            RunEventKind::TargetsAdded { targets } => Body::TargetsAdded { targets: *targets },
            RunEventKind::TargetBegan { target, attempt } => Body::TargetBegan { target, attempt: *attempt },
            RunEventKind::TargetStarted { target, command_id, attempt, step } => {
                Body::TargetStarted { target, command_id: *command_id, attempt: *attempt, step: *step }
            }
            RunEventKind::Output { target, stream, text } => Body::Output { target, stream: *stream, text },
            RunEventKind::TargetSlow { target, running_for } => {
                Body::TargetSlow { target, running_for_ms: millis(*running_for) }
            }
            RunEventKind::StepFinished(step) => Body::StepFinished(self.step(step)),
            RunEventKind::TargetRetried(target) => Body::TargetRetried(self.finished(target)),
            RunEventKind::TargetFinished(target) => Body::TargetFinished(self.finished(target)),
            RunEventKind::RunCancelled { reason } => Body::RunCancelled { reason: *reason },
            RunEventKind::RunFinished(summary) => Body::RunFinished {
                total: summary.total,
                outcomes: AllOutcomes(&summary.outcomes),
                flaky: summary.flaky,
                cancelled: summary.cancelled,
                exit_code,
                duration_ms: millis(summary.duration),
            },
        }
    }

    fn step<'a>(&self, step: &'a StepFinished) -> Step<'a> {
        let finished = Finished {
            target: &step.target,
            outcome: step.outcome,
            result: fields(step.value.as_ref(), self.commands.kind(&step.target, step.index)),
            duration_ms: millis(step.duration),
            attempt: step.attempt,
            error: step.error.as_ref().map(error),
        };
        Step { step: &step.step, index: step.index, finally: step.finally, finished }
    }

    fn finished<'a>(&self, target: &'a TargetFinished) -> Finished<'a> {
        // Of the step that decided. What never had its turn is told as what would have come first.
        let kind = match &target.error {
            Some(error) => kind_of(error.operation).unwrap_or_else(|| self.commands.kind(&target.target, 0)),
            None => self.commands.kind(&target.target, 0),
        };
        Finished {
            target: &target.target,
            outcome: target.outcome,
            result: fields(target.value.as_ref(), kind),
            duration_ms: millis(target.duration),
            attempt: target.attempt,
            error: target.error.as_ref().map(error),
        }
    }
}

impl<W: Write> Sink for JsonLines<W> {
    fn event(&mut self, event: &RunEvent, exit_code: u8) -> io::Result<()> {
        let line = Line {
            schema: SCHEMA,
            seq: event.seq,
            time: event.time,
            run_id: event.run_id,
            trace: event.trace.as_deref(),
            body: self.body(&event.kind, exit_code),
        };
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes lines into the same memory, for those who measure it.
#[cfg(any(test, feature = "hot-paths"))]
pub(crate) struct JsonLineWriter(JsonLines<Vec<u8>>);

#[cfg(any(test, feature = "hot-paths"))]
impl JsonLineWriter {
    pub(crate) fn new(spec: &crate::RunSpec) -> Self {
        Self(JsonLines::new(Vec::new(), Arc::new(Commands::of_run(spec))))
    }

    /// Returns how long the line is.
    pub(crate) fn write(&mut self, event: &RunEvent) -> usize {
        self.0.out.clear();
        self.0.event(event, 0).map_or(0, |()| self.0.out.len())
    }
}

/// The fields of a result, or of none where something of this kind gave none.
fn fields(found: Option<&TargetValue>, kind: Kind) -> Fields<'_> {
    match found {
        Some(TargetValue::Command(result)) => of_command(result),
        None if kind == Kind::Command => NO_COMMAND,
        other => Fields::Other { value: other.map_or(Value::Null, value) },
    }
}

/// What kind of step an error is of, where that is known.
const fn kind_of(operation: Operation) -> Option<Kind> {
    match operation {
        Operation::ExecuteCommand | Operation::AttachCommand | Operation::GetCommandOutput => Some(Kind::Command),
        Operation::LookUp => None,
        _ => Some(Kind::Other),
    }
}

fn of_command(result: &CommandResult) -> Fields<'_> {
    Fields::Command {
        exit_code: Some(result.exit_code),
        stdout: &result.stdout,
        stderr: &result.stderr,
        timeout_occurred: result.timeout_occurred,
        stdout_bytes: result.stdout_bytes,
        stderr_bytes: result.stderr_bytes,
        truncated: result.truncated,
    }
}

fn value(value: &TargetValue) -> Value {
    match value {
        TargetValue::Command(result) => to_value(result),
        TargetValue::Started(id) | TargetValue::Ended(id) => json!({ "command_id": id }),
        TargetValue::File(file) => {
            let mut value = json!({
                "source_path": file.source_path, "destination_path": file.destination_path, "file_size": file.file_size,
            });
            if let Some(files) = file.files {
                value["files"] = files.into();
            }
            value
        }
        TargetValue::Changes(changes) => to_value(changes),
        TargetValue::Diff(diff) => to_value(diff),
        TargetValue::Alive(round_trip) => json!({ "round_trip_ms": round_trip.as_secs_f64() * 1e3 }),
        TargetValue::Info(info) => to_value(info),
    }
}

fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| json!({ "unprintable": error.to_string() }))
}

pub(super) fn error(error: &WorkspaceError) -> ErrorFields {
    ErrorFields {
        kind: error.kind.name(),
        message: error.kind.to_string(),
        effect: error.effect,
        retryable: error.is_retryable(),
    }
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        ErrorKind, Failure, RunOperation, RunSpec, Selector,
        cli::output::sample,
        fleet::{Job, JobStep, RunSummary},
        messages::{ExecuteCommand, FileDownload},
    };

    fn ping() -> Commands {
        Commands::of_run(&RunSpec::new(Selector::all(), RunOperation::Ping))
    }

    /// The line of an event in a run of a command.
    fn line(kind: RunEventKind) -> Value {
        line_of(kind, Commands::same("cmd"))
    }

    fn line_of(kind: RunEventKind, commands: Commands) -> Value {
        let mut sink = JsonLines::new(Vec::new(), Arc::new(commands));
        let event = RunEvent { seq: 7, time: Timestamp::UNIX_EPOCH, run_id: EventId::random(), trace: None, kind };
        sink.event(&event, 4).unwrap();
        assert_eq!(sink.out.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let mut line: Value = serde_json::from_slice(&sink.out).unwrap();
        let fields = line.as_object_mut().unwrap();
        assert_eq!(fields.remove("schema").unwrap(), 1);
        assert_eq!(fields.remove("seq").unwrap(), 7);
        assert_eq!(fields.remove("time").unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(fields.remove("run_id").unwrap(), event.run_id.to_string());
        line
    }

    #[test]
    fn a_command_that_ended() {
        let target =
            sample::finished(Outcome::Failed, Some(TargetValue::Command(sample::command(3, "out\n", "err\n"))));
        assert_eq!(
            line(target),
            json!({
                "event": "target_finished", "workspace": "w1", "outcome": "failed", "exit_code": 3, "stdout": "out\n",
                "stderr": "err\n", "timeout_occurred": false, "stdout_bytes": 4, "stderr_bytes": 4, "truncated": false,
                "duration_ms": 1500, "attempt": 1, "error": null,
            })
        );
    }

    #[test]
    fn a_command_that_could_not_run() {
        let kind = ErrorKind::Unreachable { reason: "refused".into() };
        let RunEventKind::TargetFinished(mut target) = sample::finished(Outcome::Unreachable, None) else { panic!() };
        target.error = Some(Failure::not_sent(kind).on("w1", Operation::ExecuteCommand));
        assert_eq!(
            line(RunEventKind::TargetFinished(target)),
            json!({
                "event": "target_finished", "workspace": "w1", "outcome": "unreachable", "exit_code": null, "stdout": "",
                "stderr": "", "timeout_occurred": false, "stdout_bytes": 0, "stderr_bytes": 0, "truncated": false,
                "duration_ms": 1500, "attempt": 1,
                "error": { "kind": "unreachable", "message": "unreachable: refused", "effect": "not_sent", "retryable": true },
            })
        );
    }

    #[test]
    fn other_operations_have_a_value() {
        let alive = sample::finished(Outcome::Succeeded, Some(TargetValue::Alive(Duration::from_micros(1500))));
        assert_eq!(line_of(alive, ping())["value"], json!({ "round_trip_ms": 1.5 }));
        let none = line_of(sample::finished(Outcome::Skipped, None), ping());
        assert_eq!(none["value"], Value::Null);
        assert!(none.get("stdout").is_none(), "{none}");
    }

    /// A job of a command, and a download whatever happens.
    fn job() -> Commands {
        let steps = [RunOperation::Execute(ExecuteCommand::new("make")).into()];
        let download = RunOperation::Download(FileDownload::new("/log", "log"));
        let job = Job::new(steps).with_name("job-1").with_finally([JobStep::new(download)]);
        Commands::of_run(&RunSpec::jobs(Selector::all(), [job]))
    }

    #[test]
    fn what_failed_has_the_fields_of_what_it_is_and_not_of_the_job() {
        let failed = |operation| {
            let kind = ErrorKind::NotFound { detail: "/log".into() };
            Some(Failure::not_sent(kind).on("w1", operation))
        };
        let RunEventKind::StepFinished(mut step) = sample::step("log") else { panic!() };
        (step.index, step.finally, step.outcome, step.value) = (1, true, Outcome::Rejected, None);
        // A workspace that is gone gives the later steps the error of the one that found out.
        for operation in [Operation::FileDownload, Operation::ExecuteCommand] {
            step.error = failed(operation);
            let line = line_of(RunEventKind::StepFinished(step.clone()), job());
            assert!(line["value"].is_null() && line.get("stdout").is_none(), "{line}");
        }
        let RunEventKind::TargetFinished(mut target) = sample::finished(Outcome::Rejected, None) else { panic!() };
        target.target.job = Some("job-1".into());
        for (operation, is_command) in
            [(Operation::FileDownload, false), (Operation::ExecuteCommand, true), (Operation::LookUp, true)]
        {
            target.error = failed(operation);
            let line = line_of(RunEventKind::TargetFinished(target.clone()), job());
            assert_eq!(
                (line.get("stdout").is_some(), line.get("value").is_some()),
                (is_command, !is_command),
                "{line}"
            );
        }
    }

    #[test]
    fn the_summary_counts_every_outcome() {
        let mut outcomes = OutcomeCounts::default();
        outcomes.add(Outcome::Gone);
        outcomes.add(Outcome::Gone);
        let summary = RunSummary { total: 2, outcomes, flaky: 0, cancelled: None, duration: Duration::from_millis(20) };
        let line = line(RunEventKind::RunFinished(summary));
        let counts = line["outcomes"].as_object().unwrap();
        assert_eq!(counts.len(), 12);
        assert_eq!(counts["gone"], 2);
        assert_eq!(counts.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 2);
        assert_eq!((&line["total"], &line["exit_code"], &line["duration_ms"]), (&json!(2), &json!(4), &json!(20)));
    }

    /// Every event, twice where it has two forms.
    fn every_event() -> Vec<RunEventKind> {
        let job = TargetId { workspace: "w1".into(), job: Some("job-1".into()) };
        vec![
            sample::started(2, 64),
            RunEventKind::TargetsAdded { targets: 1 },
            RunEventKind::TargetBegan { target: job, attempt: 1 },
            RunEventKind::TargetStarted {
                target: TargetId::workspace("w1"),
                command_id: sample::id(),
                attempt: 1,
                step: 0,
            },
            sample::output("w1", OutputStream::Stderr, "a\n"),
            sample::slow("w1", 60),
            sample::step("build"),
            sample::retried("w1"),
            sample::failed(),
            sample::unusable("w2"),
            RunEventKind::RunCancelled { reason: CancelReason::GlobalTimeout },
            sample::run_finished(&[(Outcome::Failed, 2)], 0, Some(CancelReason::GlobalTimeout)),
        ]
    }

    #[test]
    fn every_event_as_a_line() {
        let mut sink = JsonLines::new(Vec::new(), Arc::new(Commands::same("cmd")));
        for event in sample::events(every_event()) {
            sink.event(&event, 5).unwrap();
        }
        insta::assert_snapshot!("json_lines", String::from_utf8(sink.out).unwrap());
    }

    /// The fields of an event in the table of the documentation, and whether each is always there.
    fn documented(event: &str) -> Vec<(String, bool)> {
        let page = include_str!("../../../docs/events.md");
        let row = format!("| `{event}` | ");
        let row = page.lines().find_map(|line| line.strip_prefix(&row)).unwrap_or_else(|| panic!("no row for {event}"));
        let fields = row.trim_end_matches(" |").split(", ");
        let result = ["exit_code", "stdout", "stderr", "timeout_occurred", "stdout_bytes", "stderr_bytes", "truncated"];
        fields
            .flat_map(|field| match field {
                "RESULT" => result.iter().map(|name| ((*name).to_owned(), true)).collect(),
                field => vec![(field.replace(['(', ')', '`'], ""), !field.starts_with('('))],
            })
            .collect()
    }

    #[test]
    fn the_documentation_has_the_fields_of_every_event() {
        for kind in every_event() {
            let line = line(kind);
            let event = line["event"].as_str().unwrap();
            let documented = documented(event);
            let emitted = line.as_object().unwrap();
            for name in emitted.keys().filter(|name| *name != "event") {
                assert!(documented.iter().any(|(field, _)| field == name), "`{name}` of {event} is not documented");
            }
            for (field, _) in documented.iter().filter(|(_, always)| *always) {
                assert!(emitted.contains_key(field), "{event} has no `{field}`");
            }
        }
    }
}
