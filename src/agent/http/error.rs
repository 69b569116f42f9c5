use std::{fmt, io, path::Path};

use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError, body::BoxBody, http::StatusCode};
use serde::Serialize;

use super::checks::Entry;

pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// An answer that is an error, in the shape the real server gives it.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: ErrorJson,
    retry_after_seconds: Option<u32>,
}

/// The body of an error. The fields are in the order in which the real server writes them.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ErrorJson {
    Text { detail: String },
    Entries { detail: Vec<Entry> },
    Server { detail: &'static str, exception: String },
}

impl ApiError {
    /// A 4xx with a text.
    pub(crate) fn detail(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, body: ErrorJson::Text { detail: detail.into() }, retry_after_seconds: None }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::detail(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::detail(StatusCode::UNAUTHORIZED, "Unauthorized")
    }

    pub(crate) fn not_found() -> Self {
        Self::detail(StatusCode::NOT_FOUND, "Not Found")
    }

    /// A 422 with its entries.
    pub(crate) fn invalid(entries: Vec<Entry>) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            body: ErrorJson::Entries { detail: entries },
            retry_after_seconds: None,
        }
    }

    /// A 5xx that the server answers on purpose.
    pub(crate) fn server(status: StatusCode, text: impl fmt::Display) -> Self {
        let exception = format!("{}: {text}", status.as_u16());
        Self {
            status,
            body: ErrorJson::Server { detail: "Internal Server Error", exception },
            retry_after_seconds: None,
        }
    }

    pub(crate) fn internal(text: impl fmt::Display) -> Self {
        Self::server(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// A 503 that says when to come back.
    pub(crate) fn busy(text: impl fmt::Display) -> Self {
        Self { retry_after_seconds: Some(1), ..Self::server(StatusCode::SERVICE_UNAVAILABLE, text) }
    }

    pub(crate) fn into_response(self) -> HttpResponse {
        self.error_response()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.status, self.body)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if self.status == StatusCode::UNPROCESSABLE_ENTITY {
            // The name that RFC 9110 gave it; clients put it into their error texts.
            response.reason("Unprocessable Content");
        }
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header(("Retry-After", seconds));
        }
        response.json(&self.body)
    }
}

impl Responder for ApiError {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        self.error_response()
    }
}

/// An I/O error as Python words it, `[Errno 2] No such file or directory: '/x'`.
pub(crate) fn os_error_text(error: &io::Error, path: &Path) -> String {
    format!("{}: {}", os_error_words(error), python_repr(&path.to_string_lossy()))
}

/// The same of an error that is about no path, `[Errno 28] No space left on device`.
pub(crate) fn os_error_words(error: &io::Error) -> String {
    let text = error.to_string();
    let Some(code) = error.raw_os_error() else { return text };
    format!("[Errno {code}] {}", text.strip_suffix(&format!(" (os error {code})")).unwrap_or(&text))
}

/// A text quoted as Python's `repr` quotes it.
pub(crate) fn python_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c == quote => quoted.extend(['\\', c]),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_read_as_in_python() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(os_error_text(&error, Path::new("/no pe")), "[Errno 2] No such file or directory: '/no pe'");
    }

    #[test]
    fn quotes_are_chosen_as_python_chooses_them() {
        assert_eq!(python_repr("a"), "'a'");
        assert_eq!(python_repr("it's"), "\"it's\"");
        assert_eq!(python_repr("it's \"x\"\n"), "'it\\'s \"x\"\\n'");
    }
}
