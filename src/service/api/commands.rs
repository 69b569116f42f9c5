use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    messages::ExecuteCommand,
    protocol::EventId,
    service::{
        engine::StartRequest,
        http::{Authorized, Problem, ProblemKind, Writer, follow_log},
        server::Shared,
        store::CommandState,
    },
};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(web::resource("/workspaces/{name}/commands").route(web::post().to(start)));
    config.service(web::resource("/commands/{id}").route(web::get().to(get)));
    config.service(web::resource("/commands/{id}/stop").route(web::post().to(stop)));
    config.service(web::resource("/commands/{id}/events").route(web::get().to(events)));
}

/// How long an answer waits for a command's start; it tells then that it is starting.
const START: Duration = Duration::from_secs(30);

/// A command that is to be started.
#[derive(Deserialize, ToSchema)]
pub(super) struct CommandRequest {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    command: ExecuteCommand,
}

/// Starts a command.
#[utoipa::path(post, path = "/v1/workspaces/{name}/commands", request_body = CommandRequest, responses((status = 201)))]
async fn start(
    _: Writer,
    shared: web::Data<Shared>,
    name: web::Path<String>,
    body: web::Json<CommandRequest>,
) -> Result<HttpResponse, Problem> {
    let request = StartRequest { workspace: name.into_inner(), command: body.into_inner().command };
    let started = shared.engine.start_command(request, None).await?;
    let record = shared.engine.reached(started.id, CommandState::Running, START).await?;
    Ok(HttpResponse::Created().insert_header(("location", format!("/v1/commands/{}", record.id))).json(&*record))
}

/// Tells how a command does.
#[utoipa::path(get, path = "/v1/commands/{id}", responses((status = 200)))]
async fn get(_: Authorized, shared: web::Data<Shared>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(&*shared.engine.command(read(&id)?)?))
}

/// Stops a command.
#[utoipa::path(post, path = "/v1/commands/{id}/stop", responses((status = 202)))]
async fn stop(_: Writer, shared: web::Data<Shared>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Accepted().json(&*shared.engine.stop_command(read(&id)?).await?))
}

/// Follows a command.
#[utoipa::path(get, path = "/v1/commands/{id}/events", responses((status = 200)))]
async fn events(
    request: HttpRequest,
    _: Authorized,
    shared: web::Data<Shared>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let id = read(&id)?;
    let log = shared.engine.output(id)?;
    follow_log(&request, log, move || {
        let record = shared.engine.command(id).ok()?;
        serde_json::to_vec(&*record).ok().map(Into::into)
    })
}

fn read(id: &str) -> Result<EventId, Problem> {
    id.parse()
        .map_err(|error: crate::protocol::InvalidEventId| Problem::new(ProblemKind::InvalidRequest, error.to_string()))
}
