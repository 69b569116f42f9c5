use std::{net::IpAddr, time::Instant};

use actix_web::{
    Error, HttpMessage as _, HttpResponse, ResponseError as _,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};

use super::{Authorized, Problem, ProblemKind};
use crate::service::server::Shared;

/// What a request is called in logs and in its answer.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The caller of those without a key that counts.
const NOBODY: &str = "\0";

/// What every request goes through before its route, and every answer after it.
pub(crate) async fn guard<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let began = Instant::now();
    let id = RequestId(request_id(request.headers()));
    request.extensions_mut().insert(id.clone());
    let Some(shared) = request.app_data::<web::Data<Shared>>().cloned() else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    let origin = request.headers().get(header::ORIGIN).cloned();
    let caller = Authorized::check(request.request()).ok().map(|authorized| authorized.caller);
    let (method, path) = (request.method().clone(), request.path().to_owned());
    let mut response = match admit(&shared, &request, caller.as_deref(), began) {
        Admitted::Yes => next.call(request).await?.map_into_boxed_body(),
        Admitted::Answer(answer) => request.into_response(answer),
    };
    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    finish(&shared, response.response_mut().headers_mut(), origin.as_ref(), &id);
    let status = response.status().as_u16();
    let took = began.elapsed();
    shared.metrics.request(&method, &route, status, took);
    let level = if status >= 500 { log::Level::Warn } else { log::Level::Info };
    log::log!(
        target: "wsfleet::http", level,
        request_id = id.0.as_str(), method = method.as_str(), route = route.as_str(), status = status,
        caller = caller.as_deref().unwrap_or_default(), micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        "{method} {} {status}", path.escape_debug()
    );
    Ok(response)
}

/// Whether a request goes on to its route.
enum Admitted {
    Yes,
    Answer(HttpResponse),
}

fn admit(shared: &Shared, request: &ServiceRequest, caller: Option<&str>, now: Instant) -> Admitted {
    let refuse = |problem: Problem| Admitted::Answer(problem.error_response());
    if let Err(problem) = check_host(shared, request) {
        return refuse(problem);
    }
    let origin = request.headers().get(header::ORIGIN);
    if let Some(origin) = origin {
        let allowed = is_allowed(shared, origin);
        if allowed && request.method() == Method::OPTIONS {
            return Admitted::Answer(preflight());
        }
        // A page of another origin cannot read the answer, but what it asks for would have been done.
        if !allowed && !request.method().is_safe() && !is_own(origin, request) {
            let detail = "pages of this origin may not change anything here: see --allow-origin";
            return refuse(Problem::new(ProblemKind::Forbidden, detail));
        }
    }
    if !matches!(request.path(), "/health" | "/ready")
        && let Err(seconds) = shared.rate.take(caller.unwrap_or(NOBODY), now)
    {
        let detail = format!("more requests than this service takes of one key: come back in {seconds} s");
        return refuse(Problem::new(ProblemKind::RateLimited, detail).after(seconds));
    }
    Admitted::Yes
}

/// Refuses, where only this machine can reach the service, requests that were meant for another name: a page may have its
/// name point to 127.0.0.1 and would then be of the same origin.
fn check_host(shared: &Shared, request: &ServiceRequest) -> Result<(), Problem> {
    if !shared.is_loopback {
        return Ok(());
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or_default();
    let name = without_port(host);
    let is_here = name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_here || shared.config.server_names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    let name: String = name.chars().take(100).collect();
    let detail = format!(
        "the request is for `{}`, which is not a name of this service: give it one with --server-name",
        name.escape_debug()
    );
    Err(Problem::new(ProblemKind::Misdirected, detail))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_allowed(shared: &Shared, origin: &HeaderValue) -> bool {
    let allowed = &shared.config.allow_origins;
    origin.to_str().is_ok_and(|origin| allowed.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(origin)))
}

/// Whether a page is one of this service's own.
fn is_own(origin: &HeaderValue, request: &ServiceRequest) -> bool {
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    authority.is_some() && authority == host
}

fn preflight() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"))
        .insert_header((
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, x-session-api-key, x-request-id, idempotency-key, last-event-id, wsfleet-lease",
        ))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
        .finish()
}

/// Adds to an answer what every answer has.
fn finish(shared: &Shared, headers: &mut HeaderMap, origin: Option<&HeaderValue>, id: &RequestId) {
    if let Ok(id) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, id);
    }
    let mut default = |name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    default(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(header::X_FRAME_OPTIONS, "DENY");
    default(header::REFERRER_POLICY, "no-referrer");
    default(header::CACHE_CONTROL, "no-store");
    default(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    if let Some(origin) = origin.filter(|origin| is_allowed(shared, origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        let seen = "location, etag, retry-after, x-request-id, wsfleet-next, wsfleet-complete";
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(seen));
    } else {
        default(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    }
}

/// The caller's id of a request, where it is one that can be logged; otherwise a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
    };
    given.filter(is_plain).map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_name_with_or_without_a_port() {
        for (host, name) in [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("127.0.0.1:", "127.0.0.1"), ("", "")] {
            assert_eq!(without_port(host), name);
        }
    }
}
