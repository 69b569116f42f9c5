use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Routes, commands::claim, id};
use crate::{
    Selector,
    service::{
        engine::{LeaseTerms, LeaseView},
        http::{Authorized, Json, Params, Problem, Writer},
        schemas::SelectorSchema,
        server::Shared,
    },
};

pub(super) fn routes(routes: &mut Routes) {
    routes
        .add::<__path_acquire, _, _>(acquire)
        .add::<__path_list, _, _>(list)
        .add::<__path_get, _, _>(get)
        .add::<__path_renew, _, _>(renew)
        .add::<__path_release, _, _>(release);
}

/// What it takes at least to hear whether one is free.
const LEAST_WAIT: Duration = Duration::from_millis(250);

/// The longest that a lease is held without being renewed, and the longest wait for one, in milliseconds.
const LONGEST_TTL: u64 = 24 * 60 * 60 * 1000;
const LONGEST_WAIT: u64 = 10 * 60 * 1000;

/// A workspace that somebody wants for themselves.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LeaseRequest {
    /// Of which workspaces one. Default: all.
    #[serde(default)]
    #[schema(value_type = Option<SelectorSchema>)]
    selector: Option<Selector>,
    /// How long to wait for one while none is free, in milliseconds. Less than 250 counts as 250. Default: 1000.
    #[serde(default = "default_wait")]
    #[schema(minimum = 0, maximum = 600_000)]
    wait_ms: u64,
    /// How long it is held without being renewed, in milliseconds. Default: 60,000.
    #[serde(default = "default_ttl")]
    #[schema(minimum = 1000, maximum = 86_400_000)]
    ttl_ms: u64,
}

const fn default_wait() -> u64 {
    1000
}

const fn default_ttl() -> u64 {
    60_000
}

/// The leases that are held.
#[derive(Serialize, ToSchema)]
struct LeaseList {
    /// The leases, the oldest first.
    leases: Vec<LeaseView>,
}

/// Takes a workspace for its holder alone
///
/// No other lease and no job of a run has it at the same time. It ends when it is released, when it was not renewed in time, and
/// when the service ends. Commands name it in `Wsfleet-Lease`, and are waited for when it is released.
#[utoipa::path(post, path = "/v1/leases", tag = "leases", request_body(content = LeaseRequest,
    example = json!({"selector": {"labels": {"tier": "gpu"}}, "wait_ms": 30_000, "ttl_ms": 60_000})),
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, description = "The same key never takes a second one, for 24 hours")),
    responses((status = 201, body = LeaseView, headers(("Location" = String, description = "Its path"))),
        (status = 409, description = "None became free in time, or the lease that was acquired with this key has ended", body = crate::service::http::Problem)))]
async fn acquire(
    Writer(caller): Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    body: Json<LeaseRequest>,
) -> Result<HttpResponse, Problem> {
    let claim = claim(&request, &caller.caller, &body.bytes)?;
    let LeaseRequest { selector, wait_ms, ttl_ms } = body.value;
    if wait_ms > LONGEST_WAIT {
        return Err(Problem::invalid(format!("`wait_ms` is {LONGEST_WAIT} at most")));
    }
    let terms = LeaseTerms {
        selector: selector.unwrap_or_default(),
        wait: Duration::from_millis(wait_ms).max(LEAST_WAIT),
        ttl: ttl(ttl_ms)?,
        holder: caller.caller,
    };
    let view = tokio::select! {
        view = shared.engine.acquire_lease(terms, claim) => view?,
        () = shared.closing.cancelled() => return Err(shared.ends()),
    };
    Ok(HttpResponse::Created().insert_header(("location", format!("/v1/leases/{}", view.id))).json(view))
}

fn ttl(millis: u64) -> Result<Duration, Problem> {
    if (1000..=LONGEST_TTL).contains(&millis) {
        return Ok(Duration::from_millis(millis));
    }
    Err(Problem::invalid(format!("`ttl_ms` is 1000 to {LONGEST_TTL}")))
}

/// Lists the leases that are held
#[utoipa::path(get, path = "/v1/leases", tag = "leases", responses((status = 200, body = LeaseList)))]
async fn list(_: Authorized, shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(LeaseList { leases: shared.engine.leases() })
}

/// Tells of a lease
#[utoipa::path(get, path = "/v1/leases/{id}", tag = "leases",
    params(("id" = String, Path, description = "The lease's id")),
    responses((status = 200, body = LeaseView)))]
async fn get(_: Authorized, shared: web::Data<Shared>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(shared.engine.lease(id(&path)?)?))
}

/// Holds a lease for longer
#[utoipa::path(post, path = "/v1/leases/{id}/renew", tag = "leases",
    params(("id" = String, Path, description = "The lease's id"),
        ("ttl_ms" = Option<u64>, Query, minimum = 1000, maximum = 86_400_000, description = "How long from now on. Default: as long as before")),
    responses((status = 200, body = LeaseView)))]
async fn renew(
    _: Writer,
    request: HttpRequest,
    shared: web::Data<Shared>,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(&request)?;
    let millis = params.read::<u64>("ttl_ms")?;
    params.end()?;
    Ok(HttpResponse::Ok().json(shared.engine.renew_lease(id(&path)?, millis.map(ttl).transpose()?)?))
}

/// Gives a workspace back
///
/// Returns when it is free: commands that were begun under the lease are waited for, 30 s at most.
#[utoipa::path(delete, path = "/v1/leases/{id}", tag = "leases",
    params(("id" = String, Path, description = "The lease's id")),
    responses((status = 204, description = "It is free")))]
async fn release(_: Writer, shared: web::Data<Shared>, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    shared.engine.release_lease(id(&path)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
