//! The routes below `/v1`, those of operations, and their description.
//!
//! Each module has a `routes` that adds its handlers to [`Routes`], from which both what is served and the description are made.

mod commands;
mod description;
mod events;
mod files;
mod git;
mod leases;
mod meta;
mod runs;
mod workspaces;

use actix_web::{HttpRequest, HttpResponse, web};

use super::http::{Problem, Routes};
use crate::protocol::EventId;

/// Every route.
fn routes() -> Routes {
    let mut routes = Routes::default();
    workspaces::routes(&mut routes);
    commands::routes(&mut routes);
    events::routes(&mut routes);
    runs::routes(&mut routes);
    files::routes(&mut routes);
    git::routes(&mut routes);
    leases::routes(&mut routes);
    meta::routes(&mut routes);
    routes
}

/// Serves every route.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    routes().serve(config);
    config.default_service(web::to(unknown));
}

async fn unknown(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::nothing_at(request.path()))
}

/// What is said while the store is opened and what was there before is taken up again.
pub(super) fn configure_starting(config: &mut web::ServiceConfig) {
    config.route("/health", web::get().to(meta::health));
    config.default_service(web::to(meta::starting));
}

/// An id of a path.
fn id(text: &str) -> Result<EventId, Problem> {
    text.parse().map_err(|error: crate::protocol::InvalidEventId| Problem::invalid(error.to_string()))
}

/// How many characters of a text are told in a list.
const LIST_TEXT: usize = 300;

/// Leaves the beginning of a long text.
fn shorten(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(LIST_TEXT) {
        text.truncate(end);
    }
}
