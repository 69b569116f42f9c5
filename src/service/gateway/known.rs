use std::time::Duration;

use actix_web::{HttpResponse, http::StatusCode};
use serde_json::json;

use super::{
    answer::Refusal,
    route::Route,
    strangers::{Does, Stranger},
    ways,
};
use crate::{HealthState, service::server::Shared};

/// How long a workspace of which nothing is known yet is waited for. The Python client waits for 5 s.
const PATIENCE: Duration = Duration::from_secs(4);

/// Tells somebody without a key how a workspace does, as far as the service knows: nothing is passed on. One that is away is
/// told of in the same words as one that does not exist.
pub(super) async fn health(shared: &Shared, route: &Route) -> Result<HttpResponse, Refusal> {
    let _stranger = Stranger::enter(Does::AsksForHealth)?;
    let asks_whether_ready = route.path == "/ready";
    if is_well(shared, &route.name).await {
        let status = if asks_whether_ready { "ready" } else { "ok" };
        return Ok(HttpResponse::Ok().json(json!({ "status": status })));
    }
    let detail = "the service knows no such workspace that answers: with a key it asks its server";
    if asks_whether_ready {
        return Ok(HttpResponse::ServiceUnavailable().json(json!({ "status": "initializing", "message": detail })));
    }
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail))
}

async fn is_well(shared: &Shared, name: &str) -> bool {
    let Ok(workspace) = ways::workspace(shared, name).await else { return false };
    match workspace.health().await.map(|health| health.state) {
        Some(HealthState::Ready) => true,
        // The runtime asks it once, and knows then.
        Some(HealthState::Connecting | HealthState::Degraded) => {
            tokio::time::timeout(PATIENCE, workspace.alive()).await.is_ok_and(|alive| alive.is_ok())
        }
        _ => false,
    }
}
