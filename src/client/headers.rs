//! The headers of every request.

use awc::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use super::{connection::Parts, key::SessionKey};
use crate::{Failure, protocol::SESSION_KEY_HEADER};

/// Headers that a connection may not set: the client sets them, or they decide how a message is framed.
const OWN: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "if-range",
    "keep-alive",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-init-api-key",
    "x-session-api-key",
];

/// Checks one header of a connection.
pub(super) fn check(name: &str, value: &SessionKey) -> Result<(), Failure> {
    let lower = name.to_ascii_lowercase();
    if lower == "x-session-api-key" {
        return Err(Failure::invalid(format!("header `{name}`: give the session key as `api_key`")));
    }
    if OWN.contains(&lower.as_str()) || lower.starts_with("sec-websocket-") {
        return Err(Failure::invalid(format!("header `{name}` is set by the client itself")));
    }
    parse(name, value).map(drop)
}

/// The headers of every request to the server: its name, the connection's own headers and, where asked, the session key.
pub(super) fn defaults(connection: &Parts, host: &str, with_key: bool) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::new();
    let host = HeaderValue::from_str(host).map_err(|_| Failure::invalid(format!("`{host}` is not a host name")))?;
    map.insert(HOST, host);
    map.insert(USER_AGENT, HeaderValue::from_static(concat!("workspace-fleet/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in &connection.headers {
        check(name, value)?;
        let (name, value) = parse(name, value)?;
        map.insert(name, value);
    }
    if let Some(key) = connection.api_key.as_ref().filter(|_| with_key) {
        map.insert(HeaderName::from_static("x-session-api-key"), secret(SESSION_KEY_HEADER, key)?);
    }
    Ok(map)
}

/// A secret as a header's value.
pub(super) fn secret(name: &str, value: &SessionKey) -> Result<HeaderValue, Failure> {
    let mut parsed = HeaderValue::from_str(value.expose()).map_err(|_| {
        Failure::invalid(format!(
            "the value for header `{name}` holds a line break or another character that no header may hold"
        ))
    })?;
    parsed.set_sensitive(true);
    Ok(parsed)
}

fn parse(name: &str, value: &SessionKey) -> Result<(HeaderName, HeaderValue), Failure> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Failure::invalid(format!("`{}` is not a header name", name.escape_debug())))?;
    Ok((parsed, secret(name, value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Connection;

    fn refusal(name: &str, value: &str) -> String {
        check(name, &value.into()).unwrap_err().to_string()
    }

    #[test]
    fn headers_of_the_client_and_broken_ones_are_refused_without_their_value() {
        assert!(refusal("X-Session-API-Key", "k").contains("api_key"));
        assert!(refusal("Host", "h").contains("itself"));
        assert!(refusal("Sec-WebSocket-Key", "h").contains("itself"));
        assert!(refusal("X Y", "h").contains("`X Y`"));
        let message = refusal("X-A", "hush\r\nX-B: 1");
        assert!(message.contains("X-A") && !message.contains("hush"), "{message}");
        assert!(check("X-A", &"fine".into()).is_ok());
    }

    #[test]
    fn the_key_goes_only_where_it_is_asked_for_and_is_marked_secret() {
        let connection = Connection::new("http://h:1").unwrap().with_api_key("k");
        let with = defaults(connection.parts(), "h:1", true).unwrap();
        assert!(with.get("x-session-api-key").unwrap().is_sensitive());
        assert!(defaults(connection.parts(), "h:1", false).unwrap().get("x-session-api-key").is_none());
    }
}
