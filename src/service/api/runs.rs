use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{Routes, commands::claim, id};
use crate::{
    RunSpec,
    fleet::RunSummary,
    protocol::EventId,
    service::{
        engine::{Engine, RunCounts, RunRequest, RunResults, run_location},
        http::{Authorized, Json, Problem, Writer, follow_log},
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

/// How many runs or results are in one answer unless something else is asked for, and at most.
const FEW: usize = 100;
const MOST: usize = 1000;

/// How much of the end of each stream of a command is in a report unless something else is asked for.
const TAIL: usize = 4096;

/// A run that is to be started.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewRun {
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
pub(super) struct NewJobs {
    /// The jobs, each with a name that is unique within the run.
    #[schema(value_type = Vec<Object>, min_items = 1, max_items = 10_000)]
    jobs: Vec<Value>,
}

/// A run.
#[derive(Serialize, ToSchema)]
pub(super) struct RunView {
    /// Its id.
    #[schema(value_type = String)]
    id: EventId,
    /// How far it is: `running` or `finished`.
    #[schema(value_type = String)]
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
}

/// A part of the list of runs.
#[derive(Serialize, ToSchema)]
pub(super) struct RunList {
    /// The runs, the newest first.
    runs: Vec<RunView>,
    /// Where the list goes on; null at its end.
    #[schema(value_type = Option<String>)]
    next: Option<EventId>,
}

/// Which runs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Those that are `running`, or `finished`.
    #[param(value_type = Option<String>)]
    state: Option<RunState>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<EventId>,
    /// How many, at most 1000. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Which part of a report.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReportQuery {
    /// The `next` of the page before. Default: 0, its beginning.
    #[serde(default)]
    cursor: u64,
    /// How many targets, at most 1000. Default: 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// How many bytes of the end of each stream of a command, at most 65536. Default: 4096.
    #[param(maximum = 65536)]
    tail: Option<usize>,
}

/// A report: how a run ended, or how far it is, and how its targets ended.
#[derive(Serialize, ToSchema)]
pub(super) struct RunReportView {
    /// The run.
    run: RunView,
    #[serde(flatten)]
    results: RunResults,
}

/// Starts a run.
#[utoipa::path(post, path = "/v1/runs", tag = "runs", request_body = NewRun,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key never starts it twice.")),
    responses((status = 201, body = RunView)))]
async fn start(
    writer: Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    body: Json<NewRun>,
) -> Result<HttpResponse, Problem> {
    let claim = claim(&request, &writer.0.caller, &body.bytes)?;
    let NewRun { secret_env, open, spec } = body.value;
    let started = shared.engine.start_run(RunRequest { spec, secret_env, open }, claim).await?;
    let record = shared.engine.run_record(started.id)?;
    let location = ("location", run_location(started.id));
    Ok(HttpResponse::Created().insert_header(location).json(RunView::of(&shared.engine, &record)))
}

/// Lists runs, the newest first.
#[utoipa::path(get, path = "/v1/runs", tag = "runs", params(ListQuery), responses((status = 200, body = RunList)))]
async fn list(_: Authorized, shared: web::Data<Shared>, query: web::Query<ListQuery>) -> Result<HttpResponse, Problem> {
    let most = query.limit.unwrap_or(FEW).clamp(1, MOST);
    let page = shared.engine.list_runs(query.state, query.cursor, most).await?;
    let runs = page.items.iter().map(|record| RunView::of(&shared.engine, record)).collect();
    Ok(HttpResponse::Ok().json(RunList { runs, next: page.next }))
}

/// Tells how a run does.
#[utoipa::path(get, path = "/v1/runs/{id}", tag = "runs", params(("id" = String, Path, description = "The run's id")), responses((status = 200, body = RunView)))]
async fn get(_: Authorized, shared: web::Data<Shared>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let record = shared.engine.run_record(id(&path)?)?;
    let view = RunView { spec: Some(record.spec.clone()), ..RunView::of(&shared.engine, &record) };
    Ok(HttpResponse::Ok().json(view))
}

/// Adds jobs to a run that is open for them.
#[utoipa::path(post, path = "/v1/runs/{id}/jobs", tag = "runs", request_body = NewJobs,
    params(("id" = String, Path, description = "The run's id"), ("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, description = "The same key never adds them twice")),
    responses((status = 202, body = RunView)))]
async fn add_jobs(
    writer: Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    path: web::Path<String>,
    body: Json<NewJobs>,
) -> Result<HttpResponse, Problem> {
    let claim = claim(&request, &writer.0.caller, &body.bytes)?;
    let NewJobs { jobs } = body.value;
    let record = shared.engine.add_jobs(id(&path)?, jobs, claim).await?;
    Ok(HttpResponse::Accepted().json(RunView::of(&shared.engine, &record)))
}

/// Says that no more jobs are added to a run: it ends with the last one.
#[utoipa::path(post, path = "/v1/runs/{id}/close", tag = "runs", params(("id" = String, Path, description = "The run's id")), responses((status = 202, body = RunView)))]
async fn close(_: Writer, shared: web::Data<Shared>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let record = shared.engine.close_run(id(&path)?).await?;
    Ok(HttpResponse::Accepted().json(RunView::of(&shared.engine, &record)))
}

/// Cancels a run: nothing begins any more, what runs is stopped, `finally` steps are carried out. A second time, these are given
/// up.
#[utoipa::path(post, path = "/v1/runs/{id}/cancel", tag = "runs", params(("id" = String, Path, description = "The run's id")), responses((status = 202, body = RunView)))]
async fn cancel(_: Writer, shared: web::Data<Shared>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let record = shared.engine.cancel_run(id(&path)?).await?;
    Ok(HttpResponse::Accepted().json(RunView::of(&shared.engine, &record)))
}

/// Tells how the targets of a run ended, in the order of their ends.
#[utoipa::path(get, path = "/v1/runs/{id}/report", tag = "runs", params(("id" = String, Path, description = "The run's id"), ReportQuery),
    responses((status = 200, body = RunReportView)))]
async fn report(
    _: Authorized,
    shared: web::Data<Shared>,
    path: web::Path<String>,
    query: web::Query<ReportQuery>,
) -> Result<HttpResponse, Problem> {
    let run = id(&path)?;
    let (most, tail) = (query.limit.unwrap_or(FEW).clamp(1, MOST), query.tail.unwrap_or(TAIL));
    let results = shared.engine.run_results(run, query.cursor, most, tail).await?;
    let view = RunView::of(&shared.engine, &*shared.engine.run_record(run)?);
    Ok(HttpResponse::Ok().json(RunReportView { run: view, results }))
}

/// Follows a run: its events as server-sent events, from its first one or from the last one that was seen.
#[utoipa::path(get, path = "/v1/runs/{id}/events", tag = "runs", params(("id" = String, Path, description = "The run's id")), responses((status = 200, description = "The events", body = String, content_type = "text/event-stream")))]
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
