use std::{collections::BTreeMap, time::Duration};

use actix_web::{HttpRequest, HttpResponse, http::header::HeaderMap, web};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::stream;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Routes, id, shorten};
use crate::{
    CommandResult, Outcome, OutputStream, WorkspaceError,
    messages::{ExecuteCommand, HoldUntil, OnDrop, Stdin},
    protocol::{EventId, MAX_COMMAND_BYTES},
    service::{
        engine::{Claim, CommandFilter, EngineError, OutputPage, StartRequest, command_location},
        http::{Authorized, Json, Params, Problem, Writer, follow_log},
        schemas::{CommandResultSchema, CommandStateSchema, CommandTextSchema, OutcomeSchema, WorkspaceErrorSchema},
        server::Shared,
        store::{CommandRecord, CommandState},
    },
};

pub(super) fn routes(routes: &mut Routes) {
    routes
        .add::<__path_start, _, _>(start)
        .add::<__path_execute, _, _>(execute)
        .add::<__path_list, _, _>(list)
        .add::<__path_get, _, _>(get)
        .add::<__path_stop, _, _>(stop)
        .add::<__path_output, _, _>(output)
        .add::<__path_events, _, _>(events);
}

/// How long an answer waits for a command's start; it tells then that it is starting.
const START: Duration = Duration::from_secs(30);

/// How much output an answer holds of each stream unless more is asked for, and at most.
const OUTPUT: usize = 1 << 20;
const MOST_OUTPUT: usize = 64 << 20;

/// How much output is read at once.
const PIECE: usize = 64 << 10;

/// The longest text that the system takes, which is that of a command with the variables before it.
const LONGEST_TEXT: usize = MAX_COMMAND_BYTES;

/// The most bytes of secret variables, names and values together: the system takes about two MiB of all variables.
const MOST_SECRETS: usize = 1 << 20;

/// The longest path that the system takes.
const LONGEST_PATH: usize = 4096;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A command that is to be started.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CommandRequest {
    /// The text for the sandbox's `/bin/sh`.
    #[schema(max_length = 131_071, example = "echo hello")]
    command: String,
    /// The directory to run in. Default: the workspace's `default_cwd`, else its server's choice.
    #[serde(default)]
    cwd: Option<String>,
    /// How long it may take from its start on, in milliseconds; null for as long as it likes. Default: 30,000.
    #[serde(default = "default_timeout")]
    #[schema(minimum = 0)]
    timeout_ms: Option<u64>,
    /// Variables of its environment, put before the command in clear text: 131,071 bytes with it. They are told again, but
    /// not in lists.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Variables that appear neither in the command's text nor in a log, and are never told again. Each has 131,071 bytes at
    /// most, all have a MiB.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>, write_only)]
    secret_env: BTreeMap<String, SecretString>,
    /// What it reads from its standard input, as text: whatever fits into a body of 4 MiB. It is never told again.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    stdin: Option<SecretString>,
    /// The same as bytes in base64.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only, content_encoding = "base64")]
    stdin_base64: Option<SecretString>,
    /// How many bytes of each stream an answer with output holds, the first half and the last half of them; 64 MiB at most.
    /// All of it is kept, and read by position. Default: 1 MiB.
    #[serde(default)]
    #[schema(minimum = 0)]
    max_output: Option<u64>,
    /// When the next step of the workspace may begin: when this command has `started` or has `finished`. Default: `started`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    hold_until: Option<HoldUntil>,
    /// Taken and left aside: a command of the service runs on, whoever waits for it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    on_drop: Option<OnDrop>,
}

const fn default_timeout() -> Option<u64> {
    Some(30_000)
}

impl CommandRequest {
    fn max_output(&self) -> usize {
        let asked = self.max_output.map_or(OUTPUT, |bytes| usize::try_from(bytes).unwrap_or(MOST_OUTPUT));
        asked.min(MOST_OUTPUT)
    }

