use std::{mem::take, panic::resume_unwind, rc::Rc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    ErrorKind, Failure,
    client::{AgentClient, EventQuery, FetchedPage, Foretold, carried},
    protocol::{BashCommand, BashEvent, BashEventKind, BashEventPage, BashOutput, CommandHead, EventId, SortOrder},
    workspace::core::Core,
};

/// How much text a page should bring. A page of 100 full chunks would be 118 MB.
const PAGE_BYTES: usize = 4 << 20;
/// How large a page may be, in JSON, for the next one to come beside it.
const MOST_BESIDE: usize = 4 * PAGE_BYTES;
const SMALLEST_PAGE: u32 = 4;
const LARGEST_PAGE: u32 = 100;

/// How many commands the first page of a search for them brings. None is longer than 128 KiB.
const FIRST_PAGE_OF_COMMANDS: u32 = 32;

/// How often a search for a command begins anew. After that a page that is refused is asked for again, and is believed in the end.
const MOST_RESTARTS: u32 = 3;

/// How many pages are searched for a command whose start was lost: a million commands.
const MOST_PAGES: usize = 10_000;

/// How many pages a search may have. Each brings an event at least, and where events are small a hundred.
const LONGEST_SEARCH: u64 = 100_000;

/// How much output is read at once.
const MOST_OUTPUT: usize = 1 << 30;

/// How many pages in a row may have nothing on them. An event that is being written is left out of its page.
const MOST_EMPTY: u64 = 100;

/// How long to wait before a page is asked for once more.
const PAGE_WAIT: Duration = Duration::from_millis(25);

/// How long the name of a page may be. It goes into the address of the next request.
const LONGEST_NAME: usize = 1_024;

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

    /// Takes in how many events a page had, and how much text.
    pub(super) fn learn(&mut self, events: usize, bytes: usize) {
        if events == 0 {
            return;
        }
        let fitting = PAGE_BYTES / (bytes / events).max(1);
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
    /// How many pages were read.
    pages: u64,
    /// How many in a row had nothing on them.
    empty: u64,
    /// How many bytes of text the pages had.
    brought: usize,
    /// The name of a page that was read. To meet it again is to go round in circles, which is noticed in time however long
    /// the circle is, since it is replaced ever more seldom.
    landmark: Option<String>,
    /// The page of this name, which comes while the one before it is read and handed out.
    ahead: Option<(String, AbortOnDropHandle<Result<FetchedPage, Failure>>)>,
    /// Memory of a page that was read, for the next one: what is new comes from the system, page by page.
    memory: Vec<u8>,
    ended: bool,
}

impl Search {
    pub(super) fn new(query: EventQuery) -> Self {
        Self { query, pages: 0, empty: 0, brought: 0, landmark: None, ahead: None, memory: Vec::new(), ended: false }
    }

    /// How many bytes of text its pages have brought.
    pub(super) fn brought(&self) -> usize {
        self.brought
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
        let page = match self.page(client, *pages).await {
            Err(failure) if self.may_ask_again(&failure) => {
                actix_rt::time::sleep(PAGE_WAIT).await;
                self.page(client, *pages).await?
            }
            page => page?,
        };
        let bytes = page.items.iter().map(text_bytes).sum();
        pages.learn(page.items.len(), bytes);
        self.brought += bytes;
        match page.next_page_id {
            Some(next) => self.turn_to(next, page.items.is_empty()).map_err(Failure::protocol)?,
            None => self.ended = true,
        }
        Ok(Some(page.items))
    }

