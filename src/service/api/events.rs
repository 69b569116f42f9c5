use actix_web::{HttpRequest, HttpResponse, http::header::CACHE_CONTROL, web};
use futures::{StreamExt as _, stream};

use super::Routes;
use crate::service::{
    engine::{FleetReader, Place},
    http::{Authorized, Problem, Reader},
    server::Shared,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add::<__path_follow, _, _>(follow);
}

/// Follows the fleet
///
/// Server-sent events: `hello` first, `missed` when some are gone and everything has to be loaded anew, `workspaces` with
/// those that were added, changed or removed, `command` and `run` when one began or ended, and `stats` each second.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "operations",
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was read."),
        ("from" = Option<String>, Query, description = "The same, for those who cannot set a header."),
    ),
    responses((status = 200, description = "The events", content_type = "text/event-stream", body = String))
)]
async fn follow(request: HttpRequest, _: Authorized, shared: web::Data<Shared>) -> Result<HttpResponse, Problem> {
    let reader = shared.engine.follow_fleet(place(&request)?);
    let counted = Reader::new(&shared.metrics.readers);
    let pieces = stream::unfold((reader, counted), async |(mut reader, counted): (FleetReader, Reader)| {
        let events = reader.next().await?;
        Some((stream::iter(events.into_iter().map(Ok::<_, std::io::Error>)), (reader, counted)))
    });
    // Whoever reads comes back, to the next service if there is one.
    let closing = shared.closing.clone().cancelled_owned();
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(pieces.flatten().take_until(closing))))
}

/// Where a reader was: `Last-Event-ID`, which browsers send when they come back, or `from` in the query.
fn place(request: &HttpRequest) -> Result<Option<Place>, Problem> {
    let header = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let query = request.query_string().split('&').find_map(|pair| pair.strip_prefix("from="));
    let read = |text: &str| {
        let problem = format!("`{}` is no id of an event of the fleet", text.escape_debug());
        text.parse().map_err(|()| Problem::invalid(problem))
    };
    header.or(query).map(read).transpose()
}
