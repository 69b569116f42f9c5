use actix_web::{
    HttpRequest,
    http::{Method, StatusCode},
};

use super::{answer::Refusal, route::Route};
use crate::service::{config::Access, http::Authorized};

/// What agent servers tell everybody who asks, key or no key. Clients look for these without one.
const OPEN: [&str; 6] = ["/", "/alive", "/health", "/ready", "/server_info", "/api/init"];

/// Refuses what the key of a request does not allow.
pub(super) fn check(http: &HttpRequest, route: &Route) -> Result<(), Refusal> {
    let only_looks = matches!(*http.method(), Method::GET | Method::HEAD);
    if only_looks && OPEN.contains(&route.path.as_str()) {
        return Ok(());
    }
    let authorized = Authorized::check(http).map_err(|_| Refusal::unauthorized())?;
    if authorized.access == Access::ReadOnly && !only_looks {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!("the key of {} allows to look and not to change anything", authorized.caller),
        ));
    }
    Ok(())
}