    /// Reads the page that is next, and asks for the one after it meanwhile.
    async fn page(&mut self, client: &AgentClient, pages: Pages) -> Result<BashEventPage, Failure> {
        let page = match self.ahead.take() {
            Some((name, ahead)) if self.query.page_id.as_ref() == Some(&name) => {
                ahead.await.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()))
            }
            _ => client.fetch_page(&self.query, take(&mut self.memory)).await,
        }?;
        let read = client.read_page(&page, |foretold| self.look_ahead(client, pages, &foretold)).await;
        if page.body.len() <= MOST_BESIDE && read.as_ref().is_ok_and(|page| page.next_page_id.is_some()) {
            self.memory = page.body;
        }
        read
    }

    /// Asks for the page after one that is being read. Not after the first: whoever has no room for more than one asks for no
    /// other soon. Nor after one that is far larger than was asked for: two of them may be more than there is room for.
    fn look_ahead(&mut self, client: &AgentClient, mut pages: Pages, foretold: &Foretold<'_>) {
        if self.pages == 0 || foretold.next.len() > LONGEST_NAME || foretold.bytes > MOST_BESIDE {
            return;
        }
        pages.learn(foretold.events, foretold.bytes);
        let name = foretold.next.to_owned();
        let query = EventQuery { page_id: Some(name.clone()), limit: pages.limit(), ..self.query.clone() };
        let client = client.clone();
        let memory = take(&mut self.memory);
        let asked = actix_rt::spawn(carried(async move { client.fetch_page(&query, memory).await }));
        self.ahead = Some((name, AbortOnDropHandle::new(asked)));
    }

    /// Whether a page that has failed is asked for once more: the server has just answered for the page before it, and where
    /// one request in ten gets lost, hardly any search of many pages would get to its end otherwise. What has taken long
    /// already, or is to be waited for, is left to whoever searches.
    fn may_ask_again(&self, failure: &Failure) -> bool {
        let takes_long =
            matches!(failure.kind, ErrorKind::Deadline { .. } | ErrorKind::ServerError { retry_after: Some(_), .. });
        self.pages > 0 && failure.kind.is_transient() && !takes_long
    }

    /// Goes on to another page, unless the way there has no end.
    fn turn_to(&mut self, next: String, is_empty: bool) -> Result<(), String> {
        self.pages += 1;
        if next.len() > LONGEST_NAME {
            return Err(format!("the server names the next page of a search with {} bytes", next.len()));
        }
        // Old servers look at the order only after a page was cut, and leave nothing of most pages.
        self.empty = if is_empty && self.query.order_gt.is_none() { self.empty + 1 } else { 0 };
        if self.empty > MOST_EMPTY {
            return Err(format!("{MOST_EMPTY} pages of a search have no events and are not the last"));
        }
        if self.pages > LONGEST_SEARCH {
            return Err(format!("a search has more than {LONGEST_SEARCH} pages"));
        }
        if self.landmark.as_ref() == Some(&next) {
            return Err(format!("the pages of a search go round in circles at {}", next.escape_debug()));
        }
        if self.pages.is_power_of_two() {
            self.landmark = Some(next.clone());
        }
        self.query.page_id = Some(next);
        Ok(())
    }
}

/// Reads all output of one command, as far as one can hold it.
pub(crate) async fn read_all<T>(
    client: &AgentClient,
    id: EventId,
    mut each: impl FnMut(BashOutput) -> T,
) -> Result<(), Failure> {
    let query = EventQuery { kind: Some(BashEventKind::Output), command_id: Some(id), ..EventQuery::default() };
    let (mut search, mut pages) = (Search::new(query), Pages::default());
    let mut bytes = 0;
    while let Some(events) = search.next(client, &mut pages).await? {
        bytes += events.iter().map(text_bytes).sum::<usize>();
        if bytes > MOST_OUTPUT {
            return Err(Failure::protocol(format!(
                "the command has written more than {MOST_OUTPUT} bytes: let it write into a file and download that, or follow it"
            )));
        }
        for output in events.into_iter().filter_map(output_of(id)) {
            each(output);
        }
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

/// Looks for commands by the heads of their texts: for the newest command of each.
///
/// The embedded agent server lists only these. Others list all commands, from the newest on. That may take many pages, and so
/// a page that cannot be read is read again, and not those before it.
pub(crate) struct CommandSearch<'a> {
    heads: &'a [CommandHead],
    reach: CommandReach,
    newest: Option<Timestamp>,
    search: Search,
    pages: Pages,
    read: usize,
    restarts: u32,
    found: Vec<(CommandHead, BashCommand)>,
}

/// How far back a search for commands looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandReach {
    /// At all of them: the time of a lost start is not surely known, since a server's clock may have been set back.
    All,
    /// At those of this long before the newest one, which will do where missing one does no harm.
    Recent(SignedDuration),
}