    /// What the system would not take is neither kept nor sent.
    fn check_lengths(&self) -> Result<(), Problem> {
        if self.command.len() > LONGEST_TEXT {
            return Err(Problem::invalid(format!(
                "a command has {LONGEST_TEXT} bytes at most: upload a script and run that"
            )));
        }
        let env: usize = self.env.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.command.len() + env > LONGEST_TEXT {
            return Err(Problem::invalid(format!(
                "a command has {LONGEST_TEXT} bytes at most with the variables in `env`, which are put before it, and these \
                 have {env}: give large ones as `stdin`, or upload a file"
            )));
        }
        let sizes = || self.secret_env.iter().map(|(name, value)| name.len() + value.expose_secret().len());
        if sizes().any(|size| size > LONGEST_TEXT) || sizes().sum::<usize>() > MOST_SECRETS {
            return Err(Problem::invalid(format!(
                "a variable in `secret_env` has {LONGEST_TEXT} bytes at most, and all together have {MOST_SECRETS}: give \
                 larger ones as `stdin`, or upload a file"
            )));
        }
        if self.cwd.as_ref().is_some_and(|cwd| cwd.len() > LONGEST_PATH) {
            return Err(Problem::invalid(format!("a directory's path has {LONGEST_PATH} bytes at most")));
        }
        Ok(())
    }

    /// The command, or what is wrong with it: told now, and not when it is its turn.
    fn command(self) -> Result<ExecuteCommand, Problem> {
        let _ = self.on_drop;
        let has_nul = |text: &str| text.contains('\0');
        let values = || self.secret_env.values().map(|value| value.expose_secret());
        if has_nul(&self.command) || self.cwd.as_deref().is_some_and(has_nul) {
            return Err(Problem::invalid("neither a command nor a directory has a NUL character in it"));
        }
        self.check_lengths()?;
        if !self.env.keys().chain(self.secret_env.keys()).all(|name| is_variable(name)) {
            return Err(Problem::invalid(
                "a variable is named with letters, digits and _, and does not begin with a digit",
            ));
        }
        if self.env.values().map(String::as_str).chain(values()).any(has_nul) {
            return Err(Problem::invalid("the value of a variable has no NUL character in it"));
        }
        let mut command = ExecuteCommand::new(self.command);
        command.cwd = self.cwd;
        command.timeout = self.timeout_ms.map(Duration::from_millis);
        (command.env, command.secret_env) = (self.env, self.secret_env);
        command.hold_until = self.hold_until.unwrap_or_default();
        command.stdin = match (self.stdin, self.stdin_base64) {
            (None, None) => None,
            (Some(text), None) => Some(Bytes::copy_from_slice(text.expose_secret().as_bytes())),
            (None, Some(text)) => {
                let bytes = STANDARD.decode(text.expose_secret());
                Some(bytes.map_err(|error| Problem::invalid(format!("`stdin_base64` is no base64: {error}")))?.into())
            }
            (Some(_), Some(_)) => return Err(Problem::invalid("give `stdin` or `stdin_base64`, not both")),
        }
        .map(Stdin::Bytes);
        Ok(command)
    }
}

fn is_variable(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(is_word) && !name.as_bytes()[0].is_ascii_digit()
}

/// A command of the service.
#[derive(Serialize, ToSchema)]
struct CommandView {
    /// Its id here.
    #[schema(value_type = String)]
    id: EventId,
    /// Where it runs.
    workspace: String,
    /// What runs, without its secrets.
    #[schema(value_type = CommandTextSchema)]
    command: ExecuteCommand,
    /// How far it is.
    #[schema(value_type = CommandStateSchema)]
    state: CommandState,
    /// Whether somebody wants it stopped.
    stop_requested: bool,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    created: Timestamp,
    /// When its server had started it.
    #[schema(value_type = Option<String>, format = DateTime)]
    started: Option<Timestamp>,
    /// When it had ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended: Option<Timestamp>,
    /// The id that its server gave it.
    #[schema(value_type = Option<String>)]
    command_id: Option<EventId>,
    /// How it ended.
    #[schema(value_type = Option<OutcomeSchema>)]
    outcome: Option<Outcome>,
    /// The result; `stdout` and `stderr` in it are empty, for the output is read by itself.
    #[schema(value_type = Option<CommandResultSchema>)]
    result: Option<CommandResult>,
    /// Why there is no result.
    #[schema(value_type = Option<WorkspaceErrorSchema>)]
    error: Option<WorkspaceError>,
}

impl From<&CommandRecord> for CommandView {
    fn from(record: &CommandRecord) -> Self {
        Self {
            id: record.id,
            workspace: record.workspace.clone(),
            command: record.command.clone(),
            state: record.state,
            stop_requested: record.stop_requested,
            created: record.created,
            started: record.started,
            ended: record.ended,
            command_id: record.command_id,
            outcome: record.outcome,
            result: record.result.clone(),
            error: record.error.clone(),
        }
    }
}

