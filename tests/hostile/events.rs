//! Events that are not what they should be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use workspace_fleet::{
    CommandResult, ErrorKind, WorkspaceError,
    messages::{CommandEvent, ExecuteCommand},
    protocol::EventId,
};

use crate::{
    server::{Ask, Commands, Say, Server, events, output, page},
    support::memory::Peak,
};

const SOON: Duration = Duration::from_secs(20);

/// What comes of a command whose output is told so.
async fn executed(
    search: impl Fn(&Ask, &Commands) -> Say + Send + Sync + 'static,
    timeout: impl Into<Option<Duration>>,
) -> (Result<CommandResult, WorkspaceError>, Duration) {
    let server =
        Server::start(move |ask, commands| if ask.is_search() { search(ask, commands) } else { Say::Honest }).await;
    let (fleet, workspace) = server.workspace(|config| config).await;
    let began = Instant::now();
    let command = ExecuteCommand::new("echo hi").with_timeout(timeout);
    let result = tokio::time::timeout(SOON, workspace.execute_command(command)).await.expect("it ends");
    let took = began.elapsed();
    // Whatever was read for the command is no longer read when nobody waits for it, but for what was under way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = server.requests();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(server.requests() <= asked + 5, "{} requests came later", server.requests() - asked);
    fleet.shutdown().await;
    (result, took)
}

async fn refused(search: impl Fn(&Ask, &Commands) -> Say + Send + Sync + 'static, says: &str) {
    let (result, _) = executed(search, None).await;
    let error = result.expect_err("no result can be made of that");
    assert!(matches!(error.kind, ErrorKind::Protocol { .. }) && error.to_string().contains(says), "{error}");
}

/// The events of the first command that may be among the answer to this search.
fn asked_for(ask: &Ask, all: &[Value]) -> Vec<Value> {
    let since = ask.query.get("timestamp__gte").and_then(|text| text.parse::<Timestamp>().ok());
    let order: Option<u64> = ask.query.get("order__gt").and_then(|text| text.parse().ok());
    let fits = |event: &&Value| {
        since.is_none_or(|since| event["timestamp"].as_str().unwrap().parse::<Timestamp>().unwrap() >= since)
            && order.is_none_or(|order| event["order"].as_u64().unwrap() > order)
    };
    all.iter().filter(fits).cloned().collect()
}

#[tokio::test]
async fn pages_that_have_no_end_are_refused() {
    let circle = |ask: &Ask, _: &Commands| {
        let next = if ask.query.get("page_id").is_some_and(|page| page == "a") { "b" } else { "a" };
        events(vec![json!({"kind": "x"})], Some(next))
    };
    refused(circle, "circles").await;
    refused(|ask, _| events(Vec::new(), Some(&ask.number.to_string())), "no events").await;
    refused(|_, _| events(vec![json!({"kind": "x"})], Some(&"x".repeat(1 << 20))), "names the next page").await;
}

#[tokio::test]
async fn pages_that_are_asked_for_ahead_are_asked_for_once_and_come_in_order() {
    const PAGES: usize = 12;
    let asked: Arc<[AtomicUsize; PAGES]> = Arc::default();
    let counted = asked.clone();
    let search = move |ask: &Ask, _: &Commands| {
        let page: usize = ask.query.get("page_id").map_or(0, |page| page.parse().unwrap());
        counted[page].fetch_add(1, Ordering::Relaxed);
        let exit_code = (page == PAGES - 1).then_some(0);
        let text = format!("{page}:{}\n", "x".repeat(200_000));
        let next = (page + 1).to_string();
        let event = output(ask.command().unwrap(), page, exit_code, &text);
        events(vec![event], exit_code.is_none().then_some(&next))
    };
    let (result, _) = executed(search, None).await;
    let lines: Vec<_> = result.unwrap().stdout.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(lines, std::array::from_fn::<_, PAGES, _>(|page| page.to_string()));
    assert!(asked.iter().all(|asked| asked.load(Ordering::Relaxed) == 1), "{asked:?}");
}

