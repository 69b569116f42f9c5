//! What an answer's status means.

use std::time::Duration;

use jiff::Timestamp;

use super::excerpt::excerpt;
use crate::{Effect, ErrorKind, Failure, protocol::ErrorBody};

/// The longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// An answer that is not a success, without its connection.
pub(super) struct Refusal<'a> {
    pub(super) status: u16,
    pub(super) retry_after: Option<&'a str>,
    pub(super) location: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// The failure that an answer tells of, and what it says about the request's effect.
pub(super) fn failure(answer: &Refusal<'_>) -> Failure {
    let status = answer.status;
    let parsed: Option<ErrorBody> = serde_json::from_slice(answer.body).ok();
    let is_agent = parsed.is_some();
    let detail = parsed.map(told).filter(|told| !told.is_empty()).unwrap_or_else(|| words(answer));
    let kind = match status {
        300..=399 => return redirect(answer),
        401 | 403 => ErrorKind::Unauthorized { status, detail },
        404 if is_agent => ErrorKind::NotFound { detail },
        404 | 410 => ErrorKind::Gone { reason: gone(answer, is_agent, &detail) },
        405 | 501 if !is_agent => return no_agent(status, &detail),
        // What a gateway says before it closes an idle connection may be read as the answer to the next request.
        408 | 429 | 500..=599 => {
            let retry_after = answer.retry_after.and_then(|text| retry_after(text, Timestamp::now()));
            ErrorKind::ServerError { status, detail, retry_after }
        }
        400..=499 => ErrorKind::Rejected { status, detail },
        _ => ErrorKind::Protocol { reason: format!("unexpected status {status}: {detail}"), cut_short: false },
    };
    Failure { kind, effect: effect(status) }
}

/// The server's words, of which some versions leave the `exception` empty.
fn told(mut body: ErrorBody) -> String {
    body.exception = body.exception.filter(|exception| !exception.is_empty());
    body.summary()
}

/// Whether a request with this answer may have been carried out.
const fn effect(status: u16) -> Effect {
    match status {
        301 | 302 | 307 | 308 | 400..=499 | 503 => Effect::NotSent,
        _ => Effect::MaybeSent,
    }
}

fn redirect(answer: &Refusal<'_>) -> Failure {
    let to = answer.location.and_then(|location| url::Url::parse(location).ok());
    let to = to.map_or_else(String::new, |url| format!(" to {}", url.host_str().unwrap_or_default()));
    let reason = format!(
        "the server redirects ({}){to}; redirects are not followed, since the session key would go along: give the \
         final address as host",
        answer.status
    );
    Failure { kind: ErrorKind::Protocol { reason, cut_short: false }, effect: effect(answer.status) }
}

/// Agent servers know every request that is sent to them; what does not is something else, and has done nothing.
fn no_agent(status: u16, detail: &str) -> Failure {
    let reason = format!(
        "this is not an agent server: it answered {status} with {detail}; check the host, the port and the path prefix"
    );
    Failure::not_sent(ErrorKind::Protocol { reason, cut_short: false })
}

fn gone(answer: &Refusal<'_>, is_agent: bool, detail: &str) -> String {
    if is_agent {
        return detail.to_owned();
    }
    match answer.status {
        404 => format!("no agent server is behind this address, or no longer; something else answered 404: {detail}"),
        status => format!("the address answered {status}: {detail}"),
    }
}

/// An answer in words that is not an agent server's.
fn words(answer: &Refusal<'_>) -> String {
    let text = excerpt(answer.body);
    match (answer.content_type, text.is_empty()) {
        (_, true) => format!("status {} without a text", answer.status),
        (Some(content_type), false) => format!("`{text}` ({content_type})"),
        (None, false) => format!("`{text}`"),
    }
}

/// Reads a Retry-After: seconds or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => MAX_RETRY_AFTER,
        Err(_) => {
            let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(at.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Failure {
        let content_type = if body.starts_with('{') { "application/json" } else { "text/html" };
        failure(&Refusal {
            status,
            retry_after: None,
            location: None,
            content_type: Some(content_type),
            body: body.as_bytes(),
        })
    }

    #[test]
    fn each_status_has_one_meaning_and_one_effect() {
        let detail = r#"{"detail":"File not found"}"#;
        let table: &[(u16, &str, &str, Effect)] = &[
            (302, "", "protocol", Effect::NotSent),
            (303, "", "protocol", Effect::MaybeSent),
            (400, detail, "rejected", Effect::NotSent),
            (401, r#"{"detail":"Unauthorized"}"#, "unauthorized", Effect::NotSent),
            (403, "<h1>no</h1>", "unauthorized", Effect::NotSent),
            (404, detail, "not_found", Effect::NotSent),
            (404, "<h1>404</h1>", "gone", Effect::NotSent),
            (404, r#"{"error":"no route"}"#, "gone", Effect::NotSent),
            (404, "", "gone", Effect::NotSent),
            (410, detail, "gone", Effect::NotSent),
            (408, "", "server_error", Effect::NotSent),
            (413, "", "rejected", Effect::NotSent),
            (422, detail, "rejected", Effect::NotSent),
            (429, "", "server_error", Effect::NotSent),
            (500, detail, "server_error", Effect::MaybeSent),
            (502, "", "server_error", Effect::MaybeSent),
            (503, "", "server_error", Effect::NotSent),
            (504, "", "server_error", Effect::MaybeSent),
            (599, "", "server_error", Effect::MaybeSent),
            (100, "", "protocol", Effect::MaybeSent),
            (600, "", "protocol", Effect::MaybeSent),
        ];
        for &(status, body, kind, effect) in table {
            let failure = answer(status, body);
            assert_eq!((failure.kind.name(), failure.effect), (kind, effect), "{status} {body}");
        }
    }

    #[test]
    fn the_servers_own_words_are_kept() {
        let text = answer(500, r#"{"detail":"Internal Server Error","exception":"500: No space left"}"#).to_string();
        assert!(text.contains("No space left") && !text.contains("Internal"), "{text}");
        let text = answer(500, r#"{"detail":"Internal Server Error","exception":""}"#).to_string();
        assert!(text.contains("Internal Server Error"), "{text}");
        let text = answer(404, "<html><title>404 Not Found</title>nginx</html>").to_string();
        assert!(text.contains("404 Not Found") && text.contains("no agent server is behind this address"), "{text}");
    }

    #[test]
    fn a_redirect_names_the_host_and_not_the_rest() {
        let location = Some("https://login.example/x?token=hush");
        let refusal = Refusal { status: 302, retry_after: None, location, content_type: None, body: b"" };
        let text = failure(&refusal).to_string();
        assert!(text.contains("login.example") && !text.contains("hush"), "{text}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_cap() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        let read = |text| retry_after(text, now);
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:07 GMT"), Some(Duration::ZERO));
        assert_eq!(read("99999999999999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(read("1e9"), None);
        assert_eq!(read("-1"), None);
    }
}
