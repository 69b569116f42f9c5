use std::time::Duration;

use actix_web::{HttpResponse, http::Method, web};
use serde::Serialize;
use serde_json::json;

use crate::protocol::{ATOMIC_UPLOAD_CAPABILITY, PUSH_CAPABILITY};

use super::{routes::on, state::AgentState};

/// The version whose API this is. Clients decide by it which routes exist.
const COMPATIBLE_VERSION: &str = "1.58.0";

type State = web::Data<AgentState>;

/// Adds the routes that need no key.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    on(config, "/", Method::GET, server_info);
    on(config, "/server_info", Method::GET, server_info);
    on(config, "/alive", Method::GET, alive);
    on(config, "/health", Method::GET, alive);
    on(config, "/ready", Method::GET, ready);
}

async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ok" }))
}

async fn ready() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "ready" }))
}

/// The answer of `/server_info`, with its fields in the order of the real server.
#[derive(Serialize)]
struct ServerInfo<'a> {
    uptime: f64,
    idle_time: f64,
    title: &'static str,
    version: &'static str,
    sdk_version: &'static str,
    tools_version: &'static str,
    workspace_version: &'static str,
    build_git_sha: String,
    build_git_ref: String,
    python_version: &'static str,
    usable_tools: [&'static str; 0],
    runtime_idle_timeout_seconds: Option<f64>,
    conversation_runtime: &'static str,
    available_conversation_runtimes: [&'static str; 0],
    capabilities: [&'static str; 3],
    app_backend_ingress_url: Option<String>,
    max_foreground_terminal_timeout_seconds: Option<f64>,
    docs: &'static str,
    redoc: &'static str,
    instance_id: &'a str,
}

async fn server_info(state: State) -> HttpResponse {
    let build = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".to_owned());
    // Whole seconds, written as a fraction.
    let seconds = |time: Duration| time.as_secs() as f64;
    let idle_timeout = state.runtime_idle_timeout.map(|time| time.as_secs_f64());
    HttpResponse::Ok().json(ServerInfo {
        uptime: seconds(state.uptime()),
        idle_time: seconds(state.idle_time()),
        title: "OpenHands Agent Server (workspace-fleet agent)",
        version: COMPATIBLE_VERSION,
        sdk_version: COMPATIBLE_VERSION,
        tools_version: COMPATIBLE_VERSION,
        workspace_version: COMPATIBLE_VERSION,
        build_git_sha: build("OPENHANDS_BUILD_GIT_SHA"),
        build_git_ref: build("OPENHANDS_BUILD_GIT_REF"),
        python_version: "none",
        usable_tools: [],
        runtime_idle_timeout_seconds: idle_timeout,
        conversation_runtime: "local",
        available_conversation_runtimes: [],
        capabilities: ["conversation_runtime_routes_v1", PUSH_CAPABILITY, ATOMIC_UPLOAD_CAPABILITY],
        app_backend_ingress_url: None,
        // The share of the idle timeout that the real server leaves to a foreground command.
        max_foreground_terminal_timeout_seconds: idle_timeout.map(|seconds| seconds * 0.9),
        docs: "/docs",
        redoc: "/redoc",
        instance_id: &state.instance_id,
    })
}
