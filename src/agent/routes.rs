use actix_web::{
    Handler, HttpRequest, HttpResponse, Responder, guard,
    http::{Method, StatusCode},
    web,
};
use serde_json::json;

use super::{
    bash, file, git,
    http::{ApiError, uuid},
    info, init,
    keys::Authorized,
};

/// Adds every route of the agent.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    info::configure(config);
    init::configure(config);
    config.service(
        web::resource("/sockets/bash-events")
            .route(web::get().to(bash::events_socket))
            .default_service(web::to(async || ApiError::not_found())),
    );
    // The same for any conversation: there is one workspace.
    config.service(
        web::scope("/api/conversations/{runtime_conversation_id}")
            .guard(guard::fn_guard(names_a_conversation))
            .configure(bash::configure)
            .configure(file::configure)
            .configure(git::configure)
            .default_service(web::to(unknown)),
    );
    config.service(web::resource("/api/conversations/{runtime_conversation_id}/{rest:.+}").to(no_conversation));
    config.service(
        web::scope("/api")
            .configure(bash::configure)
            .configure(file::configure)
            .configure(file::configure_discovery)
            .configure(git::configure)
            .configure(git::configure_providers)
            .default_service(web::to(unknown)),
    );
    config.default_service(web::to(unknown));
}

fn names_a_conversation(context: &guard::GuardContext<'_>) -> bool {
    let path = context.head().uri.path();
    path.strip_prefix("/api/conversations/").and_then(|rest| rest.split('/').next()).is_some_and(|id| uuid(id).is_ok())
}

/// Refuses a conversation whose id is none.
async fn no_conversation(_: Authorized, request: HttpRequest) -> ApiError {
    let text = request.match_info().query("runtime_conversation_id");
    match uuid(text) {
        Err(fault) => ApiError::invalid(vec![fault.entry(&["path", "runtime_conversation_id"], json!(text))]),
        Ok(_) => ApiError::not_found(),
    }
}

/// Adds one route that knows one method.
pub(super) fn on<F, Args>(config: &mut web::ServiceConfig, path: &str, method: Method, handler: F)
where
    F: Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let allowed = method.clone();
    let refuse = move || method_not_allowed(allowed.clone());
    config.service(web::resource(path).route(web::method(method).to(handler)).default_service(web::to(refuse)));
}

/// The answer to a method other than the one that a route knows.
pub(super) async fn method_not_allowed(allowed: Method) -> HttpResponse {
    HttpResponse::MethodNotAllowed()
        .insert_header(("allow", allowed.as_str()))
        .json(json!({ "detail": "Method Not Allowed" }))
}

/// The answer to a path that no route has: a redirect where only a final slash is too many.
async fn unknown(request: HttpRequest) -> HttpResponse {
    let path = request.path();
    let shorter = path.strip_suffix('/').filter(|shorter| !shorter.is_empty());
    match shorter.filter(|shorter| request.resource_map().has_resource(shorter)) {
        Some(shorter) => {
            let connection = request.connection_info();
            let query = Some(request.query_string()).filter(|query| !query.is_empty());
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let location = format!("{}://{}{shorter}{query}", connection.scheme(), connection.host());
            HttpResponse::build(StatusCode::TEMPORARY_REDIRECT).insert_header(("location", location)).finish()
        }
        None => ApiError::not_found().into_response(),
    }
}
