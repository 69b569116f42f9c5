use actix_web::http::Uri;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::answer::Refusal;
use crate::client::Below;

/// What of a name does not stand in a path as it is.
const NAME: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'/').add(b'<').add(b'>').add(b'?').add(b'\\').add(b'`');

/// The parameter of a query that holds a key. The key is the service's, and does not go on.
pub(super) const KEY_IN_QUERY: &str = "session_api_key";

/// How often a path may be encoded over again and is still looked into.
const DEPTH: usize = 3;

/// Which workspace a request is for, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) name: String,
    /// The path below the workspace, as it came, beginning with `/`.
    pub(super) path: String,
    pub(super) query: Option<String>,
}

impl Route {
    /// The route of an address.
    pub(super) fn of(uri: &Uri) -> Result<Self, Refusal> {
        let rest = uri.path().strip_prefix("/workspaces/").unwrap_or_default();
        let (name, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let name = percent_decode_str(name).decode_utf8().map_err(|_| Refusal::not_found("no such workspace"))?;
        if name.is_empty() {
            return Err(Refusal::not_found("name a workspace: /workspaces/NAME/..."));
        }
        if leaves(path) {
            return Err(Refusal::bad("the path leads out of the workspace"));
        }
        Ok(Self { name: name.into_owned(), path: path.to_owned(), query: uri.query().map(str::to_owned) })
    }

    /// The path before those of the workspace, as clients write it.
    pub(super) fn prefix(&self) -> String {
        format!("/workspaces/{}", utf8_percent_encode(&self.name, NAME))
    }

    /// Below what of the server the path is, and the path from there on with its query. Where the API of a workspace has
    /// another prefix, clients need not know it.
    pub(super) fn target(&self) -> (Below, String) {
        let (below, path) = match api(&self.path) {
            Some(path) => (Below::Api, path),
            None => (Below::Root, self.path.as_str()),
        };
        (below, self.query_without_key().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")))
    }

    /// The query as it came, but for a key in it, however its name is written. A query that is nothing else is none.
    fn query_without_key(&self) -> Option<String> {
        let query = self.query.as_ref()?;
        let is_key = |pair: &str| {
            let mut pairs = url::form_urlencoded::parse(pair.as_bytes());
            pairs.next().is_some_and(|(name, _)| name == KEY_IN_QUERY)
        };
        let kept: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
        (!kept.is_empty()).then(|| kept.join("&"))
    }

    /// The path below the routes of commands, where it is one of theirs.
    pub(super) fn bash(&self) -> Option<&str> {
        api(&self.path)?.strip_prefix("/bash/")
    }

    /// Whether it is the route of uploads.
    pub(super) fn is_upload(&self) -> bool {
        api(&self.path) == Some("/file/upload")
    }

    /// Whether answers may hold commands with the runtime's head.
    pub(super) fn tells_commands(&self) -> bool {
        self.path.contains("/bash/")
    }
}

/// The path below the API prefix, of the routes that are below it.
fn api(path: &str) -> Option<&str> {
    let below = path.strip_prefix("/api")?;
    let is_one = ["/bash", "/file", "/git"]
        .iter()
        .any(|route| below.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    is_one.then_some(below)
}

/// Whether a path would lead elsewhere for anybody who reads it, however often it is decoded on the way.
fn leaves(path: &str) -> bool {
    let mut path = path.as_bytes().to_vec();
    for _ in 0..DEPTH {
        let dots = |part: &[u8]| part == b"." || part == b"..";
        if path.contains(&0) || path.split(|byte| matches!(byte, b'/' | b'\\' | b';')).any(dots) {
            return true;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&path).collect();
        if decoded == path {
            return false;
        }
        path = decoded;
    }
    // Nobody who means well encodes so often.
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Option<Route> {
        Route::of(&path.parse().unwrap()).ok()
    }

    #[test]
    fn a_route_is_a_name_and_a_path_as_it_came() {
        let route = route("/workspaces/gw:443%2Fs%2Fabc/api/file/download?path=/a%20b/../c").unwrap();
        assert_eq!(route.name, "gw:443/s/abc");
        assert_eq!(route.prefix(), "/workspaces/gw:443%2Fs%2Fabc");
        assert_eq!(route.target(), (Below::Api, "/file/download?path=/a%20b/../c".to_owned()));
        assert_eq!(self::route("/workspaces/w").unwrap().target(), (Below::Root, "/".to_owned()));
        assert_eq!(self::route("/workspaces/w/api/bashful").unwrap().target().0, Below::Root);
        assert_eq!(self::route("/workspaces/w/api/git").unwrap().target(), (Below::Api, "/git".to_owned()));
        assert!(self::route("/workspaces/").is_none());
    }

    #[test]
    fn a_key_in_the_query_does_not_go_on_however_it_is_written() {
        for (query, kept) in [
            ("?session_api_key=k", ""),
            ("?session%5Fapi_key=k&a=1", "?a=1"),
            ("?a=1&%73ession_api_key=k&session_api_key&b=%20&", "?a=1&b=%20&"),
            ("?session_api_keys=1&a=session_api_key", "?session_api_keys=1&a=session_api_key"),
            ("?", "?"),
        ] {
            let target = route(&format!("/workspaces/w/x{query}")).unwrap().target().1;
            assert_eq!(target, format!("/x{kept}"), "{query}");
        }
    }

    #[test]
    fn no_path_leads_out_however_it_is_written() {
        for path in [
            "/..",
            "/../w2/health",
            "/a/../../b",
            "/%2e%2e/x",
            "/.%2E/x",
            "/a%2f..%2f..%2fb",
            "/%252e%252e/x",
            "/..;/x",
            "/a%5c..%5cb",
            "/./x",
            "/%00",
            "/%25252525252e",
        ] {
            assert!(route(&format!("/workspaces/w{path}")).is_none(), "{path}");
        }
        for path in ["/a..b", "/...", "/a%2Fb", "/100%25", "/.hidden"] {
            assert!(route(&format!("/workspaces/w{path}")).is_some(), "{path}");
        }
    }
}
