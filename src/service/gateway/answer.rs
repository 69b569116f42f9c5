use std::time::Duration;

use actix_web::{
    HttpResponse, ResponseError as _,
    http::{StatusCode, header::RETRY_AFTER},
};
use serde_json::json;

use crate::{
    ErrorKind, Failure, WorkspaceError,
    service::{engine::EngineError, http::Problem},
};

/// How soon somebody may come back who was turned away because there was too much to do.
const SOON: Duration = Duration::from_secs(1);

/// An answer of the gateway itself: an error, as an agent server tells it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// In the very words of agent servers.
    pub(super) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized")
    }

    pub(super) fn overloaded(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(SOON), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    pub(super) fn into_response(self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(wait) = self.retry_after {
            response.insert_header((RETRY_AFTER, wait.as_secs_f64().ceil().to_string()));
        }
        response.json(json!({ "detail": self.detail }))
    }

    /// Its words.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    fn of(kind: &ErrorKind, words: String) -> Self {
        // A failure is never told as a success, whatever number it has.
        let status = |number: u16| match StatusCode::from_u16(number) {
            Ok(status) if number >= 400 => status,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        match kind {
            ErrorKind::NotFound { detail } => Self::not_found(detail),
            ErrorKind::Rejected { status: number, detail } => Self::new(status(*number), detail),
            ErrorKind::ServerError { status: number, detail, retry_after } => {
                Self { retry_after: *retry_after, ..Self::new(status(*number), detail) }
            }
            ErrorKind::Deadline { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, words),
            ErrorKind::Overloaded { .. } | ErrorKind::Stopped { .. } => Self::overloaded(words),
            ErrorKind::InvalidInput { .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, words),
            ErrorKind::Local { .. } | ErrorKind::Panicked { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, words),
            // A key that the workspace does not accept is the service's, and not the caller's.
            _ => Self::new(StatusCode::BAD_GATEWAY, words),
        }
    }
}

impl From<WorkspaceError> for Refusal {
    fn from(error: WorkspaceError) -> Self {
        Self::of(&error.kind, error.to_string())
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::new(problem.status_code(), problem.to_string())
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::of(&failure.kind, failure.kind.to_string())
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Workspace(error) => error.into(),
            error @ EngineError::NotFound { .. } => Self::not_found(error.to_string()),
            error @ EngineError::LeftAside { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            error @ EngineError::Ending => Self::overloaded(error.to_string()),
            error => {
                log::error!("{error}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the service failed: its log says why")
            }
        }
    }
}
