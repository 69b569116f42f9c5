use std::ops::Range;

use super::{
    event::Event,
    log::{Entry, EventLog},
    timestamp::{self, Micros},
};
use crate::{
    agent::http::{ApiResult, Bounds, Checks, QueryParams, integer, uuid},
    protocol::{BashEventKind, CommandHead, EventId},
};

/// What a search asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) kind: Option<BashEventKind>,
    pub(super) command: Option<EventId>,
    /// Only commands with one of these in a head of their texts, where there are any.
    pub(super) process_ids: Vec<EventId>,
    pub(super) since: Option<Micros>,
    pub(super) before: Option<Micros>,
    pub(super) order_above: Option<i64>,
    pub(super) newest_first: bool,
    /// The first event of the page, inclusive, in the direction of the search.
    pub(super) from: Option<Micros>,
    pub(super) limit: usize,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            kind: None,
            command: None,
            process_ids: Vec::new(),
            since: None,
            before: None,
            order_above: None,
            newest_first: false,
            from: None,
            limit: 100,
        }
    }
}

/// One page of a search.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) events: Vec<Event>,
    /// The name of the first event of the next page.
    pub(super) next: Option<String>,
}

impl Search {
    /// Reads a search from a query.
    pub(super) fn of(query: &QueryParams) -> ApiResult<Self> {
        let mut checks = Checks::default();
        let kinds = [BashEventKind::Command, BashEventKind::Output];
        let kind = checks.choice(query, "kind__eq", "literal_error", &kinds.map(BashEventKind::as_str));
        let command = checks.query(query, "command_id__eq", uuid);
        let process_ids = checks.queries(query, "process_id__eq", uuid);
        let since = checks.query(query, "timestamp__gte", timestamp::parse);
        let before = checks.query(query, "timestamp__lt", timestamp::parse);
        let order_above = checks.query(query, "order__gt", integer);
        let order = checks.choice(query, "sort_order", "enum", &["TIMESTAMP", "TIMESTAMP_DESC"]);
        let limit = checks.limit(query, "limit", Bounds::Positive(100), 100);
        // The name of an event that is gone still says where to go on; any other text means the beginning.
        let from = query.get("page_id").and_then(timestamp::from_digits);
        let newest_first = order == Some(1);
        let kind = kind.map(|at| kinds[at]);
        checks.finish(Self { kind, command, process_ids, since, before, order_above, newest_first, from, limit })
    }

    /// The keys it may give.
    fn keys(&self) -> Range<Micros> {
        let (mut low, mut high) = (self.since.unwrap_or(Micros::MIN), self.before.unwrap_or(Micros::MAX));
        match self.from {
            Some(from) if self.newest_first => high = high.min(from.saturating_add(1)),
            Some(from) => low = low.max(from),
            None => {}
        }
        low..high.max(low)
    }

    fn wants(&self, event: &Event) -> bool {
        match (event, self.order_above) {
            (Event::Command(command), _) => self.process_ids.is_empty() || self.is_of_a_head(&command.command),
            (Event::Output(output), Some(above)) => i64::from(output.order) > above,
            _ => true,
        }
    }

    /// Whether a text has one of the ids in a head. A gateway may have put its own head before a client's.
    fn is_of_a_head(&self, text: &str) -> bool {
        std::iter::successors(CommandHead::strip(text), |(_, rest)| CommandHead::strip(rest))
            .any(|(head, _)| self.process_ids.contains(&head.id()))
    }

    fn lists_commands(&self) -> bool {
        self.kind != Some(BashEventKind::Output)
    }

    fn lists_outputs(&self) -> bool {
        self.kind != Some(BashEventKind::Command) && self.process_ids.is_empty()
    }
}

impl EventLog {
    /// Carries out a search. With a command given it takes O(log n + page); without one it also passes over the events
    /// that only `order_above` and `process_ids` leave out.
    pub(super) fn search(&self, search: &Search) -> Page {
        let mut events: Vec<_> = match search.command {
            Some(id) => match self.entries.get(&id) {
                Some(entry) if search.lists_outputs() => self.of_command(entry, search),
                _ => Vec::new(),
            },
            None if search.newest_first => {
                let page = self.by_time(search).rev().filter(|event| search.wants(event));
                page.take(search.limit + 1).collect()
            }
            None => self.by_time(search).filter(|event| search.wants(event)).take(search.limit + 1).collect(),
        };
        let next = events.get(search.limit).map(Event::name);
        events.truncate(search.limit);
        Page { events, next }
    }

    fn of_command(&self, entry: &Entry, search: &Search) -> Vec<Event> {
        let keys = search.keys();
        let outputs = &entry.outputs;
        let by_order = search.order_above.map_or(0, |above| outputs.partition_point(|(o, _)| i64::from(*o) <= above));
        let low = outputs.partition_point(|(_, at)| *at < keys.start).max(by_order);
        let high = outputs.partition_point(|(_, at)| *at < keys.end).max(low);
        let found = outputs.range(low..high).map(|(_, at)| at);
        let found: Vec<_> = if search.newest_first {
            found.rev().take(search.limit + 1).collect()
        } else {
            found.take(search.limit + 1).collect()
        };
        found.into_iter().filter_map(|at| self.outputs_by_time.get(at).cloned().map(Event::Output)).collect()
    }

    /// Commands and outputs in one sequence.
    fn by_time(&self, search: &Search) -> impl DoubleEndedIterator<Item = Event> {
        let nothing = 0..0;
        let keys = search.keys();
        let commands = if search.lists_commands() { keys.clone() } else { nothing.clone() };
        let outputs = if search.lists_outputs() { keys } else { nothing };
        let commands = self.commands_by_time.range(commands).map(|(_, command)| Event::Command(command.clone()));
        let outputs = self.outputs_by_time.range(outputs).map(|(_, output)| Event::Output(output.clone()));
        Merged { left: commands, right: outputs, front: (None, None), back: (None, None) }
    }
}

/// Two sequences of events, each in the order of their keys, as one.
struct Merged<L, R> {
    left: L,
    right: R,
    front: (Option<Event>, Option<Event>),
    back: (Option<Event>, Option<Event>),
}

impl<L: DoubleEndedIterator<Item = Event>, R: DoubleEndedIterator<Item = Event>> Iterator for Merged<L, R> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let (left, right) = &mut self.front;
        *left = left.take().or_else(|| self.left.next()).or_else(|| self.back.0.take());
        *right = right.take().or_else(|| self.right.next()).or_else(|| self.back.1.take());
        match (&left, &right) {
            (Some(a), Some(b)) if b.at() < a.at() => right.take(),
            (Some(_), _) => left.take(),
            (None, _) => right.take(),
        }
    }
}

impl<L: DoubleEndedIterator<Item = Event>, R: DoubleEndedIterator<Item = Event>> DoubleEndedIterator for Merged<L, R> {
    fn next_back(&mut self) -> Option<Event> {
        let (left, right) = &mut self.back;
        *left = left.take().or_else(|| self.left.next_back()).or_else(|| self.front.0.take());
        *right = right.take().or_else(|| self.right.next_back()).or_else(|| self.front.1.take());
        match (&left, &right) {
            (Some(a), Some(b)) if b.at() > a.at() => right.take(),
            (Some(_), _) => left.take(),
            (None, _) => right.take(),
        }
    }
}
