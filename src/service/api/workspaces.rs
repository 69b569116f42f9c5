use std::{collections::BTreeMap, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::Routes;
use crate::{
    ErrorKind, HealthState, OnRemove, Selector,
    service::{
        engine::{ConnectionChange, WorkspaceDetail, WorkspaceRequest, WorkspaceView},
        http::{Authorized, Json, Params, Problem, ProblemKind, Writer, read_strictly},
        schemas::{HealthStateSchema, ServerInfoSchema},
        server::Shared,
    },
};

pub(super) fn routes(routes: &mut Routes) {
    routes
        .add::<__path_list, _, _>(list)
        .add::<__path_add, _, _>(add)
        .add::<__path_get, _, _>(get)
        .add::<__path_update, _, _>(update)
        .add::<__path_remove, _, _>(remove)
        .add::<__path_reset, _, _>(reset)
        .add::<__path_wait_ready, _, _>(wait_ready)
        .add::<__path_server, _, _>(server);
}

/// A part of the list of workspaces.
#[derive(Serialize, ToSchema)]
struct WorkspaceList {
    /// The workspaces, by name.
    workspaces: Vec<WorkspaceView>,
    /// Where the list goes on; null at its end.
    next_cursor: Option<String>,
    /// How many there are on all pages.
    total: usize,
}

/// Lists workspaces
///
/// Those that satisfy everything that is asked for, in the order of their names.
#[utoipa::path(get, path = "/v1/workspaces", tag = "workspaces", params(
    ("selector" = Option<String>, Query, description = "A selector as JSON, such as `{\"names\":[\"w1\"]}`"),
    ("name" = Option<String>, Query, description = "Patterns of names with commas between them, such as `node[1-20],web-*`"),
    ("label" = Option<Vec<String>>, Query, description = "A label as `name=value`; given more than once, all must hold"),
    ("health" = Option<HealthStateSchema>, Query, description = "How the server does"),
    ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 10_000, description = "How many at most. Default: 1000")),
    responses((status = 200, body = WorkspaceList)))]
async fn list(_: Authorized, request: HttpRequest, shared: web::Data<Shared>) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let selector = selector(&mut params)?;
    let health = params.text("health")?.map(|text| health(&text)).transpose()?;
    let cursor = params.text("cursor")?;
    let limit = params.number("limit", 1..=10_000, 1000)? as usize;
    params.end()?;
    let mut workspaces = shared.engine.workspaces(selector).await;
    workspaces.retain(|view| health.is_none_or(|health| view.health == health));
    let total = workspaces.len();
    workspaces.retain(|view| cursor.as_ref().is_none_or(|cursor| view.name > *cursor));
    workspaces.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let more = workspaces.len() > limit;
    workspaces.truncate(limit);
    let next_cursor = workspaces.last().filter(|_| more).map(|view| view.name.clone());
    Ok(HttpResponse::Ok().json(WorkspaceList { workspaces, next_cursor, total }))
}

/// The selector that the parameters make together.
fn selector(params: &mut Params) -> Result<Selector, Problem> {
    let selector = match (params.text("selector")?, params.text("name")?) {
        (None, None) => Selector::all(),
        (Some(text), None) => read_strictly(&mut serde_json::Deserializer::from_str(&text))
            .map_err(|problem| Problem::invalid(format!("`selector` is no selector: {problem}")))?,
        (None, Some(patterns)) => {
            Selector::matching(&patterns).map_err(|error| Problem::invalid(format!("`name` is no pattern: {error}")))?
        }
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("give `selector` or `name`, not both: a selector has `patterns` for names"));
        }
    };
    let mut labels = BTreeMap::new();
    for label in params.all("label") {
        let Some((name, value)) = label.split_once('=') else {
            return Err(Problem::invalid("a `label` is written as name=value"));
        };
        if let Some(other) = labels.insert(name.to_owned(), value.to_owned())
            && other != value
        {
            return Err(Problem::invalid(format!("the label `{}` cannot have two values", name.escape_debug())));
        }
    }
    Ok(labels.into_iter().fold(selector, |selector, (name, value)| selector.and_label(name, value)))
}

fn health(text: &str) -> Result<HealthState, Problem> {
    HealthState::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| {
        let known = HealthState::ALL.map(HealthState::name).join(", ");
        Problem::invalid(format!("`health` is one of {known}"))
    })
}

/// Adds a workspace
///
/// It is written down before it is acknowledged, its secrets encrypted. Nothing is sent to its server before something is asked
/// of it.
#[utoipa::path(post, path = "/v1/workspaces", tag = "workspaces", request_body(content = WorkspaceRequest,
    example = json!({"name": "w1", "host": "http://10.0.0.1:8000", "api_key": "secret", "labels": {"tier": "gpu"}})),
    responses((status = 201, body = WorkspaceDetail, headers(("Location" = String, description = "Its path"))),
        (status = 409, description = "There is one of this name already", body = crate::service::http::Problem)))]
