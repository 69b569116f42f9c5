//! The endpoints below `/bash`.

use std::time::Duration;

use awc::http::{
    Method,
    header::{HeaderName, HeaderValue},
};
use bytes::Bytes;
use jiff::Timestamp;

use super::{agent_client::AgentClient, exchange::Call, target::Target};
use crate::{
    Failure,
    protocol::{
        BashCommand, BashEvent, BashEventKind, BashEventPage, BashOutput, ClearedEvents, EventId, SortOrder,
        StartBashCommand, Success,
    },
};

/// What to search the event log for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Only events of this kind.
    pub kind: Option<BashEventKind>,
    /// Only output of this command. The command's own event is never among it.
    pub command_id: Option<EventId>,
    /// Only commands with one of these ids in a head of their texts. The embedded agent server alone knows this, others list all
    /// commands.
    pub process_ids: Vec<EventId>,
    /// Only events at this time or later.
    pub timestamp_gte: Option<Timestamp>,
    /// Only events before this time.
    pub timestamp_lt: Option<Timestamp>,
    /// Only output with a higher order. Orders may repeat, so this can lose output.
    pub order_gt: Option<u64>,
    /// Oldest or newest first.
    pub sort: SortOrder,
    /// Where the page starts: the `next_page_id` of the one before.
    pub page_id: Option<String>,
    /// The most events of the page, 1 to 100.
    pub limit: u32,
}

impl Default for EventQuery {
    fn default() -> Self {
        Self {
            kind: None,
            command_id: None,
            process_ids: Vec::new(),
            timestamp_gte: None,
            timestamp_lt: None,
            order_gt: None,
            sort: SortOrder::OldestFirst,
            page_id: None,
            limit: 100,
        }
    }
}

impl EventQuery {
    pub(super) fn on(&self, target: Target) -> Target {
        let text = |time: Timestamp| format!("{time:.6}");
        let target = target
            .with("limit", &self.limit.to_string())
            .with_some("kind__eq", self.kind.map(BashEventKind::as_str))
            .with_some("command_id__eq", self.command_id.map(|id| id.to_string()).as_deref())
            .with_some("timestamp__gte", self.timestamp_gte.map(text).as_deref())
            .with_some("timestamp__lt", self.timestamp_lt.map(text).as_deref())
            .with_some("order__gt", self.order_gt.map(|order| order.to_string()).as_deref())
            .with_some("sort_order", (self.sort != SortOrder::default()).then_some(self.sort.as_str()))
            .with_some("page_id", self.page_id.as_deref());
        self.process_ids.iter().fold(target, |target, id| target.with("process_id__eq", &id.to_string()))
    }
}

impl AgentClient {
    /// Starts a command. The key lets a server that knows it answer a repeated start with the first one.
    ///
    /// # Errors
    /// As any request; a failure says whether the command may have been started.
    pub async fn start_bash_command(
        &self,
        start: &StartBashCommand,
        idempotency_key: Option<EventId>,
    ) -> Result<BashCommand, Failure> {
        let mut call = Call::post(self, self.api("/bash/start_bash_command")).json(body(start)?).small();
        if let Some(key) = idempotency_key {
            let value = HeaderValue::from_str(&key.to_string()).map_err(|error| Failure::invalid(error.to_string()))?;
            call = call.header(HeaderName::from_static("idempotency-key"), value);
        }
        self.ask(call).await
    }

    /// Runs a command to its end in one request, which may take as long as `wait`.
    ///
    /// Servers up to 1.43 answer with the last piece of the output only.
    ///
    /// # Errors
    /// As any request; a failure says whether the command may have been started.
    pub async fn execute_bash_command(&self, start: &StartBashCommand, wait: Duration) -> Result<BashOutput, Failure> {
        let target = self.api("/bash/execute_bash_command");
        self.ask(Call::post(self, target).json(body(start)?).long(wait)).await
    }

    /// One page of the event log.
    ///
    /// # Errors
    /// As any request.
    pub async fn search_bash_events(&self, query: &EventQuery) -> Result<BashEventPage, Failure> {
        let page = self.fetch_page(query, Vec::new()).await?;
        self.read_page(&page, |_| {}).await
    }

    /// One event.
    ///
    /// # Errors
    /// As any request; an unknown id is `NotFound`.
    pub async fn bash_event(&self, id: EventId) -> Result<BashEvent, Failure> {
        self.ask(Call::get(self, self.api(&format!("/bash/bash_events/{id}")))).await
    }

    /// Empties the event log. Running commands go on.
    ///
    /// # Errors
    /// As any request.
    pub async fn clear_bash_events(&self) -> Result<ClearedEvents, Failure> {
        self.ask(Call::new(self, Method::DELETE, self.api("/bash/bash_events")).small()).await
    }

    /// Stops a command, and answers when its shell has ended.
    ///
    /// # Errors
    /// As any request. `NotFound` is an unknown command, or a server up to 1.43, which has no such route.
    pub async fn stop_bash_command(&self, id: EventId) -> Result<Success, Failure> {
        self.ask(Call::post(self, self.api(&format!("/bash/bash_commands/{id}/stop"))).small()).await
    }
}

/// A value as the JSON of a request.
pub(super) fn body(value: &impl serde::Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Failure::invalid(format!("the request cannot be written as JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_sends_only_what_it_asks_for() {
        let bare = EventQuery::default().on(Target::new("", 0, "/search"));
        assert_eq!(bare.uri(), "/search?limit=100");
        let id: EventId = "0f8fad5bd9cb469fa16570867728950e".parse().unwrap();
        let full = EventQuery {
            kind: Some(BashEventKind::Output),
            command_id: Some(id),
            process_ids: vec![id, id],
            timestamp_gte: Some("2026-01-02T03:04:05.000006Z".parse().unwrap()),
            timestamp_lt: Some("2026-01-02T03:04:06Z".parse().unwrap()),
            order_gt: Some(0),
            sort: SortOrder::NewestFirst,
            page_id: Some("a b".to_owned()),
            limit: 8,
        };
        assert_eq!(
            full.on(Target::new("", 0, "/search")).uri(),
            "/search?limit=8&kind__eq=BashOutput&command_id__eq=0f8fad5bd9cb469fa16570867728950e\
             &timestamp__gte=2026-01-02T03%3A04%3A05.000006Z&timestamp__lt=2026-01-02T03%3A04%3A06.000000Z\
             &order__gt=0&sort_order=TIMESTAMP_DESC&page_id=a%20b\
             &process_id__eq=0f8fad5bd9cb469fa16570867728950e&process_id__eq=0f8fad5bd9cb469fa16570867728950e"
        );
    }
}
