use actix_web::{
    HttpRequest,
    http::header::{
        ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue,
        LOCATION, X_CONTENT_TYPE_OPTIONS,
    },
};
use url::Url;

use super::route::Route;
use crate::{Connection, messages::Way};

/// Headers that concern one connection and not the request.
const OF_THE_CONNECTION: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Headers of a request that are for the service: keys, what its body is sent with, and where the client came from.
const OF_THE_SERVICE: [&str; 9] =
    ["authorization", "content-length", "cookie", "expect", "forwarded", "host", "origin", "via", "x-session-api-key"];

/// Headers of an answer that would concern the service's own pages, or all workspaces at once.
const OF_THE_ORIGIN: [&str; 6] =
    ["alt-svc", "clear-site-data", "content-length", "set-cookie", "strict-transport-security", "x-session-api-key"];

/// Headers of a request that go on to the workspace.
pub(super) fn of_request(http: &HttpRequest, route: &Route, way: &Way) -> HeaderMap {
    let headers = http.headers();
    let named = named_in_connection(headers);
    let mut passed = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        let is_kept_back = OF_THE_CONNECTION.contains(&text)
            || OF_THE_SERVICE.contains(&text)
            || text.starts_with("x-forwarded-")
            || named.iter().any(|named| named == text)
            || is_of(&way.connection, text)
            // What is looked into must not be compressed.
            || (*name == ACCEPT_ENCODING && route.tells_commands());
        if !is_kept_back {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}

/// The same for a socket, whose handshake each side makes itself.
pub(super) fn of_socket(http: &HttpRequest, route: &Route, way: &Way) -> HeaderMap {
    let mut passed = of_request(http, route, way);
    for name in ["version", "key", "extensions", "protocol", "accept"] {
        passed.remove(format!("sec-websocket-{name}"));
    }
    passed
}

/// Whether the connection sends this header itself, with a value that is its own.
fn is_of(connection: &Connection, name: &str) -> bool {
    connection.parts().headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
}

/// The headers that concern one connection because it says so.
fn named_in_connection(headers: &HeaderMap) -> Vec<String> {
    let lists = headers.get_all(CONNECTION).filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

/// Headers of an answer that come back to the client.
pub(super) fn of_answer(headers: &HeaderMap, http: &HttpRequest, route: &Route, way: &Way) -> HeaderMap {
    let named = named_in_connection(headers);
    let mut passed = HeaderMap::with_capacity(headers.len() + 2);
    for (name, value) in headers {
        let text = name.as_str();
        let is_kept_back = OF_THE_CONNECTION.contains(&text)
            || OF_THE_ORIGIN.contains(&text)
            || text.starts_with("access-control-")
            || named.iter().any(|named| named == text);
        if !is_kept_back {
            passed.append(name.clone(), value.clone());
        }
    }
    if let Some(location) = passed.get(LOCATION).and_then(|value| value.to_str().ok())
        && let Some(here) = located(location, http, route, &way.connection)
        && let Ok(value) = HeaderValue::from_str(&here)
    {
        passed.insert(LOCATION, value);
    }
    // A page out of a sandbox must not act as if it were one of the service.
    passed.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    passed.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    passed
}

/// Where a redirect of the workspace leads, as the client gets there; `None` where it leads elsewhere and stays as it is.
fn located(location: &str, http: &HttpRequest, route: &Route, connection: &Connection) -> Option<String> {
    let root = connection.host().path().trim_end_matches('/');
    let (is_whole, path) = if location.starts_with('/') && !location.starts_with("//") {
        (false, location.to_owned())
    } else {
        let url = Url::parse(location).ok()?;
        let same = |a: &Url, b: &Url| {
            a.host_str() == b.host_str()
                && (a.port_or_known_default() == b.port_or_known_default() || a.port().is_none())
        };
        if !same(&url, connection.host()) {
            return None;
        }
        let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
        (true, format!("{}{query}", url.path()))
    };
    let below = path.strip_prefix(root).filter(|below| below.starts_with('/')).unwrap_or(&path);
    let prefix = &*connection.parts().api_prefix;
    let below = match below.strip_prefix(prefix) {
        Some(api) if ["/bash", "/file", "/git"].iter().any(|route| api.starts_with(route)) => format!("/api{api}"),
        _ => below.to_owned(),
    };
    let here = format!("{}{below}", route.prefix());
    if !is_whole {
        return Some(here);
    }
    let host = http.headers().get(HOST)?.to_str().ok()?;
    Some(format!("{}://{host}{here}", http.connection_info().scheme()))
}

/// How long a request says that its body is; `None` where it does not say so, and `Some(0)` where there is none.
pub(super) fn announced(http: &HttpRequest) -> Option<u64> {
    let length = http.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let is_chunked = http.headers().contains_key(HeaderName::from_static("transfer-encoding"));
    length.or((!is_chunked).then_some(0))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn what_concerns_one_connection_stays_with_it() {
        let http = TestRequest::default()
            .insert_header(("connection", "keep-alive, X-Hop"))
            .insert_header(("x-hop", "1"))
            .insert_header(("te", "trailers"))
            .insert_header(("x-kept", "1"))
            .to_http_request();
        let route = Route::of(&"/workspaces/w/x".parse().unwrap()).unwrap();
        let way = Way { id: 1, connection: Connection::new("http://h:1").unwrap() };
        let passed = of_request(&http, &route, &way);
        assert_eq!(passed.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn a_redirect_stays_with_the_workspace() {
        let http = TestRequest::default().insert_header(("host", "service:7171")).to_http_request();
        let route = Route::of(&"/workspaces/w/x".parse().unwrap()).unwrap();
        let connection =
            Connection::new("http://h:8000/s/abc").unwrap().with_api_prefix("/api/conversations/c").unwrap();
        let to = |location: &str| located(location, &http, &route, &connection);
        let whole = |path: &str| Some(format!("http://service:7171/workspaces/w{path}"));
        assert_eq!(to("http://h:8000/s/abc/health?x=1"), whole("/health?x=1"));
        assert_eq!(to("/s/abc/api/conversations/c/git/changes"), Some("/workspaces/w/api/git/changes".to_owned()));
        assert_eq!(to("/elsewhere"), Some("/workspaces/w/elsewhere".to_owned()));
        assert_eq!(to("https://login.example/x"), None);
        assert_eq!(to("//login.example/x"), None);
        assert_eq!(to("relative"), None);
    }
}
