use std::{cell::RefCell, rc::Rc};

use actix_web::{dev::Payload, web};
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, LocalBoxStream},
};

use super::answer::Refusal;
use crate::service::{http, server::Shared};

/// The body of a request as it comes, each piece of it in time.
pub(super) struct Pieces {
    shared: web::Data<Shared>,
    payload: Payload,
}

impl Pieces {
    pub(super) fn new(shared: web::Data<Shared>, payload: web::Payload) -> Self {
        Self { shared, payload: payload.into_inner() }
    }

    /// The next piece.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        let piece = http::next_piece(&self.shared, &mut self.payload).await?;
        Some(piece.map_err(Refusal::from))
    }

    /// The pieces as a stream to be passed on, and why it broke off where that was the client's doing.
    pub(super) fn passed(self) -> (LocalBoxStream<'static, std::io::Result<Bytes>>, Broken) {
        let broken = Broken::default();
        let noted = broken.clone();
        let pieces = stream::unfold(Some(self), move |pieces| {
            let noted = noted.clone();
            async move {
                let mut pieces = pieces?;
                match pieces.next().await? {
                    Ok(piece) => Some((Ok(piece), Some(pieces))),
                    Err(refusal) => {
                        let error = std::io::Error::other(refusal.detail().to_owned());
                        noted.0.replace(Some(refusal));
                        Some((Err(error), None))
                    }
                }
            }
        });
        (pieces.boxed_local(), broken)
    }
}

/// Why the body of a request broke off, if it did.
#[derive(Clone, Default)]
pub(super) struct Broken(Rc<RefCell<Option<Refusal>>>);

impl Broken {
    pub(super) fn take(&self) -> Option<Refusal> {
        self.0.take()
    }
}
