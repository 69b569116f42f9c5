//! What is said of one target, for people.

use std::{borrow::Cow, time::Duration};

use serde_json::Value;
use similar::TextDiff;

use super::words::{count, duration, one_line};
use crate::{
    CommandResult, ErrorKind, FileOperationResult, Outcome, WorkspaceError,
    fleet::{TargetFinished, TargetValue},
    protocol::{GitChange, GitDiff, ServerInfo},
};

/// How long a comparison may search for the shortest form of a difference.
const DIFF_PATIENCE: Duration = Duration::from_secs(2);

/// The target's name, how it ended and what can be said of that in few words.
pub(super) fn headline(target: &TargetFinished) -> String {
    headline_of(target.target.label(), target.outcome, target.value.as_ref(), target.duration)
}

/// The same, of what is called so.
pub(super) fn headline_of(label: &str, outcome: Outcome, value: Option<&TargetValue>, took: Duration) -> String {
    let took = match value {
        // The round trip, which is in the words of the ending.
        Some(TargetValue::Alive(_)) => String::new(),
        _ => format!(", {}", duration(took)),
    };
    format!("{label}: {}{took}", ending_of(outcome, value))
}

/// How a target ended, without its name and its time; for one without result the reason. Targets for which that is the same
/// have ended alike.
pub(super) fn ending_in_words(target: &TargetFinished) -> String {
    step_in_words(target.outcome, target.value.as_ref(), target.error.as_ref())
}