impl CommandView {
    /// As it is told of in a list: without its variables, and with the beginnings of long texts.
    fn in_list(record: &CommandRecord) -> Self {
        let mut view = Self::from(record);
        view.command.env.clear();
        shorten(&mut view.command.command);
        view.command.cwd.as_mut().map(shorten);
        if let Some(result) = &mut view.result {
            shorten(&mut result.command);
        }
        view
    }
}

/// A command with what it has written.
#[derive(Serialize, ToSchema)]
struct Executed {
    #[serde(flatten)]
    command: CommandView,
    /// Its standard output.
    stdout: String,
    /// Its standard error.
    stderr: String,
    /// How many bytes of its standard output are kept.
    stdout_bytes: u64,
    /// How many bytes of its standard error are kept.
    stderr_bytes: u64,
    /// Whether some of it is left out here: out of the middle, or at the end, where the command's log is full.
    truncated: bool,
}

/// A part of the list of commands.
#[derive(Serialize, ToSchema)]
struct CommandList {
    /// The commands, the newest first, without `env` and with 300 characters of their text at most; a single one is told of
    /// with all of it. They may be fewer than were asked for although more come.
    commands: Vec<CommandView>,
    /// Where the list goes on; null at its end.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<EventId>,
}

/// A header of a request as text.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let text = |value: &'a actix_web::http::header::HeaderValue| {
        value.to_str().map_err(|_| Problem::invalid(format!("`{name}` is not plain text")))
    };
    headers.get(name).map(text).transpose()
}

/// The claim of a request with an `Idempotency-Key`.
pub(super) fn claim(request: &HttpRequest, caller: &str, body: &[u8]) -> Result<Option<Claim>, Problem> {
    let Some(key) = header(request.headers(), "idempotency-key")? else { return Ok(None) };
    let path = request.uri().to_string();
    Ok(Some(Claim::new(caller, key, request.method().as_str(), &path, body)?))
}

/// Starts the command of a request. Returns its id, and whether this request made it.
async fn begin(
    shared: &Shared,
    request: &HttpRequest,
    caller: &str,
    workspace: String,
    body: Json<CommandRequest>,
) -> Result<(EventId, bool), Problem> {
    let claim = claim(request, caller, &body.bytes)?;
    let lease = header(request.headers(), "wsfleet-lease")?.map(id).transpose()?;
    let command = body.value.command()?;
    let started = shared.engine.start_command(StartRequest { workspace, command, lease }, claim).await?;
    let request_id = shared.request_id(request);
    log::info!(
        target: "wsfleet::commands", request_id = request_id.as_str(), command_id = started.id.to_string().as_str();
        "command {} is started by request {request_id}", started.id
    );
    Ok((started.id, started.is_new))
}

/// Starts a command
///
/// It is written down, then started. The answer comes when its server has started it, and after 30 s in any case.
#[utoipa::path(post, path = "/v1/workspaces/{name}/commands", tag = "commands", request_body(content = CommandRequest,
    example = json!({"command": "make test", "timeout_ms": 600_000})),
    params(("name" = String, Path, description = "The workspace's name"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, description = "The same key never starts it twice, also across a restart, for 24 hours"),
        ("Wsfleet-Lease" = Option<String>, Header, description = "The id of the lease under which it runs")),
    responses((status = 201, body = CommandView, headers(("Location" = String, description = "Its path"))),
        (status = 200, description = "An earlier request with this key has started it", body = CommandView),
        (status = 409, description = "The lease is of another workspace", body = crate::service::http::Problem)))]
async fn start(
    Writer(caller): Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
    body: Json<CommandRequest>,
) -> Result<HttpResponse, Problem> {
    Params::of(&request)?.end()?;
    let (id, is_new) = begin(&shared, &request, &caller.caller, name.into_inner(), body).await?;
    let record = tokio::select! {
        record = shared.engine.reached(id, CommandState::Running, START) => record?,
        () = shared.closing.cancelled() => shared.engine.command(id)?,
    };
    let mut response = if is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    Ok(response.insert_header(("location", command_location(id))).json(CommandView::from(&*record)))
}

