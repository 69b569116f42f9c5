use actix_web::{
    HttpRequest,
    http::{Method, StatusCode},
};

use super::{answer::Refusal, route::Route};
use crate::{
    protocol::EventId,
    service::{config::Access, http::Authorized},
};

/// What every server tells of itself.
const OF_THE_SERVER: [&str; 5] = ["/", "/alive", "/health", "/ready", "/server_info"];

/// What clients of agent servers look for without a key: whether a server is there.
const OPEN: [&str; 3] = ["/alive", "/health", "/ready"];

/// What a key that may only look is for, below the prefix of the API: commands and their output, files, repositories. All
/// else is not passed on for it, since a server also tells its secrets to whoever asks with a GET.
const LOOKED_AT: [&str; 4] = ["/bash/bash_events", "/git/changes", "/git/diff", "/git/commits"];
const LOOKED_AT_ALONE: [&str; 3] = ["/file/download", "/file/home", "/file/search_subdirs"];

/// The only socket that such a key opens.
const EVENTS: &str = "/sockets/bash-events";

/// Whom a request is from, as far as it may be answered.
pub(super) enum Asker {
    /// Somebody whose key allows it.
    Known,
    /// Somebody without a key, who wants to know how a workspace does.
    Stranger,
}

/// Refuses what the key of a request does not allow.
pub(super) fn check(http: &HttpRequest, route: &Route) -> Result<Asker, Refusal> {
    let authorized = match Authorized::check(http) {
        Ok(authorized) => authorized,
        Err(_) if http.method() == Method::GET && OPEN.contains(&route.path.as_str()) => return Ok(Asker::Stranger),
        Err(_) => return Err(Refusal::unauthorized()),
    };
    if authorized.access == Access::Full {
        return Ok(Asker::Known);
    }
    let only_looks = matches!(*http.method(), Method::GET | Method::HEAD);
    if !only_looks {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            format!("the key of {} allows to look and not to change anything", authorized.caller),
        ));
    }
    if is_looked_at(&route.path) { Ok(Asker::Known) } else { Err(out_of_sight(&authorized)) }
}

/// Refuses a socket that a key does not allow.
pub(super) fn check_socket(authorized: &Authorized, route: &Route) -> Result<(), Refusal> {
    if authorized.access == Access::Full || route.path == EVENTS {
        return Ok(());
    }
    Err(out_of_sight(authorized))
}

fn out_of_sight(authorized: &Authorized) -> Refusal {
    Refusal::new(
        StatusCode::FORBIDDEN,
        format!(
            "the key of {} allows to look at commands, files and repositories, and this is none of them: use a key with \
             full access",
            authorized.caller
        ),
    )
}

/// Whether a key that may only look may ask for a path.
fn is_looked_at(path: &str) -> bool {
    let path_alone = path.strip_suffix('/').unwrap_or(path);
    if OF_THE_SERVER.contains(&path) || OF_THE_SERVER.contains(&path_alone) {
        return true;
    }
    let Some(below) = path.strip_prefix("/api") else { return false };
    let below = of_a_conversation(below).unwrap_or(below);
    LOOKED_AT_ALONE.contains(&below)
        || LOOKED_AT
            .iter()
            .any(|route| below.strip_prefix(route).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The path below a conversation, which has the same routes as the server.
fn of_a_conversation(below: &str) -> Option<&str> {
    let rest = below.strip_prefix("/conversations/")?;
    let (id, _) = rest.split_once('/')?;
    id.parse::<EventId>().ok()?;
    Some(&rest[id.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_to_look_with_is_for_commands_files_and_repositories() {
        let conversation = "/api/conversations/7f6f9d6e-0d0f-4b62-9a5e-0a3f1f0b7f11";
        for path in
            ["/health", "/server_info", "/", "/api/bash/bash_events/search", "/api/bash/bash_events/", "/api/git/diff"]
        {
            assert!(is_looked_at(path), "{path}");
        }
        for path in ["/bash/bash_events/search", "/file/download", "/git/commits/abc/changes"] {
            assert!(is_looked_at(&format!("/api{path}")), "{path}");
            assert!(is_looked_at(&format!("{conversation}{path}")), "{path}");
        }
        for path in [
            "/api/settings/secrets/TOKEN",
            "/api/settings",
            "/api/init",
            "/api/bash/bash_events_of_others",
            "/api/bash/start_bash_command",
            "/api/file/archive",
            "/api/file/download/../../settings",
            "/api/file/download-trajectory/7f6f9d6e0d0f4b629a5e0a3f1f0b7f11",
            "/api/git/repositories/search",
            "/api/conversations/search",
            "/api/conversations/none/git/diff",
            "/docs",
            "//api/git/diff",
        ] {
            assert!(!is_looked_at(path), "{path}");
        }
        for path in ["", "/", "/events/search", "/workspace/x", "/conversations/x/git/diff", "/vscode/url"] {
            assert!(!is_looked_at(&format!("{conversation}{path}")), "{path}");
        }
    }
}