#[tokio::test]
async fn a_page_has_a_bound() {
    let peak = Peak::begin();
    let many = format!(r#"{{"items":[{}{{"kind":"x"}}]}}"#, r#"{"kind":"x"},"#.repeat(6 << 20));
    let many = page("200 OK", "application/json", &many);
    refused(move |_, _| Say::Bytes(many.clone()), "more than 1000 events").await;
    // What is put aside for want of knowing the kind would take many times as much.
    let strange = format!(r#"{{"items":[{{"x":[{}1],"kind":"x"}}]}}"#, "1,".repeat(20 << 20));
    let strange = page("200 OK", "application/json", &strange);
    let (result, _) = executed(move |_, _| Say::Bytes(strange.clone()), Duration::from_secs(1)).await;
    assert!(result.unwrap().timeout_occurred);
    assert!(peak.bytes() < crate::MOST_MEMORY, "{} bytes", peak.bytes());
}

#[tokio::test]
async fn pages_without_end_are_not_read_for_nobody() {
    let endless = |ask: &Ask, _: &Commands| events(vec![json!({"kind": "x"})], Some(&ask.number.to_string()));
    let (result, took) = executed(endless, Duration::from_secs(1)).await;
    let result = result.unwrap();
    assert!(result.timeout_occurred && took < Duration::from_secs(10), "{took:?} {result:?}");
}

#[tokio::test]
async fn events_in_any_order_and_more_than_once_are_put_right() {
    let (result, _) = executed(
        |_, commands| {
            let id = commands.id(0);
            let event = |order: u64, exit_code, text: &str| {
                let mut event = output(&id, order, exit_code, text);
                // The same one each time it is told.
                event["id"] = json!(format!("{order:032x}"));
                event
            };
            let pieces = || (0..50).map(|order| event(order, None, &format!("{order}\n")));
            let mut all = vec![event(50, Some(3), "end\n")];
            all.extend(pieces().rev());
            all.extend(pieces());
            all.push(event(50, Some(3), "end\n"));
            events(all, None)
        },
        None,
    )
    .await;
    let expected: String = (0..50).map(|line| format!("{line}\n")).collect::<String>() + "end\n";
    let result = result.unwrap();
    assert_eq!((result.exit_code, result.stdout), (3, expected));
}

#[tokio::test]
async fn events_of_others_are_nobodys_output_and_hold_up_nobody() {
    let stranger = EventId::random().to_string();
    let server = Server::start(move |ask, commands| {
        if !ask.is_search() {
            return Say::Honest;
        }
        // The first command is followed by somebody who does not read, and every answer tells of it.
        let first = commands.id(0);
        let of = |order: u64| if order.is_multiple_of(2) { &first } else { &stranger };
        let mut all: Vec<_> = (0..900).map(|order| output(of(order), 0, None, "x\n")).collect();
        let asked = ask.command().filter(|asked| *asked != first);
        all.extend(asked.map(|asked| output(asked, 0, Some(0), "mine\n")));
        events(all, None)
    })
    .await;
    let (fleet, workspace) = server.workspace(|config| config).await;
    let mut unread = workspace.follow_command(ExecuteCommand::new("yes").with_timeout(None));
    let started = tokio::time::timeout(SOON, unread.next()).await.expect("it is started");
    assert!(matches!(started, Some(CommandEvent::Started { .. })));
    for _ in 0..20 {
        let result = tokio::time::timeout(SOON, workspace.execute_command("echo mine")).await.expect("it ends");
        assert_eq!(result.unwrap().stdout, "mine\n");
    }
    drop(unread);
    fleet.shutdown().await;
}

#[tokio::test]
async fn an_exit_code_that_changes_is_no_result() {
    let changing = |ask: &Ask, commands: &Commands| {
        // Something is missing at first, so that it is read again.
        let code = ask.number.min(5) as i32;
        events(vec![output(&commands.id(0), 2, Some(code), "")], None)
    };
    refused(changing, "two last events").await;
    let both = |_: &Ask, commands: &Commands| {
        let id = commands.id(0);
        events(vec![output(&id, 0, Some(0), ""), output(&id, 0, Some(1), "")], None)
    };
    refused(both, "two last events").await;
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused() {
    for (order, says) in [
        (json!(-1), "`order` is -1"),
        (json!(1e300), "`order` is a number with a fraction"),
        (json!("0"), "`order` is a text"),
        (json!(u64::MAX), "incomplete"),
        (json!(u64::MAX - 1), "incomplete"),
    ] {
        for code in [0, -1] {
            let order = order.clone();
            refused(
                move |_, commands| events(vec![output(&commands.id(0), order.clone(), Some(code), "")], None),
                says,
            )
            .await;
        }
    }
}

#[tokio::test]
async fn a_clock_that_jumps_hides_nothing() {
    for times in [
        ["9999-12-30T00:00:00Z", "1971-01-01T00:00:00Z", "2500-01-01T00:00:00Z"],
        ["2000-01-01T00:00:00Z", "9999-12-30T00:00:00Z", "1999-01-01T00:00:00Z"],
        ["-009998-01-01T00:00:00Z", "9999-12-30T00:00:00Z", "1999-01-01T00:00:00Z"],
    ] {
        let (result, took) = executed(
            move |ask, commands| {
                let id = commands.id(0);
                let all = [("a\n", None), ("b\n", None), ("c\n", Some(0))];
                let all: Vec<_> = (0..3)
                    .map(|order| {
                        let mut event = output(&id, order as u64, all[order].1, all[order].0);
                        event["id"] = json!(format!("{order:032x}"));
                        event["timestamp"] = json!(times[order]);
                        event
                    })
                    .collect();
                // Each comes a while after the one before.
                let there = (commands.age().as_millis() / 150).min(3) as usize;
                events(asked_for(ask, &all[..there]), None)
            },
            None,
        )
        .await;
        let result = result.unwrap();
        assert_eq!((result.stdout.as_str(), result.exit_code), ("a\nb\nc\n", 0), "{times:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[tokio::test]
async fn answers_that_break_off_are_asked_for_again() {
    let (result, _) = executed(
        |ask, commands| {
            let whole = json!({ "items": [output(&commands.id(0), 0, Some(0), "whole\n")] }).to_string();
            let cut = &whole[..whole.len() / 2];
            match ask.number {
                0 => Say::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{cut}", whole.len()).into_bytes()),
                1 => Say::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{cut}\r\n", cut.len()).into_bytes()),
                2 => Say::Bytes(page("200 OK", "text/html", "<title>Just a moment</title>")),
                3 => Say::Bytes(Vec::new()),
                _ => Say::Bytes(page("200 OK", "text/plain", &whole)),
            }
        },
        None,
    )
    .await;
    let result = result.unwrap();
    assert_eq!((result.stdout.as_str(), result.exit_code), ("whole\n", 0));
}

#[tokio::test]
async fn output_that_is_asked_for_later_is_bounded_in_time() {
    let server = Server::start(|ask, _| match ask.is_search() {
        true => events(vec![json!({"kind": "x"})], Some(if ask.number % 2 == 0 { "a" } else { "b" })),
        false => Say::Honest,
    })
    .await;
    let (fleet, workspace) = server.workspace(|config| config).await;
    let asked = tokio::time::timeout(SOON, workspace.get_command_output(EventId::random())).await.expect("it ends");
    assert!(asked.unwrap_err().to_string().contains("circles"));
    fleet.shutdown().await;
}