/// Runs a command and waits for its end
///
/// A client that goes away leaves it running: its path is that of any command.
#[utoipa::path(post, path = "/v1/workspaces/{name}/execute", tag = "commands", request_body(content = CommandRequest,
    example = json!({"command": "echo hello"})),
    params(("name" = String, Path, description = "The workspace's name"),
        ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 86_400_000, description = "How long to wait at most. Default: an hour"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, description = "The same key never starts it twice, also across a restart, for 24 hours"),
        ("Wsfleet-Lease" = Option<String>, Header, description = "The id of the lease under which it runs")),
    responses((status = 200, description = "It has ended", body = Executed, headers(("Location" = String, description = "Its path"))),
        (status = 202, description = "It runs on", body = Executed, headers(("Location" = String, description = "Its path"))),
        (status = 409, description = "The lease is of another workspace", body = crate::service::http::Problem)))]
async fn execute(
    Writer(caller): Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
    body: Json<CommandRequest>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let wait = params.millis("wait_ms", 0..=DAY_MS, DAY_MS / 24)?;
    params.end()?;
    let most = body.value.max_output();
    let (id, _) = begin(&shared, &request, &caller.caller, name.into_inner(), body).await?;
    let record = tokio::select! {
        record = shared.engine.reached(id, CommandState::Finished, wait) => record?,
        () = shared.closing.cancelled() => shared.engine.command(id)?,
    };
    let output = shared.engine.collect_output(id, most).await?;
    let finished = record.state == CommandState::Finished;
    let mut response = if finished { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(response.insert_header(("location", command_location(id))).json(Executed {
        command: CommandView::from(&*record),
        stdout: output.stdout,
        stderr: output.stderr,
        stdout_bytes: output.stdout_bytes,
        stderr_bytes: output.stderr_bytes,
        truncated: output.truncated,
    }))
}

/// Lists commands, the newest first
#[utoipa::path(get, path = "/v1/commands", tag = "commands", params(
    ("workspace" = Option<String>, Query, description = "Those of this workspace"),
    ("state" = Option<CommandStateSchema>, Query, description = "Those in this state"),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "How many at most. Default: 100")),
    responses((status = 200, body = CommandList)))]
async fn list(_: Authorized, request: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let state = match params.text("state")?.as_deref() {
        None => None,
        Some("starting") => Some(CommandState::Starting),
        Some("running") => Some(CommandState::Running),
        Some("finished") => Some(CommandState::Finished),
        Some(_) => return Err(Problem::invalid("`state` is `starting`, `running` or `finished`")),
    };
    let filter = CommandFilter { workspace: params.text("workspace")?, state };
    let cursor = params.read::<EventId>("cursor")?;
    let limit = params.number("limit", 1..=1000, 100)? as usize;
    params.end()?;
    let page = shared.engine.list_commands(filter, cursor, limit, CommandView::in_list).await?;
    Ok(HttpResponse::Ok().json(CommandList { commands: page.items, next_cursor: page.next }))
}

/// Tells how a command does
#[utoipa::path(get, path = "/v1/commands/{id}", tag = "commands",
    params(("id" = String, Path, description = "The command's id")),
    responses((status = 200, body = CommandView)))]
async fn get(_: Authorized, shared: web::Data<Shared>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(CommandView::from(&*shared.engine.command(id(&path)?)?)))
}

/// Stops a command
///
/// One that has ended is left as it is. Its end is told as any other.
#[utoipa::path(post, path = "/v1/commands/{id}/stop", tag = "commands",
    params(("id" = String, Path, description = "The command's id")),
    responses((status = 202, body = CommandView)))]
async fn stop(_: Writer, shared: web::Data<Shared>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let record = shared.engine.stop_command(id(&path)?).await?;
    Ok(HttpResponse::Accepted().json(CommandView::from(&*record)))
}

/// Reads what a command has written, from a position
///
/// As JSON it is a page, which names the position to go on from. As text it is everything up to now, with that position in a
/// header. The positions are those of the events.
#[utoipa::path(get, path = "/v1/commands/{id}/output", tag = "commands", params(
    ("id" = String, Path, description = "The command's id"),
    ("from" = Option<u64>, Query, minimum = 0, description = "A position that was told. Default: 0, the beginning"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 16_777_216, description = "How many bytes a page has, one piece at least. Default: 1 MiB"),
    ("wait_ms" = Option<u64>, Query, minimum = 0, maximum = 60_000, description = "How long to wait where there is nothing yet. Default: 0"),
    ("format" = Option<String>, Query, description = "`json` or `text`. Default: `json`"),
    ("stream" = Option<String>, Query, description = "As text: `stdout` or `stderr` alone. Default: both, as they came")),
    responses((status = 200, content((OutputPage = "application/json"), (String = "text/plain")),
        headers(("Wsfleet-Next" = u64, description = "As text: the position to go on from")))))]