async fn add(_: Writer, shared: web::Data<Shared>, body: Json<WorkspaceRequest>) -> Result<HttpResponse, Problem> {
    let name = body.value.name.clone();
    shared.engine.add_workspace(body.value).await?;
    let location =
        format!("/v1/workspaces/{}", percent_encoding::utf8_percent_encode(&name, percent_encoding::NON_ALPHANUMERIC));
    let detail = shared.engine.workspace_detail(&name).await?;
    Ok(HttpResponse::Created().insert_header(("location", location)).json(detail))
}

/// Tells everything of a workspace but its secrets
#[utoipa::path(get, path = "/v1/workspaces/{name}", tag = "workspaces",
    params(("name" = String, Path, description = "The workspace's name")),
    responses((status = 200, body = WorkspaceDetail)))]
async fn get(_: Authorized, shared: web::Data<Shared>, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(shared.engine.workspace_detail(&name).await?))
}

/// Changes how a workspace is reached
///
/// What is left out stays as it is. Commands that run are followed under the new address.
#[utoipa::path(patch, path = "/v1/workspaces/{name}", tag = "workspaces", request_body = ConnectionChange,
    params(("name" = String, Path, description = "The workspace's name")),
    responses((status = 200, body = WorkspaceDetail),
        (status = 409, description = "The service was started with it", body = crate::service::http::Problem)))]
async fn update(
    _: Writer,
    shared: web::Data<Shared>,
    name: web::Path<String>,
    body: Json<ConnectionChange>,
) -> Result<HttpResponse, Problem> {
    shared.engine.update_workspace(&name, body.value).await?;
    Ok(HttpResponse::Ok().json(shared.engine.workspace_detail(&name).await?))
}

/// Removes a workspace
///
/// Its commands are stopped, or run on unwatched. Returns when that is done.
#[utoipa::path(delete, path = "/v1/workspaces/{name}", tag = "workspaces",
    params(("name" = String, Path, description = "The workspace's name"),
        ("on_remove" = Option<String>, Query, description = "`stop` or `detach`. Default: `stop`")),
    responses((status = 204, description = "It is gone")))]
async fn remove(
    _: Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let on_remove = match params.text("on_remove")?.as_deref() {
        None | Some("stop") => OnRemove::Stop,
        Some("detach") => OnRemove::Detach,
        Some(_) => return Err(Problem::invalid("`on_remove` is `stop` or `detach`")),
    };
    params.end()?;
    shared.engine.remove_workspace(&name, on_remove).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Drops the connections to a workspace
///
/// The next request makes new ones. Commands run on.
#[utoipa::path(post, path = "/v1/workspaces/{name}/reset", tag = "workspaces",
    params(("name" = String, Path, description = "The workspace's name")),
    responses((status = 204, description = "They are dropped")))]
async fn reset(_: Writer, shared: web::Data<Shared>, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    shared.engine.workspace(&name).await?.reset_client().await;
    Ok(HttpResponse::NoContent().finish())
}

/// Waits until the server of a workspace is ready to work
#[utoipa::path(post, path = "/v1/workspaces/{name}/wait-ready", tag = "workspaces",
    params(("name" = String, Path, description = "The workspace's name"),
        ("timeout_ms" = Option<u64>, Query, minimum = 0, maximum = 600_000, description = "How long at most. Default: 30,000")),
    responses((status = 200, body = WorkspaceDetail)))]
async fn wait_ready(
    _: Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let timeout: Duration = params.millis("timeout_ms", 0..=600_000, 30_000)?;
    params.end()?;
    let workspace = shared.engine.workspace(&name).await?;
    tokio::select! {
        ready = workspace.wait_ready(timeout) => match ready {
            Ok(()) => {}
            // It is the caller's bound that was met.
            Err(error) if matches!(error.kind, ErrorKind::Deadline { .. }) => {
                return Err(Problem::new(ProblemKind::Conflict, error.to_string()));
            }
            Err(error) => return Err(error.into()),
        },
        () = shared.closing.cancelled() => return Err(shared.ends()),
    }
    Ok(HttpResponse::Ok().json(shared.engine.workspace_detail(&name).await?))
}

/// Asks the server of a workspace what it is
#[utoipa::path(get, path = "/v1/workspaces/{name}/server", tag = "workspaces",
    params(("name" = String, Path, description = "The workspace's name")),
    responses((status = 200, body = ServerInfoSchema)))]
async fn server(_: Authorized, shared: web::Data<Shared>, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let workspace = shared.engine.workspace(&name).await?;
    Ok(HttpResponse::Ok().json(workspace.get_server_info().await?))
}
