//! Answers, errors and request parsing in the manner of the server that this one stands in for.

mod body;
mod checks;
mod error;
mod json_error;
mod query;

pub(crate) use body::{Timed, drain, read_json, unreadable};
pub(crate) use checks::{Bounds, Checks, Fault, integer, uuid};
pub(crate) use error::{ApiError, ApiResult, os_error_text, os_error_words, python_repr};
pub(crate) use json_error::json_fault;
pub(crate) use query::QueryParams;
