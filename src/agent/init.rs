//! A start in two steps: the agent comes up dormant, and is told its keys and its environment when it is needed.

use std::{cell::Cell, ffi::OsString};

use actix_http::ConnectionType;
use actix_web::{HttpRequest, HttpResponse, guard, http::StatusCode, web};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    http::{ApiError, ApiResult, Fault, read_json},
    keys::same_bytes,
    state::AgentState,
};

type State = web::Data<AgentState>;

const INIT_KEY_HEADER: &str = "X-Init-API-Key";

/// Whether the agent waits for its configuration, and the key that must come with it.
pub(crate) struct DeferredInit {
    key: Option<SecretString>,
    dormant: Cell<bool>,
}

impl DeferredInit {
    /// Dormant where there is a key, and never otherwise.
    pub(crate) fn new(key: Option<SecretString>) -> Self {
        Self { dormant: Cell::new(key.is_some()), key }
    }

    fn accepts(&self, presented: Option<&[u8]>) -> bool {
        match (&self.key, presented) {
            (Some(key), Some(presented)) => same_bytes(key.expose_secret().as_bytes(), presented),
            _ => false,
        }
    }
}

/// Adds the routes that are there while the agent is dormant. They come before all others but those that need no key.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(
        web::resource("/api/init")
            .route(web::get().to(status))
            .route(web::post().to(init))
            .default_service(web::to(|| super::routes::method_not_allowed(actix_web::http::Method::GET))),
    );
    for path in ["/api", "/sockets"] {
        config.service(web::scope(path).guard(guard::fn_guard(is_dormant)).default_service(web::to(refuse)));
    }
}

fn is_dormant(context: &guard::GuardContext<'_>) -> bool {
    context.app_data::<State>().is_some_and(|state| state.init.dormant.get())
}

async fn refuse() -> ApiError {
    let reason = "server is in deferred-init state 'dormant'; call POST /api/init first";
    ApiError::server(StatusCode::SERVICE_UNAVAILABLE, reason)
}

async fn status(state: State) -> ApiResult<HttpResponse> {
    if state.init.key.is_none() {
        let detail = "server is not running with deferred_init=True; the /api/init endpoint is not available";
        return Err(ApiError::detail(StatusCode::NOT_FOUND, detail));
    }
    let now = if state.init.dormant.get() { "dormant" } else { "ready" };
    Ok(HttpResponse::Ok().json(json!({ "state": now, "error": null })))
}

/// Of what the real server takes, this is what there is here. The rest is accepted and means nothing.
#[derive(Deserialize)]
struct Configuration {
    session_api_keys: Option<Vec<String>>,
    env: Option<std::collections::BTreeMap<String, String>>,
}

async fn init(request: HttpRequest, payload: web::Payload, state: State) -> ApiResult<HttpResponse> {
    if !state.init.accepts(request.headers().get(INIT_KEY_HEADER).map(|value| value.as_bytes())) {
        // Refused without reading what was sent: anyone may ask, and nothing that is sent could change the answer.
        let mut response = ApiError::unauthorized().into_response();
        response.head_mut().set_connection_type(ConnectionType::Close);
        return Ok(response);
    }
    let body = read_json(&request, payload, &state).await?.required()?;
    let invalid = |error: serde_json::Error, body: Value| {
        ApiError::invalid(vec![Fault::new("value_error", error.to_string()).entry(&["body"], body)])
    };
    let asked = Configuration::deserialize(&body).map_err(|error| invalid(error, Value::Null))?;
    if !state.init.dormant.get() {
        return Err(ApiError::bad_request("server already in state: ready"));
    }
    let variables = asked.env.unwrap_or_default();
    if let Some((name, _)) = variables.iter().find(|(name, value)| !can_be_variable(name, value)) {
        let detail = format!(
            "env cannot contain {name:?}: a name is not empty and has no `=`, and neither it nor its value has a null byte"
        );
        return Err(ApiError::detail(StatusCode::UNPROCESSABLE_ENTITY, detail));
    }
    if let Some(keys) = asked.session_api_keys {
        if keys.iter().any(String::is_empty) {
            let detail = "session_api_keys cannot contain empty keys";
            return Err(ApiError::detail(StatusCode::UNPROCESSABLE_ENTITY, detail));
        }
        state.keys.replace(keys.into_iter().map(SecretString::from).collect());
    }
    state.environment.add(variables.into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    state.init.dormant.set(false);
    Ok(HttpResponse::Ok().json(json!({ "state": "ready", "error": null })))
}

/// Whether the system takes this as a variable of a process.
fn can_be_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}
