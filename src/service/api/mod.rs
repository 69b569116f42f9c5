//! The routes below `/v1`, and their description.

mod commands;
mod events;
mod runs;
mod workspaces;

use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::OpenApi;

use super::http::{Problem, ProblemKind};

/// The description of the API.
#[derive(OpenApi)]
#[openapi(
    info(title = "workspace-fleet", description = "Drives many remote workspaces at once."),
    paths(
        workspaces::list,
        workspaces::add,
        workspaces::get,
        workspaces::remove,
        commands::start,
        commands::get,
        commands::stop,
        commands::events,
        events::follow,
        runs::start,
        runs::list,
        runs::get,
        runs::add_jobs,
        runs::close,
        runs::cancel,
        runs::report,
        runs::events,
    )
)]
struct Description;

/// Adds every route.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("/v1")
            .configure(workspaces::configure)
            .configure(commands::configure)
            .configure(events::configure)
            .configure(runs::configure)
            .default_service(web::to(unknown)),
    );
    config.route("/openapi.json", web::get().to(description));
    config.route("/health", web::get().to(health));
    config.default_service(web::to(unknown));
}

async fn unknown(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::new(ProblemKind::NotFound, format!("there is nothing at {}", request.path().escape_debug())))
}

async fn description() -> web::Json<utoipa::openapi::OpenApi> {
    web::Json(Description::openapi())
}

async fn health() -> &'static str {
    "OK"
}