/// The same of a step.
pub(super) fn step_in_words(outcome: Outcome, value: Option<&TargetValue>, error: Option<&WorkspaceError>) -> String {
    match value {
        // Each of them has its own address in its reason.
        None if outcome == Outcome::Unreachable => outcome.name().to_owned(),
        None => reason_of(outcome, None, error).unwrap_or_else(|| outcome.name().to_owned()),
        // Round trips and ids differ, and so do the local paths of downloads.
        Some(TargetValue::Alive(_) | TargetValue::Started(_) | TargetValue::Ended(_)) => outcome.name().to_owned(),
        Some(TargetValue::File(file)) => {
            [Some(outcome.name().to_owned()), size(file)].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
        Some(value) => ending_of(outcome, Some(value)),
    }
}

/// How much was transferred.
fn size(file: &FileOperationResult) -> Option<String> {
    let files = file.files.map(|files| count(files, "file"));
    let bytes = file.file_size.map(|size| count(size, "byte"));
    let words: Vec<_> = files.into_iter().chain(bytes).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn ending_of(outcome: Outcome, value: Option<&TargetValue>) -> String {
    let mut words = vec![outcome.name().to_owned()];
    match value {
        Some(TargetValue::Command(result)) => {
            if !result.timeout_occurred {
                words.push(ending(result));
            }
            words.extend(left_out(result));
        }
        Some(TargetValue::Started(id) | TargetValue::Ended(id)) => words.push(format!("command {id}")),
        Some(TargetValue::File(file)) => {
            let size = size(file).map(|size| format!("{size} to ")).unwrap_or_default();
            words.push(format!("{size}{}", one_line(&file.destination_path)));
        }
        Some(TargetValue::Changes(changes)) => words.push(count(changes.len() as u64, "change")),
        Some(TargetValue::Diff(diff)) if diff.modified == diff.original => words.push("no difference".to_owned()),
        Some(TargetValue::Alive(round_trip)) => words.push(duration(*round_trip)),
        Some(TargetValue::Diff(_) | TargetValue::Info(_)) | None => {}
    }
    words.join(", ")
}

/// The lines below the headline, for what has any besides the output of a command.
pub(super) fn text(value: &TargetValue) -> Cow<'_, str> {
    match value {
        TargetValue::Command(result) => Cow::Borrowed(&result.stdout),
        TargetValue::Changes(changes) => changes.iter().map(change).collect::<String>().into(),
        TargetValue::Diff(diff) => unified(diff).into(),
        TargetValue::Info(info) => info_lines(info).into(),
        TargetValue::Started(id) => format!("{id}\n").into(),
        TargetValue::Ended(_) | TargetValue::File(_) | TargetValue::Alive(_) => Cow::Borrowed(""),
    }
}

/// How a target ended that did not succeed, why, and what to do about it where that is known; `None` when it did, or
/// never began.
pub(super) fn reason(target: &TargetFinished) -> Option<String> {
    reason_of(target.outcome, target.value.as_ref(), target.error.as_ref())
}

fn reason_of(outcome: Outcome, value: Option<&TargetValue>, error: Option<&WorkspaceError>) -> Option<String> {
    let name = outcome.name();
    if let Some(error) = error {
        let words = error_in_words(error);
        // Most kinds of error say in their own words what the outcome says.
        return Some(if words.starts_with(name) { words } else { format!("{name}: {words}") });
    }
    let why = match (outcome, value) {
        (Outcome::Succeeded | Outcome::Skipped, _) => return None,
        (Outcome::TimedOut, Some(TargetValue::Command(result))) => {
            format!("stopped after {}, its time was up", duration(result.duration))
        }
        (_, Some(TargetValue::Command(result))) => ending(result),
        _ => "no reason given".to_owned(),
    };
    Some(format!("{name}: {why}"))
}

/// How a command ended. A server has -N for signal N, and -1, with a reason in stderr, for what never began.
fn ending(result: &CommandResult) -> String {
    match result.exit_code {
        -1 if result.raw_exit_code == Some(-1) && result.stderr.starts_with("Error executing command:") => {
            "could not be started".to_owned()
        }
        signal @ -64..=-2 => format!("killed by signal {}", -signal),
        code => format!("exit {code}"),
    }
}

fn error_in_words(error: &WorkspaceError) -> String {
    let kind = error.kind.to_string();
    let text = format!("{} ({})", one_line(&kind), error.effect.describe());
    match &error.kind {
        ErrorKind::Unauthorized { .. } => {
            format!(
                "{text}; is the session key right? It is `api_key_env` in the inventory and --api-key-env for a URL"
            )
        }
        _ => text,
    }
}

/// How much output is missing, if any is.
pub(super) fn left_out(result: &CommandResult) -> Option<String> {
    if !result.truncated {
        return None;
    }
    let missing = missing(&result.stdout, result.stdout_bytes) + missing(&result.stderr, result.stderr_bytes);
    let written = result.stdout_bytes + result.stderr_bytes;
    (missing > 0).then(|| format!("output cut to {} of {written} bytes", written - missing))
}

/// How many of the bytes that were written are not in a text. The line that says so there counts for nothing, and is told
/// from one that the command wrote by its number.
fn missing(text: &str, written: u64) -> u64 {
    const END: &str = " bytes left out]\n";
    let left_out = |at: usize| {
        let number = text[at + 2..].split_once(END)?.0;
        let line = (2 + number.len() + END.len()) as u64;
        let missing = number.parse::<u64>().ok()?;
        (missing.checked_add(text.len() as u64)? == written + line).then_some(missing)
    };
    let told = text.match_indices("\n[").find_map(|(at, _)| left_out(at));
    told.unwrap_or_else(|| written.saturating_sub(text.len() as u64))
}

fn change(change: &GitChange) -> String {
    let status = serde_json::to_value(change.status).ok();
    let status = status.as_ref().and_then(Value::as_str).unwrap_or_default();
    format!("{status:<8} {}\n", one_line(&change.path))
}

fn unified(diff: &GitDiff) -> String {
    let side = |text: &Option<String>| text.clone().unwrap_or_default();
    let (original, modified) = (side(&diff.original), side(&diff.modified));
    if original == modified {
        return String::new();
    }
    if original.contains('\0') || modified.contains('\0') {
        return "binary files differ\n".to_owned();
    }
    let differences = TextDiff::configure().timeout(DIFF_PATIENCE).diff_lines(&original, &modified);
    // Servers drop the last newline of both, so its absence says nothing.
    differences.unified_diff().missing_newline_hint(false).header("original", "modified").to_string()
}

fn info_lines(info: &ServerInfo) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(info) else { return String::new() };
    let told = fields.iter().filter(|(_, value)| !value.is_null());
    told.map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{}: {}\n", one_line(name), one_line(&value))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Failure, Operation,
        cli::output::sample::{command, target},
        protocol::GitChangeStatus,
    };

    fn headline_with(outcome: Outcome, value: TargetValue) -> String {
        headline(&target(outcome, Some(value)))
    }

    #[test]
    fn headlines_say_how_it_ended() {
        let command = command(3, "", "");
        assert_eq!(headline_with(Outcome::Failed, TargetValue::Command(command.clone())), "w1: failed, exit 3, 1.5 s");
        let cut = CommandResult { truncated: true, stdout: "ab".into(), stdout_bytes: 900, ..command.clone() };
        assert_eq!(
            headline_with(Outcome::Failed, TargetValue::Command(cut)),
            "w1: failed, exit 3, output cut to 2 of 900 bytes, 1.5 s"
        );
        let late = CommandResult { timeout_occurred: true, exit_code: -1, ..command };
        assert_eq!(headline_with(Outcome::TimedOut, TargetValue::Command(late)), "w1: timed_out, 1.5 s");
        let file = FileOperationResult {
            success: true,
            source_path: "a".into(),
            destination_path: "/b".into(),
            file_size: Some(1),
            files: None,
            sha256: None,
            error: None,
            trace: None,
        };
        assert_eq!(headline_with(Outcome::Succeeded, TargetValue::File(file)), "w1: succeeded, 1 byte to /b, 1.5 s");
        let alive = TargetValue::Alive(Duration::from_micros(1500));
        assert_eq!(headline_with(Outcome::Succeeded, alive), "w1: succeeded, 1.5 ms");
    }

    #[test]
    fn what_is_missing_is_what_was_left_out_and_not_the_line_that_says_so() {
        let cut = |stdout: &str, stdout_bytes, stderr: &str, stderr_bytes| {
            let result = command(0, stdout, stderr);
            left_out(&CommandResult { truncated: true, stdout_bytes, stderr_bytes, ..result })
        };
        let told = |kept: u64, written: u64| Some(format!("output cut to {kept} of {written} bytes"));
        assert_eq!(cut("abcde\n[41 bytes left out]\nvwxyz", 51, "", 0), told(10, 51));
        // Less was left out than the line is long.
        assert_eq!(cut("abcde\n[2 bytes left out]\nvwxyz", 12, "", 0), told(10, 12));
        assert_eq!(cut("", 51, "e", 1), told(1, 52));
        let faked = "a\n[7 bytes left out]\n\n[41 bytes left out]\nvwxyz";
        assert_eq!(
            cut(faked, faked.len() as u64 + 41 - 21, "", 0),
            told(faked.len() as u64 - 21, faked.len() as u64 + 20)
        );
        // What was never read is not known to be longer.
        assert_eq!(cut("abc", 3, "", 0), None);
        assert_eq!(cut("\n[é\n[1 bytes", 14, "", 0), told(13, 14));
    }

    #[test]
    fn what_has_no_exit_code_is_told_in_words() {
        let said = |result| headline_with(Outcome::Failed, TargetValue::Command(result));
        assert_eq!(said(command(-15, "", "")), "w1: failed, killed by signal 15, 1.5 s");
        let never = command(-1, "", "Error executing command: No such file");
        assert_eq!(said(never.clone()), "w1: failed, could not be started, 1.5 s");
        assert_eq!(
            reason(&target(Outcome::Failed, Some(TargetValue::Command(never)))).unwrap(),
            "failed: could not be started"
        );
        assert_eq!(said(command(-1, "", "")), "w1: failed, exit -1, 1.5 s");
    }

    #[test]
    fn reasons_say_what_is_known_and_what_to_do() {
        let mut late = command(-1, "", "");
        late.timeout_occurred = true;
        let late = target(Outcome::TimedOut, Some(TargetValue::Command(late)));
        assert_eq!(reason(&late).unwrap(), "timed_out: stopped after 1.2 s, its time was up");
        let mut refused = target(Outcome::Unauthorized, None);
        let kind = ErrorKind::Unauthorized { status: 401, detail: "No\u{1b}[2J".into() };
        refused.error = Some(Failure::not_sent(kind).on("w1", Operation::Alive));
        let said = reason(&refused).unwrap();
        assert!(said.starts_with("unauthorized (401): No\\u{1b}[2J (nothing was done); "), "{said}");
        assert!(said.contains("--api-key-env"), "{said}");
        assert_eq!(reason(&target(Outcome::Skipped, None)), None);
    }

    #[test]
    fn changes_are_a_line_each() {
        let change = |status, path: &str| GitChange { status, path: path.into() };
        let changes =
            TargetValue::Changes(vec![change(GitChangeStatus::Added, "a b"), change(GitChangeStatus::Updated, "c\nd")]);
        assert_eq!(text(&changes), "ADDED    a b\nUPDATED  c d\n");
    }

    #[test]
    fn a_difference_is_a_unified_diff() {
        let diff = GitDiff { original: Some("a\nb\nc".into()), modified: Some("a\nB\nc".into()) };
        assert_eq!(text(&TargetValue::Diff(diff)), "--- original\n+++ modified\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
        let binary = GitDiff { original: None, modified: Some("a\0b".into()) };
        assert_eq!(text(&TargetValue::Diff(binary)), "binary files differ\n");
        let same = GitDiff { original: Some("a\0".into()), modified: Some("a\0".into()) };
        assert_eq!(text(&TargetValue::Diff(same)), "");
        let new = GitDiff { original: None, modified: Some("a".into()) };
        assert_eq!(text(&TargetValue::Diff(new)), "--- original\n+++ modified\n@@ -0,0 +1 @@\n+a\n");
    }
}
