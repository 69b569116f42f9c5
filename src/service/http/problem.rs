use std::fmt;

use actix_web::{HttpResponse, ResponseError, body::BoxBody, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    Effect, ErrorKind, WorkspaceError,
    service::{StoreError, engine::EngineError, schemas::WorkspaceErrorSchema},
};

/// What kinds of problems are called, before their name.
const URN: &str = "urn:wsfleet:problem:";

/// An answer that is an error: a problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// What kind of problem it is: a name that stays.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:wsfleet:problem:not-found")]
    kind: ProblemKind,
    /// The same in words.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong here, and what to do about it.
    detail: String,
    /// Where the body is wrong, where that is known: the line, from 1 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// Where in this line: the column, from 1 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    /// What the runtime says of a workspace that could not do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<WorkspaceErrorSchema>)]
    error: Option<Box<WorkspaceError>>,
    /// What is known of the effect of what was attempted on a workspace: `not_sent`, `maybe_sent` or `done`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    effect: Option<Effect>,
    /// Whether sending the same again is safe and may go better.
    retryable: bool,
    /// The `Retry-After` of the answer.
    #[serde(skip)]
    retry_after: Option<u32>,
    /// The methods that the path knows.
    #[serde(skip)]
    allow: Option<Box<str>>,
}

/// The kinds of problems: a name that stays, the same in words, and the status.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $title:literal, $status:ident;)*) => {
        /// The kinds of problems.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum ProblemKind { $($(#[$doc])* $kind,)* }

        impl ProblemKind {
            /// Every kind.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];

            /// The name that stays, without what is before it in `type`.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// The same in words.
            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }

            /// The status of its answers.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }
        }
    };
}

kinds! {
    /// The request cannot be read: broken JSON, or a query that is none.
    Malformed = "malformed", "The request cannot be read", BAD_REQUEST;
    /// No key, or one that is not known.
    Unauthorized = "unauthorized", "A key of the service is needed", UNAUTHORIZED;
    /// The key does not allow it, or the page that asks is not one of those that may.
    Forbidden = "forbidden", "This is not allowed", FORBIDDEN;
    /// There is no such thing.
    NotFound = "not-found", "There is no such thing", NOT_FOUND;
    /// The path knows other methods.
    MethodNotAllowed = "method-not-allowed", "The path knows other methods", METHOD_NOT_ALLOWED;
    /// The body did not come in time.
    TooSlow = "too-slow", "The request did not arrive in time", REQUEST_TIMEOUT;
    /// There is one already, or it is in a state in which that cannot be done.
    Conflict = "conflict", "This is in the way of what is there", CONFLICT;
    /// The body is large and does not say how large.
    LengthRequired = "length-required", "The length of the body is needed", LENGTH_REQUIRED;
    /// The body is too large.
    TooLarge = "too-large", "The request is too large", PAYLOAD_TOO_LARGE;
    /// The body is of a type that is not taken here.
    UnsupportedMediaType = "unsupported-media-type", "The body is of a type that is not taken here", UNSUPPORTED_MEDIA_TYPE;
    /// The request is for another server.
    Misdirected = "misdirected", "The request is for another server", MISDIRECTED_REQUEST;
    /// What is asked for makes no sense.
    InvalidRequest = "invalid-request", "The request makes no sense", UNPROCESSABLE_ENTITY;
    /// The workspace refuses what is asked for: see `error`.
    WorkspaceRefused = "workspace-refused", "The workspace refuses it", UNPROCESSABLE_ENTITY;
    /// The workspace may not be at this address.
    HostNotAllowed = "host-not-allowed", "The service may not talk to this host", UNPROCESSABLE_ENTITY;
    /// Too many requests in too short a time.
    RateLimited = "rate-limited", "Too many requests", TOO_MANY_REQUESTS;
    /// The workspace or the service has too much to do.
    Overloaded = "overloaded", "There is too much to do", TOO_MANY_REQUESTS;
    /// The workspace could not do it: see `error`.
    WorkspaceFailed = "workspace-failed", "The workspace could not do it", BAD_GATEWAY;
    /// The workspace did not answer in time.
    WorkspaceTooSlow = "workspace-too-slow", "The workspace did not answer in time", GATEWAY_TIMEOUT;
    /// The service ends or has just begun.
    Unavailable = "unavailable", "The service is not available", SERVICE_UNAVAILABLE;
    /// The service failed.
    Internal = "internal", "The service failed", INTERNAL_SERVER_ERROR;
}

