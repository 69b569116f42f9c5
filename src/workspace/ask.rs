use std::{future::Future, sync::Arc};

use actix::{Addr, dev::SendError};
use tokio::sync::oneshot;

use super::{
    RemoteWorkspace,
    behalf::Behalf,
    messages::{Ask, Call},
};
use crate::{ErrorKind, Failure};

/// Sends a message to a workspace at once, and waits for its answer.
///
/// Nothing is ever held back on this side, where later messages could overtake it: a mailbox that is full answers
/// `Overloaded`.
pub(crate) fn ask<M: Ask>(
    workspace: Arc<str>,
    address: &Addr<RemoteWorkspace>,
    message: M,
    behalf: Behalf,
) -> impl Future<Output = M::Result> + Send + 'static + use<M> {
    let (answer, answered) = oneshot::channel();
    let sent = address.try_send(Call { message, answer, behalf });
    async move {
        let failure = match sent {
            Ok(()) => match answered.await {
                Ok(answer) => return answer,
                Err(_) => Failure::maybe_sent(stopped("the workspace's actor ended before it answered")),
            },
            Err(SendError::Full(_)) => {
                let reason =
                    "the workspace has not yet taken in the messages before this one; send fewer at once".to_owned();
                Failure::not_sent(ErrorKind::Overloaded { reason })
            }
            Err(SendError::Closed(_)) => Failure::not_sent(stopped("the workspace was removed or shut down")),
        };
        Err(failure.on(&workspace, M::OPERATION))
    }
}

fn stopped(reason: &str) -> ErrorKind {
    ErrorKind::Stopped { reason: reason.to_owned() }
}