impl<'a> CommandSearch<'a> {
    pub(crate) fn new(heads: &'a [CommandHead], reach: CommandReach) -> Self {
        let pages = Pages { limit: FIRST_PAGE_OF_COMMANDS };
        Self { heads, reach, newest: None, search: Self::search(heads), pages, read: 0, restarts: 0, found: Vec::new() }
    }

    fn search(heads: &[CommandHead]) -> Search {
        let (kind, sort) = (Some(BashEventKind::Command), SortOrder::NewestFirst);
        let process_ids = heads.iter().map(|head| head.id()).collect();
        Search::new(EventQuery { kind, sort, process_ids, ..EventQuery::default() })
    }

    /// Reads one page. Returns whether that was enough. After a failure it goes on where it was.
    pub(crate) async fn read_page(&mut self, core: &Rc<Core>) -> Result<bool, Failure> {
        if self.read == MOST_PAGES {
            return Err(Failure::protocol("the server lists more commands than can be searched"));
        }
        let page = self.search.next(&core.client()?, &mut self.pages).await.inspect_err(|failure| {
            if !failure.kind.is_transient() && self.search.query.page_id.is_some() && self.restarts < MOST_RESTARTS {
                // The log may have been cleared, and with it went the page.
                (self.search, self.newest) = (Self::search(self.heads), None);
                self.restarts += 1;
            }
        })?;
        self.read += 1;
        let Some(events) = page else { return Ok(true) };
        let mut is_past = false;
        for event in events {
            let BashEvent::Command(command) = event else { continue };
            is_past |= self.is_past(command.timestamp);
            let Some((head, _)) = CommandHead::strip(&command.command) else { continue };
            if self.heads.contains(&head) && self.found.iter().all(|(known, _)| *known != head) {
                self.found.push((head, command));
            }
        }
        Ok(is_past || self.found.len() == self.heads.len())
    }

    /// Whether a command of this time is farther back than is looked.
    fn is_past(&mut self, time: Timestamp) -> bool {
        let newest = *self.newest.get_or_insert(time);
        matches!(self.reach, CommandReach::Recent(span) if newest.duration_since(time) > span)
    }

    /// What was found.
    pub(crate) fn found(self) -> Vec<(CommandHead, BashCommand)> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pages are read that are named so.
    fn read(mut name: impl FnMut(u64) -> String) -> (u64, String) {
        let mut search = Search::new(EventQuery::default());
        loop {
            match search.turn_to(name(search.pages), false) {
                Ok(()) => {}
                Err(why) => return (search.pages, why),
            }
        }
    }

    #[test]
    fn a_circle_is_noticed_however_long_it_is_and_wherever_it_begins() {
        for (before, length) in [(0, 1), (0, 2), (3, 1), (5, 7), (100, 1000), (0, 5000)] {
            let (pages, why) =
                read(|page| if page < before { format!("a{page}") } else { format!("b{}", (page - before) % length) });
            assert!(why.contains("circles"), "{why}");
            assert!(pages <= 3 * (before + length) + 2, "{before} {length}: {pages}");
        }
    }

    #[test]
    fn a_search_has_an_end() {
        let (pages, why) = read(|page| page.to_string());
        assert!(pages == LONGEST_SEARCH + 1 && why.contains("more than 100000 pages"), "{why}");
        assert!(read(|_| "x".repeat(LONGEST_NAME + 1)).1.contains("1025 bytes"));
        let mut search = Search::new(EventQuery::default());
        let empty = (0..=MOST_EMPTY).find_map(|page| search.turn_to(page.to_string(), true).err());
        assert!(empty.unwrap().contains("no events"));
    }
}
