use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Routes, commands::claim, id, shorten};
use crate::{
    RunSpec,
    fleet::RunSummary,
    protocol::EventId,
    service::{
        engine::{Engine, LONGEST_TAIL, RunCounts, RunRequest, RunResults, run_location},
        http::{Authorized, Json, Params, Problem, Writer, follow_log},
        schemas::RunStateSchema,
        server::Shared,
        store::{RunRecord, RunState},
    },
};

pub(super) fn routes(routes: &mut Routes) {
    routes
        .add::<__path_start, _, _>(start)
        .add::<__path_list, _, _>(list)
        .add::<__path_get, _, _>(get)
        .add::<__path_add_jobs, _, _>(add_jobs)
        .add::<__path_close, _, _>(close)
        .add::<__path_cancel, _, _>(cancel)
        .add::<__path_report, _, _>(report)
        .add::<__path_events, _, _>(events);
}

/// A run that is to be started.
#[derive(Deserialize, ToSchema)]
struct NewRun {
    /// Secret variables for each of its commands. They are never told again.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>, write_only)]
    secret_env: BTreeMap<String, SecretString>,
    /// Whether jobs are added later. Such a run ends when it was closed and its last job has ended. Default: false.
    #[serde(default)]
    open: bool,
    /// What is done, and where: a run's spec. The source of an upload and the stdin of a command are given as
    /// `{"base64": "..."}`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    spec: Map<String, Value>,
}

/// Jobs that are to be added to a run.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewJobs {
    /// The jobs, each with a name that is unique within the run.
    #[schema(value_type = Vec<Object>, min_items = 1, max_items = 10_000)]
    jobs: Vec<Value>,
}

/// A run.
#[derive(Serialize, ToSchema)]
struct RunView {
    /// Its id.
    #[schema(value_type = String)]
    id: EventId,
    /// How far it is.
    #[schema(value_type = RunStateSchema)]
    state: RunState,
    /// What it does, in words.
    description: String,
    /// Whether more jobs may be added.
    open: bool,
    /// Whether it was cancelled.
    cancelled: bool,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    created: Timestamp,
    /// When it had ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    ended: Option<Timestamp>,
    /// How far its targets are.
    progress: RunCounts,
    /// How it ended.
    #[schema(value_type = Option<Object>)]
    summary: Option<RunSummary>,
    /// Why it could not be gone on with.
    error: Option<String>,
    /// What it does, without secrets and bytes; only of a single run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    spec: Option<RunSpec>,
}

impl RunView {
    fn of(engine: &Engine, record: &RunRecord) -> Self {
        Self {
            id: record.id,
            state: record.state,
            description: record.spec.describe(),
            open: record.open,
            cancelled: record.cancelled,
            created: record.created,
            ended: record.ended,
            progress: engine.run_counts(record),
            summary: record.summary.clone(),
            error: record.error.clone(),
            spec: None,
        }
    }

    /// As it is told of in a list.
    fn in_list(engine: &Engine, record: &RunRecord) -> Self {
        let mut view = Self::of(engine, record);
        shorten(&mut view.description);
        view.error.as_mut().map(shorten);
        view
    }
}

/// A part of the list of runs.
#[derive(Serialize, ToSchema)]
struct RunList {
    /// The runs, the newest first, with descriptions of 300 characters at most. They may be fewer than were asked for although
    /// more come.
    runs: Vec<RunView>,
    /// Where the list goes on; null at its end.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<EventId>,
}

/// A report: how a run ended, or how far it is, and how its targets ended.
#[derive(Serialize, ToSchema)]
struct RunReportView {
    /// The run.
    run: RunView,
    #[serde(flatten)]
    results: RunResults,
}

/// Starts a run
///
/// The same on each workspace that a selector picks, or jobs that are worked off over them. It is written down before it is
/// answered for, and goes on also when the service is started again.
#[utoipa::path(post, path = "/v1/runs", tag = "runs", request_body(content = NewRun,
    example = json!({"selector": {}, "work": {"each": {"steps": [{"operation": {"execute": {"command": "uname -a"}}}]}}})),
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, description = "The same key never starts it twice, also across a restart, for 24 hours")),
    responses((status = 201, body = RunView, headers(("Location" = String, description = "Its path"))),
        (status = 200, description = "An earlier request with this key has started it", body = RunView)))]
async fn start(
    Writer(caller): Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    body: Json<NewRun>,
) -> Result<HttpResponse, Problem> {
    Params::of(&request)?.end()?;
    let claim = claim(&request, &caller.caller, &body.bytes)?;
    let NewRun { secret_env, open, spec } = body.value;
    let started = shared.engine.start_run(RunRequest { spec, secret_env, open }, claim).await?;
    let record = shared.engine.run_record(started.id)?;
    let mut response = if started.is_new { HttpResponse::Created() } else { HttpResponse::Ok() };
    let location = ("location", run_location(started.id));
    Ok(response.insert_header(location).json(RunView::of(&shared.engine, &record)))
}

/// Lists runs, the newest first
#[utoipa::path(get, path = "/v1/runs", tag = "runs", params(
    ("state" = Option<RunStateSchema>, Query, description = "Those in this state"),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "How many at most. Default: 100")),
    responses((status = 200, body = RunList)))]
