use std::sync::OnceLock;

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY},
    web::{self, Bytes},
};

use super::{Routes, description};
use crate::service::{
    http::{Authorized, Problem, ProblemKind},
    server::Shared,
};

pub(super) fn routes(routes: &mut Routes) {
    routes
        .add::<__path_health, _, _>(health)
        .add::<__path_ready, _, _>(ready)
        .add::<__path_metrics, _, _>(metrics)
        .add::<__path_openapi, _, _>(openapi)
        .add::<__path_docs, _, _>(docs)
        .add::<__path_docs_script, _, _>(docs_script)
        .add::<__path_docs_style, _, _>(docs_style);
}

/// Whether the process lives
#[utoipa::path(get, path = "/health", tag = "operations", security(()),
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")))]
pub(super) async fn health() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("OK")
}

/// Whether requests may be sent
///
/// Not while what was there before is being taken up again, not while nothing can be written to the store, and not once the
/// service was told to end.
#[utoipa::path(get, path = "/ready", tag = "operations", security(()),
    responses((status = 200, description = "They may", body = String, content_type = "text/plain")))]
async fn ready(shared: web::Data<Shared>) -> Result<HttpResponse, Problem> {
    if shared.draining.is_cancelled() {
        return Err(shared.ends());
    }
    if shared.engine.store.failing().is_some() {
        let detail = "nothing can be written to the store, as when the disk is full: the service's log says why";
        return Err(Problem::new(ProblemKind::Unavailable, detail));
    }
    let text = match shared.engine.left_aside() {
        0 => "ready".to_owned(),
        count => format!("ready, but for {count} of the stored workspaces, left aside: the service's log says why"),
    };
    Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text))
}

/// What is said before there is anything to be asked.
pub(super) async fn starting() -> Result<HttpResponse, Problem> {
    Err(Problem::new(ProblemKind::Unavailable, "the service is starting: come back in a moment"))
}

/// What is counted and measured, for Prometheus
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "In the OpenMetrics format", body = String, content_type = "application/openmetrics-text")))]
async fn metrics(_: Authorized, shared: web::Data<Shared>) -> HttpResponse {
    let status = shared.engine.fleet.status().await;
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(shared.metrics.text(&status))
}

/// This description
#[utoipa::path(get, path = "/openapi.json", tag = "operations", security(()),
    responses((status = 200, description = "In the form of OpenAPI 3.1", body = serde_json::Value)))]
async fn openapi() -> HttpResponse {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| description::json().into());
    HttpResponse::Ok().content_type("application/json").body(text.clone())
}

const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn page(kind: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(kind)
        .insert_header((CONTENT_SECURITY_POLICY, PAGE_POLICY))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(text)
}

/// A page to browse this description
#[utoipa::path(get, path = "/docs", tag = "operations", security(()),
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
async fn docs() -> HttpResponse {
    page("text/html; charset=utf-8", include_str!("docs/page.html"))
}

/// The script of the page
#[utoipa::path(get, path = "/docs/page.js", tag = "operations", security(()),
    responses((status = 200, description = "The script", body = String, content_type = "text/javascript")))]
async fn docs_script() -> HttpResponse {
    page("text/javascript; charset=utf-8", include_str!("docs/page.js"))
}

/// The style of the page
#[utoipa::path(get, path = "/docs/page.css", tag = "operations", security(()),
    responses((status = 200, description = "The style", body = String, content_type = "text/css")))]
async fn docs_style() -> HttpResponse {
    page("text/css; charset=utf-8", include_str!("docs/page.css"))
}
