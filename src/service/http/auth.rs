use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header::AUTHORIZATION, web};
use secrecy::ExposeSecret as _;

use super::{Problem, ProblemKind};
use crate::service::{
    config::{Access, ApiKey},
    server::Shared,
};

/// A request that may look.
pub(crate) struct Authorized {
    /// Whose key it has; empty where no key is asked for.
    pub(crate) caller: String,
    /// What it may do.
    pub(crate) access: Access,
}

/// A request that may change something.
pub(crate) struct Writer(pub(crate) Authorized);

impl Authorized {
    /// Finds out who asks.
    pub(crate) fn check(request: &HttpRequest) -> Result<Self, Problem> {
        match request.app_data::<web::Data<Shared>>() {
            Some(shared) => Self::by_key(shared, given(request)),
            None => Err(Problem::new(ProblemKind::Internal, "the service knows no keys")),
        }
    }

    /// Finds out who has this key.
    pub(crate) fn by_key(shared: &Shared, given: Option<&str>) -> Result<Self, Problem> {
        let keys: &[ApiKey] = &shared.config.keys;
        if keys.is_empty() {
            return Ok(Self { caller: String::new(), access: Access::Full });
        }
        let given = given.ok_or_else(|| {
            Problem::new(
                ProblemKind::Unauthorized,
                "no key: send one as `Authorization: Bearer KEY` or as `X-Session-API-Key: KEY`",
            )
        })?;
        // Each is compared, and in a time that says nothing about how much of it is right.
        let found = keys.iter().fold(None, |found, key| if is_same(&key.secret, given) { Some(key) } else { found });
        let key = found.ok_or_else(|| Problem::new(ProblemKind::Unauthorized, "the key is not one of this service"))?;
        Ok(Self { caller: key.name.clone(), access: key.access })
    }
}

fn given(request: &HttpRequest) -> Option<&str> {
    let headers = request.headers();
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    bearer.or_else(|| headers.get("x-session-api-key")?.to_str().ok())
}

fn is_same(secret: &secrecy::SecretString, given: &str) -> bool {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let (secret, given) = (digest(secret.expose_secret()), digest(given));
    secret.as_ref().iter().zip(given.as_ref()).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

impl FromRequest for Authorized {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::check(request))
    }
}

impl FromRequest for Writer {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Authorized::check(request).and_then(|authorized| match authorized.access {
            Access::Full => Ok(Self(authorized)),
            Access::ReadOnly => Err(Problem::new(
                ProblemKind::Forbidden,
                format!("the key of {} allows to look and not to change anything", authorized.caller),
            )),
        }))
    }
}