async fn output(
    _: Authorized,
    request: HttpRequest,
    shared: web::Data<Shared>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let command = id(&path)?;
    let mut params = Params::of(&request)?;
    let from = params.number("from", 0..=u64::MAX, 0)?;
    let limit = params.number("limit", 1..=16 << 20, 1 << 20)? as usize;
    let wait = params.millis("wait_ms", 0..=60_000, 0)?;
    let format = params.text("format")?;
    let only = match params.text("stream")?.as_deref() {
        None => None,
        Some("stdout") => Some(OutputStream::Stdout),
        Some("stderr") => Some(OutputStream::Stderr),
        Some(_) => return Err(Problem::invalid("`stream` is `stdout` or `stderr`")),
    };
    params.end()?;
    match format.as_deref() {
        None | Some("json") if only.is_none() => {
            let page: OutputPage = read(&shared, command, from, limit, wait).await?;
            Ok(HttpResponse::Ok().json(page))
        }
        None | Some("json") => Err(Problem::invalid("`stream` goes with `format=text`")),
        Some("text") => text(shared, command, from, wait, only).await,
        Some(_) => Err(Problem::invalid("`format` is `json` or `text`")),
    }
}

/// Reads output, and waits for it where there is none yet, but not beyond the end of the service.
async fn read(
    shared: &Shared,
    command: EventId,
    from: u64,
    most: usize,
    wait: Duration,
) -> Result<OutputPage, EngineError> {
    tokio::select! {
        page = shared.engine.read_output(command, from, most, wait) => page,
        () = shared.closing.cancelled() => shared.engine.read_output(command, from, most, Duration::ZERO).await,
    }
}

async fn text(
    shared: web::Data<Shared>,
    command: EventId,
    from: u64,
    wait: Duration,
    only: Option<OutputStream>,
) -> Result<HttpResponse, Problem> {
    let end = shared.engine.output(command)?.end();
    // A position that is none is told now, and not in the middle.
    let first = read(&shared, command, from, PIECE, wait).await?;
    let end = end.max(first.next);
    let pieces = stream::try_unfold((shared, Some(first)), move |(shared, page)| async move {
        let Some(page) = page else { return Ok(None) };
        let texts = page.output.iter().filter(|piece| only.is_none_or(|only| only == piece.stream));
        let bytes = Bytes::from(texts.map(|piece| piece.text.as_str()).collect::<String>());
        let rest = if page.next < end {
            Some(shared.engine.read_output(command, page.next, PIECE, Duration::ZERO).await?)
        } else {
            None
        };
        Ok::<_, Problem>(Some((bytes, (shared, rest))))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header(("wsfleet-next", end))
        .streaming(Box::pin(pieces)))
}

/// Follows a command as server-sent events
///
/// `stdout` and `stderr` have a piece of output as a JSON text, `truncated` says that the log is full and the rest left out, `end` has the command as it is told elsewhere. The id of an
/// event is the position behind it: a reader that comes back with `Last-Event-ID` misses nothing.
#[utoipa::path(get, path = "/v1/commands/{id}/events", tag = "commands", params(
    ("id" = String, Path, description = "The command's id"),
    ("from" = Option<u64>, Query, minimum = 0, description = "A position that was told. Default: 0, the beginning"),
    ("Last-Event-ID" = Option<u64>, Header, description = "The same, as browsers send it when they come back")),
    responses((status = 200, description = "The events", body = crate::service::schemas::EventSchema, content_type = "text/event-stream")))]
async fn events(
    request: HttpRequest,
    _: Authorized,
    shared: web::Data<Shared>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let command = id(&path)?;
    let log = shared.engine.output(command)?;
    follow_log(&request, log, move || {
        let record = shared.engine.command(command).ok()?;
        serde_json::to_vec(&CommandView::from(&*record)).ok().map(Into::into)
    })
}
