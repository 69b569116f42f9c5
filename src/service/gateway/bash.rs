use actix_web::{
    HttpResponse,
    http::{StatusCode, header::CONTENT_TYPE},
};
use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::{
    Request,
    answer::Refusal,
    pass::{self, Body},
    pieces::Pieces,
    ways,
};
use crate::{
    CommandResult,
    messages::{ExecuteCommand, GetLastOutput, StartBash},
    protocol::{BashEvent, BashOutput, CommandHead, EventId, MAX_COMMAND_BYTES, StartBashCommand},
};

/// The most bytes of a start. The longest command has each byte of it escaped.
const MOST: usize = 2 << 20;

/// The seconds that a server gives a command of which nobody says how long it may take.
const DEFAULT_TIMEOUT: i64 = 300;

/// The most output of each stream that is told in one answer.
const MOST_OUTPUT: usize = 64 << 20;

/// What is to be started.
pub(super) enum Start {
    /// A command for the runtime.
    Command(StartBashCommand),
    /// Something for the server itself, which has its own words for what makes no sense.
    Verbatim(Bytes),
}

/// Starts a command.
pub(super) async fn start(request: &Request, pieces: Pieces) -> Result<HttpResponse, Refusal> {
    match read(request, pieces).await? {
        Start::Verbatim(body) => pass::pass(request, Body::Whole(body)).await,
        Start::Command(start) => {
            let command = request.workspace.ask(StartBash(start)).await?;
            Ok(HttpResponse::Ok().json(BashEvent::Command(command)))
        }
    }
}

/// Runs a command and answers when it has ended.
pub(super) async fn execute(request: &Request, pieces: Pieces) -> Result<HttpResponse, Refusal> {
    let start = match read(request, pieces).await? {
        Start::Verbatim(body) => return pass::pass(request, Body::Whole(body)).await,
        Start::Command(start) => start,
    };
    let command = ExecuteCommand::as_asked(start).with_max_output(MOST_OUTPUT);
    let result = tokio::select! {
        result = request.workspace.execute_command(command) => result?,
        () = request.shared.closing.cancelled() => {
            return Err(Refusal::overloaded(
                "the service ends, and the command runs on: look at its events when the service is there again",
            ));
        }
    };
    if result.truncated {
        return Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!(
                "the command wrote more than the {} MiB that one answer may hold: start it in the background and read its \
                 events",
                MOST_OUTPUT >> 20
            ),
        ));
    }
    let last = request.workspace.ask(GetLastOutput(result.command_id)).await?;
    Ok(HttpResponse::Ok().json(BashEvent::Output(joined(result, last))))
}

/// All output as one event, as servers answer it.
fn joined(result: CommandResult, last: Option<BashOutput>) -> BashOutput {
    let text = |text: String| (!text.is_empty()).then_some(text);
    BashOutput {
        // Its events may have been cleared meanwhile.
        id: last.as_ref().map_or_else(EventId::random, |last| last.id),
        timestamp: last.as_ref().map_or_else(jiff::Timestamp::now, |last| last.timestamp),
        command_id: result.command_id,
        order: last.map_or(0, |last| last.order),
        exit_code: result.raw_exit_code.or(Some(result.exit_code)),
        stdout: text(result.stdout),
        stderr: text(result.stderr),
    }
}

/// The id of the command that a path below `/bash/` stops.
pub(super) fn stopped(below: &str) -> Option<&str> {
    below.strip_prefix("bash_commands/")?.strip_suffix("/stop")
}

/// Stops a command. Servers that are too old for that have it done by the runtime.
pub(super) async fn stop(request: &Request, pieces: Pieces) -> Result<HttpResponse, Refusal> {
    let lent = ways::client(&request.workspace).await?;
    let answer = pass::ask(request, &lent, Body::Streamed(pieces)).await?;
    let id = request.route.bash().and_then(stopped).and_then(|id| id.parse::<EventId>().ok());
    if let Some(id) = id
        && answer.status == StatusCode::NOT_FOUND
        && lent.client.bash_event(id).await.is_ok()
    {
        request.workspace.stop_command(id).await?;
        return Ok(HttpResponse::Ok().json(serde_json::json!({ "success": true })));
    }
    pass::answered(request, answer, lent).await
}

