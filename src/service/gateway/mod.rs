//! The agent-server API of each workspace, below `/workspaces/{name}`: an existing client works through the service
//! unchanged when that is its host.
//!
//! | file | what it is |
//! | --- | --- |
//! | `route` | which workspace a request is for, and what of it; nothing may leave a workspace's own paths |
//! | `access` | who asks, and whether that may be |
//! | `ways` | the clients of a worker, one for each way to a workspace that is in use |
//! | `headers` | what of a request goes on, and what of an answer comes back |
//! | `hide` | takes the runtime's head off the commands in an answer |
//! | `pass`, `pieces` | passes a request on, and its answer back; the body of a request as it comes, in time |
//! | `bash` | starts, executions and stops, which go through the runtime |
//! | `upload` | uploads, which go through the runtime as well |
//! | `socket`, `gate`, `relay`, `outbox` | the sockets; what is read of one before its key is known, and after |
//! | `known` | how a workspace does, for those without a key: what the service knows itself |
//! | `strangers` | those who have shown no key, of whom there are never many |
//! | `answer` | errors, as an agent server tells them |

mod access;
mod answer;
mod bash;
mod gate;
mod headers;
mod hide;
mod known;
mod outbox;
mod pass;
mod pieces;
mod relay;
mod route;
mod socket;
mod strangers;
mod upload;
mod ways;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header::UPGRADE},
    web,
};

use super::server::Shared;
use crate::Workspace;
use access::Asker;
use answer::Refusal;
use pieces::Pieces;
use route::Route;

/// Adds everything below `/workspaces`.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(web::resource("/workspaces/{rest:.*}").to(serve));
}

/// One request of a client, and the workspace that it is for.
struct Request {
    http: HttpRequest,
    shared: web::Data<Shared>,
    route: Route,
    workspace: Workspace,
}

async fn serve(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> HttpResponse {
    answered(http, payload, shared).await.unwrap_or_else(Refusal::into_response)
}

async fn answered(
    http: HttpRequest,
    payload: web::Payload,
    shared: web::Data<Shared>,
) -> Result<HttpResponse, Refusal> {
    let route = Route::of(http.uri())?;
    if is_upgrade(&http) {
        return socket::serve(http, payload, &shared, route).await;
    }
    if let Asker::Stranger = access::check(&http, &route)? {
        return known::health(&shared, &route).await;
    }
    let workspace = ways::workspace(&shared, &route.name).await?;
    let pieces = Pieces::new(shared.clone(), payload);
    let request = Request { http, shared, route, workspace };
    let is_post = request.http.method() == Method::POST;
    match request.route.bash() {
        Some("start_bash_command") if is_post => bash::start(&request, pieces).await,
        Some("execute_bash_command") if is_post => bash::execute(&request, pieces).await,
        Some(below) if is_post && bash::stopped(below).is_some() => bash::stop(&request, pieces).await,
        _ if is_post && request.route.is_upload() => upload::upload(&request, pieces).await,
        _ => pass::pass(&request, pass::Body::Streamed(pieces)).await,
    }
}

fn is_upgrade(http: &HttpRequest) -> bool {
    let upgrade = http.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    http.method() == Method::GET && upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}