async fn list(_: Authorized, request: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let state = match params.text("state")?.as_deref() {
        None => None,
        Some("running") => Some(RunState::Running),
        Some("finished") => Some(RunState::Finished),
        Some(_) => return Err(Problem::invalid("`state` is `running` or `finished`")),
    };
    let cursor = params.read::<EventId>("cursor")?;
    let limit = params.number("limit", 1..=1000, 100)? as usize;
    params.end()?;
    let page = shared.engine.list_runs(state, cursor, limit, RunView::in_list).await?;
    Ok(HttpResponse::Ok().json(RunList { runs: page.items, next_cursor: page.next }))
}

/// Tells how a run does
#[utoipa::path(get, path = "/v1/runs/{id}", tag = "runs",
    params(("id" = String, Path, description = "The run's id")),
    responses((status = 200, body = RunView)))]
async fn get(_: Authorized, shared: web::Data<Shared>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let record = shared.engine.run_record(id(&path)?)?;
    let view = RunView { spec: Some(record.spec.clone()), ..RunView::of(&shared.engine, &record) };
    Ok(HttpResponse::Ok().json(view))
}

/// Adds jobs to a run that is open for them
#[utoipa::path(post, path = "/v1/runs/{id}/jobs", tag = "runs", request_body(content = NewJobs,
    example = json!({"jobs": [{"name": "j1", "steps": [{"operation": {"execute": {"command": "make test"}}}]}]})),
    params(("id" = String, Path, description = "The run's id"),
        ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, description = "The same key never adds them twice, also across a restart, for 24 hours")),
    responses((status = 202, body = RunView),
        (status = 409, description = "The run takes no jobs", body = crate::service::http::Problem)))]
async fn add_jobs(
    Writer(caller): Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    path: web::Path<String>,
    body: Json<NewJobs>,
) -> Result<HttpResponse, Problem> {
    Params::of(&request)?.end()?;
    let claim = claim(&request, &caller.caller, &body.bytes)?;
    let record = shared.engine.add_jobs(id(&path)?, body.value.jobs, claim).await?;
    Ok(HttpResponse::Accepted().json(RunView::of(&shared.engine, &record)))
}

/// Says that no more jobs are added to a run
///
/// It ends with its last one.
#[utoipa::path(post, path = "/v1/runs/{id}/close", tag = "runs",
    params(("id" = String, Path, description = "The run's id")),
    responses((status = 202, body = RunView)))]
async fn close(_: Writer, shared: web::Data<Shared>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let record = shared.engine.close_run(id(&path)?).await?;
    Ok(HttpResponse::Accepted().json(RunView::of(&shared.engine, &record)))
}

/// Cancels a run
///
/// Nothing begins any more, what runs is stopped, `finally` steps are carried out. A second time, these are given up. A run that
/// has ended is left as it is.
#[utoipa::path(post, path = "/v1/runs/{id}/cancel", tag = "runs",
    params(("id" = String, Path, description = "The run's id")),
    responses((status = 202, body = RunView)))]
async fn cancel(_: Writer, shared: web::Data<Shared>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let record = shared.engine.cancel_run(id(&path)?).await?;
    Ok(HttpResponse::Accepted().json(RunView::of(&shared.engine, &record)))
}

/// Tells how the targets of a run ended
///
/// In the order of their ends, also while it goes on.
#[utoipa::path(get, path = "/v1/runs/{id}/report", tag = "runs", params(
    ("id" = String, Path, description = "The run's id"),
    ("cursor" = Option<u64>, Query, minimum = 0, description = "The `next_cursor` of the page before. Default: 0, the beginning"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "How many targets at most. Default: 100"),
    ("tail" = Option<u64>, Query, minimum = 0, maximum = 65536, description = "How many bytes of the end of each stream of a command. Default: 4096")),
    responses((status = 200, body = RunReportView)))]
async fn report(
    _: Authorized,
    request: HttpRequest,
    shared: web::Data<Shared>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let run = id(&path)?;
    let mut params = Params::of(&request)?;
    let from = params.number("cursor", 0..=u64::MAX, 0)?;
    let limit = params.number("limit", 1..=1000, 100)? as usize;
    let tail = params.number("tail", 0..=LONGEST_TAIL as u64, 4096)? as usize;
    params.end()?;
    let results = shared.engine.run_results(run, from, limit, tail).await?;
    let run = RunView::of(&shared.engine, &*shared.engine.run_record(run)?);
    Ok(HttpResponse::Ok().json(RunReportView { run, results }))
}

/// Follows a run as server-sent events
///
/// `event` has an event of the run, `end` has the run as it is told elsewhere. The id of an event is the position behind it: a
/// reader that comes back with `Last-Event-ID` misses nothing.
#[utoipa::path(get, path = "/v1/runs/{id}/events", tag = "runs", params(
    ("id" = String, Path, description = "The run's id"),
    ("from" = Option<u64>, Query, minimum = 0, description = "A position that was told. Default: 0, the beginning"),
    ("Last-Event-ID" = Option<u64>, Header, description = "The same, as browsers send it when they come back")),
    responses((status = 200, description = "The events", body = crate::service::schemas::EventSchema, content_type = "text/event-stream")))]
async fn events(
    request: HttpRequest,
    _: Authorized,
    shared: web::Data<Shared>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let run = id(&path)?;
    let log = shared.engine.run_log(run)?;
    follow_log(&request, log, move || {
        let record = shared.engine.run_record(run).ok()?;
        serde_json::to_vec(&RunView::of(&shared.engine, &record)).ok().map(Into::into)
    })
}