impl Serialize for ProblemKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{URN}{}", self.name()))
    }
}

impl Problem {
    /// A problem of this kind.
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let passes = matches!(kind, ProblemKind::RateLimited | ProblemKind::Overloaded | ProblemKind::Unavailable);
        Self {
            kind,
            title: kind.title(),
            status: kind.status().as_u16(),
            detail: detail.into(),
            line: None,
            column: None,
            error: None,
            effect: None,
            retryable: passes,
            retry_after: passes.then_some(1),
            allow: None,
        }
    }

    /// What is asked for makes no sense.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::InvalidRequest, detail)
    }

    /// There is nothing at this path.
    pub(crate) fn nothing_at(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        Self::new(ProblemKind::NotFound, format!("there is nothing at {}", path.escape_debug()))
    }

    /// Says where the body is wrong.
    pub(crate) fn at(mut self, line: usize, column: usize) -> Self {
        // A body has a bound that is smaller than either.
        (self.line, self.column) = (u32::try_from(line).ok(), u32::try_from(column).ok());
        self
    }

    /// Says when to come back, in seconds.
    pub(crate) fn after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        self
    }

    /// The path knows these methods only.
    pub(crate) fn method(method: &str, allow: String) -> Self {
        let detail = format!("{} is none of the methods of this path: {allow}", method.escape_debug());
        Self { allow: Some(allow.into()), ..Self::new(ProblemKind::MethodNotAllowed, detail) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.kind.status()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let body = serde_json::to_vec(self).unwrap_or_default();
        let mut response = HttpResponse::build(self.status_code());
        if self.kind == ProblemKind::Unauthorized {
            response.insert_header(("www-authenticate", "Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            response.insert_header(("retry-after", seconds));
        }
        if let Some(allow) = &self.allow {
            response.insert_header(("allow", &**allow));
        }
        response.content_type("application/problem+json").body(body)
    }
}

impl From<WorkspaceError> for Problem {
    fn from(error: WorkspaceError) -> Self {
        let kind = match &error.kind {
            ErrorKind::InvalidInput { .. } | ErrorKind::Local { .. } => ProblemKind::InvalidRequest,
            ErrorKind::NotFound { .. } => ProblemKind::NotFound,
            ErrorKind::Rejected { .. } | ErrorKind::NotARepository { .. } => ProblemKind::WorkspaceRefused,
            // The words of an agent server for a file that cannot be used: what was asked for is wrong, not the server.
            ErrorKind::ServerError { status: 500, detail, .. } if detail.contains("[Errno ") => {
                ProblemKind::WorkspaceRefused
            }
            ErrorKind::Overloaded { .. } => ProblemKind::Overloaded,
            ErrorKind::Stopped { .. } => ProblemKind::Conflict,
            ErrorKind::Deadline { .. } => ProblemKind::WorkspaceTooSlow,
            _ => ProblemKind::WorkspaceFailed,
        };
        let (effect, retryable) = (Some(error.effect), error.is_retryable());
        let detail = error.to_string();
        Self { effect, retryable, error: Some(Box::new(error)), ..Self::new(kind, detail) }
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Workspace(error) => error.into(),
            EngineError::NotFound { .. } => Self::new(ProblemKind::NotFound, error.to_string()),
            EngineError::Conflict(detail) => Self::new(ProblemKind::Conflict, detail),
            EngineError::LeftAside { .. } => Self::new(ProblemKind::Conflict, error.to_string()),
            EngineError::Invalid(detail) => Self::new(ProblemKind::InvalidRequest, detail),
            EngineError::HostNotAllowed(_) => Self::new(ProblemKind::HostNotAllowed, error.to_string()),
            EngineError::KeyReused => Self::new(ProblemKind::InvalidRequest, error.to_string()),
            EngineError::Overloaded(detail) => Self::new(ProblemKind::Overloaded, detail),
            EngineError::Ending => Self::new(ProblemKind::Unavailable, error.to_string()),
            EngineError::Store(error @ (StoreError::Away | StoreError::Unwritable(_))) => {
                log::error!("{error}");
                let detail = "nothing can be written down at the moment, as when a disk is full: the service's log says why. \
                              Nothing was begun; come back in a moment";
                Self::new(ProblemKind::Unavailable, detail)
            }
            EngineError::Store(error) => {
                // What is in it is for the one who runs the service.
                log::error!("{error}");
                Self::new(ProblemKind::Internal, "the store failed: the service's log says why")
            }
        }
    }
}
