use std::{pin::Pin, time::Duration};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    error::PayloadError,
    http::header::{CONTENT_LENGTH, CONTENT_TYPE},
    web::{self, Bytes, BytesMut},
};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{Authorized, Problem, ProblemKind};
use crate::service::{server::Shared, strict};

/// The largest JSON body.
pub(crate) const JSON_LIMIT: usize = 4 << 20;

/// How long a JSON body may take in all.
const JSON_TIME: Duration = Duration::from_secs(60);

/// A request's body as JSON, with its bytes.
pub(crate) struct Json<T> {
    /// What it says.
    pub(crate) value: T,
    /// As it came.
    pub(crate) bytes: Bytes,
}

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        // Nothing is read for those who have no key.
        let checked = Authorized::check(request).map(drop).and_then(|()| check_type(request));
        let announced = announced(request);
        let shared = request.app_data::<web::Data<Shared>>().cloned();
        let payload = payload.take();
        Box::pin(async move {
            checked?;
            let shared = shared.ok_or_else(|| Problem::new(ProblemKind::Internal, "the service has no settings"))?;
            let bytes = match timeout(JSON_TIME, read_all(&shared, payload, announced)).await {
                Ok(bytes) => bytes?,
                Err(_) => return Err(too_slow()),
            };
            let value = read_strictly(&mut serde_json::Deserializer::from_slice(&bytes))?;
            Ok(Self { value, bytes })
        })
    }
}

/// The length that a request announces.
pub(crate) fn announced(request: &HttpRequest) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn check_type(request: &HttpRequest) -> Result<(), Problem> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let found = if essence.is_empty() { "none".to_owned() } else { format!("`{}`", essence.escape_debug()) };
    let detail = format!("the body is JSON here, with `Content-Type: application/json`, and not {found}");
    Err(Problem::new(ProblemKind::UnsupportedMediaType, detail))
}

async fn read_all(shared: &Shared, mut payload: Payload, announced: Option<u64>) -> Result<Bytes, Problem> {
    if announced.is_some_and(|length| length > JSON_LIMIT as u64) {
        return Err(too_large());
    }
    let mut bytes = BytesMut::new();
    while let Some(piece) = next_piece(shared, &mut payload).await {
        let piece = piece?;
        if bytes.len() + piece.len() > JSON_LIMIT {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// The next piece of a body, which must come in time.
pub(crate) async fn next_piece(shared: &Shared, payload: &mut Payload) -> Option<Result<Bytes, Problem>> {
    match timeout(shared.config.body_idle, payload.next()).await {
        Err(_) => Some(Err(too_slow())),
        Ok(None) => None,
        Ok(Some(piece)) => Some(piece.map_err(|error| broken(&error))),
    }
}

fn broken(error: &PayloadError) -> Problem {
    match error {
        PayloadError::Overflow => too_large(),
        error => Problem::new(ProblemKind::Malformed, format!("the body cannot be read: {error}")),
    }
}

fn too_large() -> Problem {
    Problem::new(ProblemKind::TooLarge, format!("a JSON body has {JSON_LIMIT} bytes at most"))
}

fn too_slow() -> Problem {
    Problem::new(ProblemKind::TooSlow, "the body did not arrive in time")
}

/// Reads what the JSON of a request says, of which nothing is passed over.
pub(crate) fn read_strictly<'de, T: serde::Deserialize<'de>, R: serde_json::de::Read<'de>>(
    json: &mut serde_json::Deserializer<R>,
) -> Result<T, Problem> {
    let read = strict::read(&mut *json);
    match read.and_then(|read| json.end().map(|()| read)).map_err(|error| wrong(&error))? {
        (value, None) => Ok(value),
        (_, Some(path)) => Err(Problem::invalid(format!("there is no setting `{path}` here"))),
    }
}

/// What is said of JSON that is broken, or says what makes no sense here.
fn wrong(error: &serde_json::Error) -> Problem {
    let kind = if error.is_data() { ProblemKind::InvalidRequest } else { ProblemKind::Malformed };
    Problem::new(kind, format!("the body is wrong: {error}")).at(error.line(), error.column())
}
