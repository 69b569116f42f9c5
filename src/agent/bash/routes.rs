use actix_web::{HttpRequest, HttpResponse, http::Method, web};
use serde_json::{Value, json};

use super::{
    event::{CommandRecord, started_json},
    reply, request,
    search::Search,
    service::Refused,
};
use crate::{
    agent::{
        http::{ApiError, ApiResult, Checks, QueryParams, read_json, uuid},
        keys::Authorized,
        routes::on,
        state::AgentState,
    },
    protocol::{EventId, IDEMPOTENCY_KEY_HEADER, StartBashCommand, Success},
};

type State = web::Data<AgentState>;

/// Adds the routes below `/bash`.
pub(in crate::agent) fn configure(config: &mut web::ServiceConfig) {
    on(config, "/bash/start_bash_command", Method::POST, start);
    on(config, "/bash/execute_bash_command", Method::POST, execute);
    on(config, "/bash/bash_events/search", Method::GET, search);
    on(config, "/bash/bash_events/", Method::GET, batch);
    on(config, "/bash/bash_events", Method::DELETE, clear);
    on(config, "/bash/bash_events/{event_id}", Method::GET, event);
    on(config, "/bash/bash_commands/{command_id}/stop", Method::POST, stop);
}

/// Reads a start in the order in which the real server finds fault: syntax, key, fields.
async fn read_start(
    request: &HttpRequest,
    payload: web::Payload,
    state: &AgentState,
) -> ApiResult<(StartBashCommand, Option<EventId>)> {
    let body = read_json(request, payload, state).await?;
    Authorized::check(request)?;
    let start = request::from_body(&body.required()?)?;
    let name =
        request.headers().get(IDEMPOTENCY_KEY_HEADER).map(|value| idempotency_key(value.as_bytes())).transpose()?;
    Ok((start, name))
}

fn idempotency_key(value: &[u8]) -> ApiResult<EventId> {
    let key = std::str::from_utf8(value).ok().filter(|text| text.len() == 32).and_then(|text| text.parse().ok());
    key.ok_or_else(|| ApiError::bad_request("Idempotency-Key must be 32 hex digits"))
}

fn refused(reason: Refused) -> ApiError {
    match reason {
        Refused::TooMany(most) => ApiError::busy(format_args!("{most} commands are running, which is the limit")),
        Refused::Closed => ApiError::busy("the agent is stopping"),
    }
}

fn begin(state: &AgentState, start: (StartBashCommand, Option<EventId>)) -> ApiResult<std::rc::Rc<CommandRecord>> {
    state.touch();
    state.bash.start(start.0, start.1).map_err(refused)
}

async fn start(request: HttpRequest, payload: web::Payload, state: State) -> ApiResult<HttpResponse> {
    let start = read_start(&request, payload, &state).await?;
    Ok(reply::json(started_json(&*begin(&state, start)?, &state.instance_id)))
}

async fn execute(request: HttpRequest, payload: web::Payload, state: State) -> ApiResult<HttpResponse> {
    let start = read_start(&request, payload, &state).await?;
    let command = begin(&state, start)?;
    match state.bash.finished(command.id).await {
        Some(finished) => reply::joined(finished).await,
        None => Err(ApiError::internal("the command's events were cleared before it ended")),
    }
}

async fn search(_: Authorized, request: HttpRequest, state: State) -> ApiResult<HttpResponse> {
    let search = Search::of(&QueryParams::of(&request))?;
    Ok(reply::page(state.bash.search(&search)).await)
}

/// The id of an event, in the one form in which the real server finds it.
fn event_id(text: &str) -> Option<EventId> {
    let exact = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    text.parse().ok().filter(|_| exact)
}

async fn event(_: Authorized, request: HttpRequest, state: State) -> ApiResult<HttpResponse> {
    let found = event_id(request.match_info().query("event_id")).and_then(|id| state.bash.event(id));
    reply::event(&found.ok_or_else(ApiError::not_found)?).await
}

async fn batch(request: HttpRequest, payload: web::Payload, state: State) -> ApiResult<HttpResponse> {
    let body = read_json(&request, payload, &state).await?;
    Authorized::check(&request)?;
    let Value::Array(ids) = body.required()? else {
        let fault = crate::agent::http::Fault::new("list_type", "Input should be a valid list");
        return Err(ApiError::invalid(vec![fault.entry(&["body"], Value::Null)]));
    };
    let events = ids.iter().map(|id| state.bash.event(event_id(id.as_str()?)?)).collect();
    Ok(reply::batch(events).await)
}

async fn clear(_: Authorized, state: State) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "cleared_count": state.bash.clear() }))
}

async fn stop(_: Authorized, request: HttpRequest, state: State) -> ApiResult<HttpResponse> {
    let text = request.match_info().query("command_id");
    let mut checks = Checks::default();
    let id = uuid(text).map_err(|fault| checks.push(fault, &["path", "command_id"], json!(text))).ok();
    let Some(id) = checks.finish(id)? else { return Err(ApiError::not_found()) };
    state.touch();
    if state.bash.stop(id).await {
        Ok(HttpResponse::Ok().json(Success { success: true }))
    } else {
        Err(ApiError::not_found())
    }
}
