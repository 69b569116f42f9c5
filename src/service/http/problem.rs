use std::fmt;

use actix_web::{HttpResponse, ResponseError, body::BoxBody, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{Effect, ErrorKind, WorkspaceError, service::engine::EngineError};

/// An answer that is an error: a problem document (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// What kind of problem it is: a name that stays.
    #[serde(rename = "type")]
    kind: ProblemKind,
    /// The same in words.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What is wrong here, and what to do about it.
    detail: String,
    /// What the runtime says of a workspace that could not do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error: Option<Box<WorkspaceError>>,
    /// What is known of the effect of what was attempted on a workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    effect: Option<Effect>,
    /// Whether sending the same again is safe and may go better.
    retryable: bool,
}

/// The kinds of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProblemKind {
    /// No key, or one that is not known.
    Unauthorized,
    /// The key does not allow it.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The path knows other methods.
    MethodNotAllowed,
    /// There is one already, or it is in a state in which that cannot be done.
    Conflict,
    /// What is asked for makes no sense.
    InvalidRequest,
    /// The body is too large.
    TooLarge,
    /// Too many requests in too short a time.
    RateLimited,
    /// The workspace could not do it: see `error`.
    WorkspaceFailed,
    /// The workspace has too much to do.
    Overloaded,
    /// The service ends or has just begun.
    Unavailable,
    /// The service failed.
    Internal,
}

impl ProblemKind {
    const fn title(self) -> &'static str {
        match self {
            Self::Unauthorized => "A key of the service is needed",
            Self::Forbidden => "The key does not allow this",
            Self::NotFound => "There is no such thing",
            Self::MethodNotAllowed => "The path knows other methods",
            Self::Conflict => "This is in the way of what is there",
            Self::InvalidRequest => "The request makes no sense",
            Self::TooLarge => "The request is too large",
            Self::RateLimited => "Too many requests",
            Self::WorkspaceFailed => "The workspace could not do it",
            Self::Overloaded => "The workspace has too much to do",
            Self::Unavailable => "The service is not available",
            Self::Internal => "The service failed",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::InvalidRequest => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited | Self::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Self::WorkspaceFailed => StatusCode::BAD_GATEWAY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Problem {
    /// A problem of this kind.
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            title: kind.title(),
            status: kind.status().as_u16(),
            detail: detail.into(),
            error: None,
            effect: None,
            retryable: matches!(kind, ProblemKind::RateLimited | ProblemKind::Overloaded | ProblemKind::Unavailable),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

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
        response.content_type("application/problem+json").body(body)
    }
}

impl From<WorkspaceError> for Problem {
    fn from(error: WorkspaceError) -> Self {
        let kind = match &error.kind {
            ErrorKind::InvalidInput { .. } => ProblemKind::InvalidRequest,
            ErrorKind::NotFound { .. } => ProblemKind::NotFound,
            ErrorKind::Overloaded { .. } => ProblemKind::Overloaded,
            ErrorKind::Stopped { .. } => ProblemKind::Conflict,
            _ => ProblemKind::WorkspaceFailed,
        };
        let (effect, retryable) = (Some(error.effect), error.is_retryable());
        Self { effect, retryable, ..Self::new(kind, error.to_string()) }.with_error(error)
    }
}

impl Problem {
    fn with_error(mut self, error: WorkspaceError) -> Self {
        self.error = Some(Box::new(error));
        self
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Workspace(error) => error.into(),
            EngineError::NotFound { .. } => Self::new(ProblemKind::NotFound, error.to_string()),
            EngineError::Conflict(detail) => Self::new(ProblemKind::Conflict, detail),
            EngineError::Invalid(detail) => Self::new(ProblemKind::InvalidRequest, detail),
            EngineError::KeyReused => Self::new(ProblemKind::InvalidRequest, error.to_string()),
            EngineError::Overloaded(detail) => Self::new(ProblemKind::Overloaded, detail),
            EngineError::Ending => Self::new(ProblemKind::Unavailable, error.to_string()),
            EngineError::Store(error) => {
                // What is in it is for the one who runs the service.
                log::error!("{error}");
                Self::new(ProblemKind::Internal, "the store failed: the service's log says why")
            }
        }
    }
}