async fn read(request: &Request, pieces: Pieces) -> Result<Start, Refusal> {
    let body = collect(pieces).await?;
    let kind = request.http.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind.is_some_and(|kind| kind.contains("json")) { Ok(understood(&body)) } else { Ok(Start::Verbatim(body)) }
}

async fn collect(mut pieces: Pieces) -> Result<Bytes, Refusal> {
    let mut body = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if body.len() + piece.len() > MOST {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a start may have {} MiB, which is more than the longest command has", MOST >> 20),
            ));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// Reads what is to be started, as servers do.
pub(super) fn understood(body: &Bytes) -> Start {
    let verbatim = || Start::Verbatim(body.clone());
    let Ok(Value::Object(mut fields)) = serde_json::from_slice::<Value>(body) else { return verbatim() };
    let (Some(Value::String(command)), Some(cwd), Some(timeout)) =
        (fields.get("command"), cwd(fields.get("cwd")), timeout(fields.get("timeout")))
    else {
        return verbatim();
    };
    if CommandHead::strip(command).is_some() {
        // Who sends this looks after its start itself, by its own head, which answers have to show.
        let with_head = format!("{}{command}", CommandHead::new(EventId::random()));
        fields.insert("command".to_owned(), with_head.into());
        return Start::Verbatim(serde_json::to_vec(&fields).map_or_else(|_| body.clone(), Bytes::from));
    }
    if command.contains('\0') || command.len() + CommandHead::LENGTH > MAX_COMMAND_BYTES {
        return verbatim();
    }
    Start::Command(StartBashCommand { command: command.clone(), cwd, timeout })
}

/// The directory, or `None` for what is none.
fn cwd(value: Option<&Value>) -> Option<Option<String>> {
    match value {
        None | Some(Value::Null) => Some(None),
        // As servers have it, no text is no directory.
        Some(Value::String(text)) => Some((!text.is_empty()).then(|| text.clone())),
        Some(_) => None,
    }
}

/// The whole seconds, or `None` for what the server has to judge.
fn timeout(value: Option<&Value>) -> Option<i64> {
    match value {
        None => Some(DEFAULT_TIMEOUT),
        Some(Value::Number(number)) => {
            let whole = |float: f64| (float.fract() == 0.0 && float.abs() < 1e15).then_some(float as i64);
            number.as_i64().or_else(|| number.as_f64().and_then(whole))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Start {
        understood(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_start_is_read_as_servers_read_it() {
        let Start::Command(start) = read(r#"{"command":"true","timeout":5.0,"more":1}"#) else { panic!("it is one") };
        assert_eq!((start.command.as_str(), start.cwd, start.timeout), ("true", None, 5));
        for odd in [
            "{",
            "[]",
            "{}",
            r#"{"command":1}"#,
            r#"{"command":"x","timeout":1.5}"#,
            r#"{"command":"x","timeout":null}"#,
            r#"{"command":"x","cwd":2}"#,
            r#"{"command":"a\u0000b"}"#,
        ] {
            assert!(matches!(read(odd), Start::Verbatim(body) if body == odd), "{odd}");
        }
    }

    #[test]
    fn a_command_with_a_head_of_its_own_gets_another_before_it() {
        let theirs = format!("{}true", CommandHead::new(EventId::random()));
        let body = serde_json::json!({ "command": theirs, "timeout": 7 }).to_string();
        let Start::Verbatim(sent) = read(&body) else { panic!("it is not for the runtime") };
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        let (_, rest) = CommandHead::strip(sent["command"].as_str().unwrap()).unwrap();
        assert_eq!((rest, &sent["timeout"]), (theirs.as_str(), &Value::from(7)));
    }
}
