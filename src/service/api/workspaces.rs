use actix_web::{HttpResponse, web};
use serde_json::json;

use crate::{
    Selector,
    service::{
        engine::{WorkspaceRequest, WorkspaceView},
        http::{Authorized, Problem, Writer},
        server::Shared,
    },
};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(web::resource("/workspaces").route(web::get().to(list)).route(web::post().to(add)));
    config.service(web::resource("/workspaces/{name}").route(web::get().to(get)).route(web::delete().to(remove)));
}

/// Lists workspaces.
#[utoipa::path(get, path = "/v1/workspaces", responses((status = 200, body = [WorkspaceView])))]
async fn list(_: Authorized, shared: web::Data<Shared>) -> HttpResponse {
    let workspaces = shared.engine.workspaces(Selector::all()).await;
    HttpResponse::Ok().json(json!({ "workspaces": workspaces }))
}

/// Adds a workspace.
#[utoipa::path(post, path = "/v1/workspaces", request_body = WorkspaceRequest, responses((status = 201, body = WorkspaceView)))]
async fn add(_: Writer, shared: web::Data<Shared>, body: web::Json<WorkspaceRequest>) -> Result<HttpResponse, Problem> {
    let name = body.name.clone();
    shared.engine.add_workspace(body.into_inner()).await?;
    Ok(HttpResponse::Created().json(shared.engine.workspaces(Selector::names([name])).await))
}

/// Tells how a workspace does.
#[utoipa::path(get, path = "/v1/workspaces/{name}", responses((status = 200, body = WorkspaceView)))]
async fn get(_: Authorized, shared: web::Data<Shared>, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(shared.engine.snapshot(&name).await?))
}

/// Removes a workspace and stops its commands.
#[utoipa::path(delete, path = "/v1/workspaces/{name}", responses((status = 204)))]
async fn remove(_: Writer, shared: web::Data<Shared>, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    shared.engine.remove_workspace(&name).await?;
    Ok(HttpResponse::NoContent().finish())
}
