//! Starts whose answer is lost, on a server that cannot look for one command.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use workspace_fleet::protocol::{CommandHead, EventId};

use crate::server::{Ask, Say, Server, events, page};

const PAGES: usize = 4;

/// More than any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A command as a log has it.
fn command(id: EventId, text: &str, age: SignedDuration) -> Value {
    json!({
        "id": id, "timestamp": Timestamp::now() - age, "command": text, "cwd": null, "timeout": 30, "kind": "BashCommand",
    })
}

/// How old the commands of a page are. Those of the last two are of yesterday.
fn age(number: usize) -> SignedDuration {
    SignedDuration::from_hours(if number < PAGES / 2 { 0 } else { 24 })
}

/// A page of others' commands.
fn others(number: usize) -> Vec<Value> {
    let text = || format!("{}true", CommandHead::new(EventId::random()));
    (0..100).map(|_| command(EventId::random(), &text(), age(number))).collect()
}

fn answer(number: usize, items: Vec<Value>) -> Say {
    let next = (number + 1 < PAGES).then(|| (number + 1).to_string());
    events(items, next.as_deref())
}

/// Which page of the log a search asks for, unless it is a search for output.
fn page_of(ask: &Ask) -> Option<usize> {
    let is_of_log = ask.is_search() && ask.command().is_none();
    is_of_log.then(|| ask.query.get("page_id").map_or(0, |name| name.parse().unwrap()))
}

#[tokio::test]
async fn a_lost_start_is_looked_for_to_the_end_of_the_log_once_although_every_other_page_gets_lost() {
    let read = Arc::new([const { AtomicUsize::new(0) }; PAGES]);
    let counted = read.clone();
    let server = Server::start(move |ask, _| {
        if ask.is_start() && ask.number == 0 {
            return Say::Bytes(Vec::new());
        }
        let Some(number) = page_of(ask) else { return Say::Honest };
        if ask.number.is_multiple_of(2) {
            return Say::Bytes(page("502 Bad Gateway", "text/html", ""));
        }
        counted[number].fetch_add(1, Ordering::Relaxed);
        answer(number, others(number))
    })
    .await;
    let (fleet, workspace) = server.workspace(|config| config.with_max_outage(PATIENCE)).await;
    let result = workspace.execute_command("echo hi").await.unwrap();
    assert_eq!(result.stdout, "hi\n");
    // As far as it can be expected, before its start was forbidden; then to the end, and what was written meanwhile once more.
    assert_eq!(read.each_ref().map(|page| page.load(Ordering::Relaxed)), [3, 3, 3, 1]);
    assert_eq!(server.heads().matches("/start_bash_command").count(), 2);
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_lost_start_is_found_where_the_clock_was_set_back_when_it_came() {
    let id = EventId::random();
    let sent = Mutex::new(None::<String>);
    let server = Server::start(move |ask, _| {
        let mut sent = sent.lock().unwrap();
        if ask.is_start() && sent.is_none() {
            *sent = ask.body["command"].as_str().map(str::to_owned);
            return Say::Bytes(Vec::new());
        }
        let Some(number) = page_of(ask) else { return Say::Honest };
        let mut items = others(number);
        if let Some(text) = sent.as_ref().filter(|_| number == PAGES - 1) {
            items.push(command(id, text, age(number)));
        }
        answer(number, items)
    })
    .await;
    let (fleet, workspace) = server.workspace(|config| config.with_max_outage(PATIENCE)).await;
    let result = workspace.execute_command("echo hi").await.unwrap();
    assert_eq!((result.stdout.as_str(), result.command_id), ("hi\n", id));
    assert_eq!(server.heads().matches("/start_bash_command").count(), 1);
    fleet.shutdown().await;
}
