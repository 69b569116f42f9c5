use std::{collections::HashSet, rc::Rc};

use crate::{
    Failure,
    client::{AgentClient, EventQuery},
    protocol::{BashCommand, BashEvent, BashEventKind, BashOutput, CommandHead, EventId, SortOrder},
    workspace::core::Core,
};

/// How much text a page should bring. A page of 100 full chunks would be 118 MB.
const PAGE_BYTES: usize = 8 << 20;
const SMALLEST_PAGE: u32 = 8;
const LARGEST_PAGE: u32 = 100;

/// How many pages are searched for a command whose start was lost: more events than servers keep.
const MOST_PAGES: usize = 1_000;

/// Chooses how many events a page brings, by the size of those before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pages {
    limit: u32,
}

impl Default for Pages {
    fn default() -> Self {
        Self { limit: SMALLEST_PAGE }
    }
}

impl Pages {
    pub(super) fn limit(self) -> u32 {
        self.limit
    }

    pub(super) fn learn(&mut self, events: &[BashEvent]) {
        if events.is_empty() {
            return;
        }
        let bytes: usize = events.iter().map(text_bytes).sum();
        let fitting = PAGE_BYTES / (bytes / events.len()).max(1);
        self.limit = u32::try_from(fitting).unwrap_or(LARGEST_PAGE).clamp(SMALLEST_PAGE, LARGEST_PAGE);
    }
}

fn text_bytes(event: &BashEvent) -> usize {
    match event {
        BashEvent::Output(output) => {
            output.stdout.as_ref().map_or(0, String::len) + output.stderr.as_ref().map_or(0, String::len)
        }
        BashEvent::Command(command) => command.command.len(),
        BashEvent::Error(_) | BashEvent::Unknown => 0,
    }
}

/// A search that is read page by page.
pub(super) struct Search {
    query: EventQuery,
    visited: HashSet<String>,
    ended: bool,
}

impl Search {
    pub(super) fn new(query: EventQuery) -> Self {
        Self { query, visited: HashSet::new(), ended: false }
    }

    /// The next page; `None` after the last.
    pub(super) async fn next(
        &mut self,
        client: &AgentClient,
        pages: &mut Pages,
    ) -> Result<Option<Vec<BashEvent>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        self.query.limit = pages.limit();
        let page = client.search_bash_events(&self.query).await?;
        pages.learn(&page.items);
        match page.next_page_id {
            Some(next) if self.visited.insert(next.clone()) => self.query.page_id = Some(next),
            Some(next) => {
                return Err(Failure::protocol(format!("the pages of a search go round in circles at {next}")));
            }
            None => self.ended = true,
        }
        Ok(Some(page.items))
    }
}

/// Reads all output of one command.
pub(crate) async fn read_all(
    client: &AgentClient,
    id: EventId,
    mut each: impl FnMut(BashOutput),
) -> Result<(), Failure> {
    let query = EventQuery { kind: Some(BashEventKind::Output), command_id: Some(id), ..EventQuery::default() };
    let (mut search, mut pages) = (Search::new(query), Pages::default());
    while let Some(events) = search.next(client, &mut pages).await? {
        events.into_iter().filter_map(output_of(id)).for_each(&mut each);
    }
    Ok(())
}

/// The newest output event of a command: its last one, once it has ended.
pub(crate) async fn last_output(client: &AgentClient, id: EventId) -> Result<Option<BashOutput>, Failure> {
    let query = EventQuery {
        kind: Some(BashEventKind::Output),
        command_id: Some(id),
        sort: SortOrder::NewestFirst,
        limit: 1,
        ..EventQuery::default()
    };
    let page = client.search_bash_events(&query).await?;
    Ok(page.items.into_iter().find_map(output_of(id)))
}

/// Takes the output of one command out of what a server sends.
fn output_of(id: EventId) -> impl Fn(BashEvent) -> Option<BashOutput> {
    move |event| match event {
        BashEvent::Output(output) if output.command_id == id => Some(output),
        _ => None,
    }
}

/// Looks for a command by the head of its text.
///
/// All commands are looked through, the newest first: the time of a lost start is not known, since a server's clock may
/// have been set back.
pub(crate) async fn find_command(core: &Rc<Core>, head: CommandHead) -> Result<Option<BashCommand>, Failure> {
    let client = core.client()?;
    let query =
        EventQuery { kind: Some(BashEventKind::Command), sort: SortOrder::NewestFirst, ..EventQuery::default() };
    let (mut search, mut pages) = (Search::new(query), Pages::default());
    for _ in 0..MOST_PAGES {
        let Some(events) = search.next(&client, &mut pages).await? else { return Ok(None) };
        let found = events.into_iter().find_map(|event| match event {
            BashEvent::Command(command) => {
                CommandHead::strip(&command.command).is_some_and(|(found, _)| found == head).then_some(command)
            }
            _ => None,
        });
        if found.is_some() {
            return Ok(found);
        }
    }
    Err(Failure::protocol("the server lists more commands than can be searched"))
}
