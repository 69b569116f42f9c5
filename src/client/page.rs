//! Pages of the event log. One is fetched first and read then, so that the next can come while it is read.

use awc::ClientResponse;

use super::{
    agent_client::AgentClient,
    bash::EventQuery,
    body::{self, Bounds},
    exchange::Call,
    turns::{PIECE, turn_for},
};
use crate::{
    Failure,
    protocol::{BashEventPage, UnreadEventPage},
};

/// A page that has come, and is yet to be read.
pub(crate) struct FetchedPage {
    /// Its JSON. When it has been read, another page may take its memory.
    pub(crate) body: Vec<u8>,
    answer: ClientResponse,
    name: String,
}

/// What a large page tells before its events are read.
pub(crate) struct Foretold<'a> {
    /// The name of the page that comes after it.
    pub(crate) next: &'a str,
    /// How many events it has.
    pub(crate) events: usize,
    /// How long it is.
    pub(crate) bytes: usize,
}

impl AgentClient {
    /// One page of the event log, yet to be read. It comes into memory that may have had another one.
    ///
    /// # Errors
    /// As any request.
    pub(crate) async fn fetch_page(&self, query: &EventQuery, memory: Vec<u8>) -> Result<FetchedPage, Failure> {
        let call = Call::get(self, query.on(self.api("/bash/bash_events/search")));
        let name = call.name();
        let mut answer = self.answer(call).await?;
        let body = self.read_body(memory, &mut answer, Bounds::json(self.limits()), &name).await?;
        Ok(FetchedPage { body, answer, name })
    }

    /// Reads the events of a page one after the other, as it may be large. Of one that is, and is not the last, it is foretold
    /// what comes next.
    ///
    /// # Errors
    /// What the server says is not what is expected.
    pub(crate) async fn read_page(
        &self,
        page: &FetchedPage,
        foretell: impl FnOnce(Foretold<'_>),
    ) -> Result<BashEventPage, Failure> {
        let FetchedPage { body, answer, name } = page;
        let (secrets, headers) = (self.secrets(), answer.headers());
        if body.len() <= PIECE {
            return secrets.reading(body, |body| body::parse(body, headers, name));
        }
        turn_for(body.len()).await;
        let page: UnreadEventPage<'_> = body::parse(body, headers, name).map_err(|failure| {
            secrets.told_of(body, failure, |body| body::parse::<UnreadEventPage<'_>>(body, headers, name).err())
        })?;
        if let Some(next) = &page.next_page_id {
            foretell(Foretold { next, events: page.items.len(), bytes: body.len() });
        }
        let (mut items, mut taken) = (Vec::with_capacity(page.items.len()), 0);
        for event in page.items {
            let event = event.get().as_bytes();
            taken += event.len();
            if taken > PIECE {
                turn_for(taken).await;
                taken = event.len();
            }
            items.push(secrets.reading(event, |event| body::parse(event, headers, name))?);
        }
        Ok(BashEventPage { items, next_page_id: page.next_page_id })
    }
}
