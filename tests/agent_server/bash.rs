use std::time::{Duration, Instant};

use serde_json::{Value, json};
use workspace_fleet::{
    agent::Retention,
    protocol::{CommandHead, EventId},
};

use crate::support::{Agent, joined, send, send_json, until};

#[actix_rt::test]
async fn exit_codes_and_streams_are_those_of_the_shell() {
    let agent = Agent::start();
    for (command, exit_code, stdout, stderr) in [
        ("echo o; echo e >&2; exit 3", 3, json!("o\n"), json!("e\n")),
        ("true", 0, Value::Null, Value::Null),
        ("kill -9 $$", -9, Value::Null, Value::Null),
        ("printf '\\377a\\303'", 0, json!("\u{fffd}a\u{fffd}"), Value::Null),
        ("cat", 0, Value::Null, Value::Null),
    ] {
        let result = agent.execute(command).await;
        assert_eq!((&result["exit_code"], &result["stdout"], &result["stderr"]), (&json!(exit_code), &stdout, &stderr));
        assert_eq!((&result["kind"], &result["order"]), (&json!("BashOutput"), &json!(0)));
    }
}

#[actix_rt::test]
async fn a_command_runs_in_the_root_unless_it_says_otherwise() {
    let agent = Agent::start();
    std::fs::create_dir(agent.path("sub dir")).unwrap();
    let root = format!("{}\n", agent.path("").display());
    assert_eq!(agent.execute("pwd").await["stdout"].as_str().unwrap().trim(), root.trim().trim_end_matches('/'));
    let below = agent.execute_with(json!({"command": "pwd", "cwd": "sub dir"})).await;
    assert!(below["stdout"].as_str().unwrap().ends_with("/sub dir\n"), "{below}");
}

#[actix_rt::test]
async fn a_command_that_cannot_start_tells_why_in_its_output() {
    let agent = Agent::start();
    for (body, stderr) in [
        (json!({"command": "x", "cwd": "/no pe"}), "[Errno 2] No such file or directory: '/no pe'"),
        (json!({"command": "x", "cwd": "/etc/passwd"}), "[Errno 20] Not a directory: '/etc/passwd'"),
        (json!({"command": "a\u{0}b"}), "embedded null byte"),
        (json!({"command": "x".repeat(131_072)}), "[Errno 7] Argument list too long: '/bin/sh'"),
    ] {
        let result = agent.execute_with(body).await;
        assert_eq!(result["exit_code"], -1);
        assert_eq!(result["stderr"], format!("Error executing command: {stderr}"));
    }
}

#[actix_rt::test]
async fn timeouts_of_any_size_are_taken() {
    let agent = Agent::start();
    for timeout in [0, -5] {
        let result = agent.execute_with(json!({"command": "sleep 60", "timeout": timeout})).await;
        assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(-1), &Value::Null));
    }
    let result = agent.execute_with(json!({"command": "echo x", "timeout": i64::MAX})).await;
    assert_eq!((&result["exit_code"], &result["stdout"]), (&json!(0), &json!("x\n")));
}

#[actix_rt::test]
async fn a_flood_on_both_streams_arrives_whole_and_in_order() {
    // Most of it has to go through a spill file.
    let agent = Agent::with(|config| config.with_retention(Retention::default().with_memory_bytes(1 << 20)));
    let write = "i=0; while [ $i -lt 40 ]; do head -c 300000 /dev/zero | tr '\\0' $l; echo $i; i=$((i+1)); done";
    let id = agent.start_command(&format!("(l=e; {write}) >&2 & (l=o; {write}); wait"), 300).await;
    let events = agent.finished(&id).await;
    let orders: Vec<_> = events.iter().map(|event| event["order"].as_u64().unwrap()).collect();
    assert_eq!(orders, (0..events.len() as u64).collect::<Vec<_>>());
    assert!(events.len() > 20, "{} events", events.len());
    for (stream, letter) in [("stdout", "o"), ("stderr", "e")] {
        let expected: String = (0..40).map(|i| format!("{}{i}\n", letter.repeat(300_000))).collect();
        assert!(joined(&events, stream) == expected, "{stream} differs");
    }
    let after: Vec<_> = agent.search_all(&format!("command_id__eq={id}&order__gt=5"), 7).await;
    assert_eq!(after, events[6..]);
    let whole = agent.execute("head -c 3000000 /dev/zero | tr '\\0' '\"'; echo e >&2").await;
    assert!(whole["stdout"].as_str().unwrap() == "\"".repeat(3_000_000) && whole["stderr"] == "e\n");
}

#[actix_rt::test]
async fn spilled_output_is_the_same_while_its_command_runs_and_after() {
    let agent = Agent::with(|config| config.with_retention(Retention::default().with_memory_bytes(0)));
    let id = agent.start_command("seq 400000; sleep 60", 300).await;
    let expected: String = (1..=400_000).map(|number| format!("{number}\n")).collect();
    let while_running = until(async || {
        let events = agent.outputs(&id).await;
        (joined(&events, "stdout").len() == expected.len()).then_some(events)
    })
    .await;
    assert!(joined(&while_running, "stdout") == expected);
    agent.stop_command(&id).await;
    assert!(agent.finished(&id).await[..while_running.len()] == while_running);
}

#[actix_rt::test]
async fn output_is_seen_while_the_command_runs() {
    let agent = Agent::start();
    let start = Instant::now();
    let id = agent.start_command("echo first; sleep 60", 300).await;
    let events = until(async || Some(agent.outputs(&id).await).filter(|events| !events.is_empty())).await;
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!((&events[0]["stdout"], &events[0]["exit_code"]), (&json!("first\n"), &Value::Null));
    agent.stop_command(&id).await;
    assert_eq!(agent.finished(&id).await.last().unwrap()["order"], 1);
}

#[actix_rt::test]
async fn a_character_written_in_two_halves_comes_out_whole() {
    let agent = Agent::start();
    let id = agent.start_command("printf 'a\\303'; sleep 0.3; printf '\\251b'", 300).await;
    let events = agent.finished(&id).await;
    assert_eq!(joined(&events, "stdout"), "aéb");
    assert!(events.len() > 1, "the halves were meant to go out apart: {events:?}");
}

#[actix_rt::test]
async fn a_command_starts_once_under_a_name() {
    let agent = Agent::start();
    let body = json!({"command": "echo x >> count; sleep 0.2"});
    let start = |name: &'static str| {
        let request = agent.post("/api/bash/start_bash_command").insert_header(("Idempotency-Key", name));
        send_json(request, &body)
    };
    let name = "0f8fad5bd9cb469fa16570867728950e";
    let replies = futures::future::join_all((0..5).map(|_| start(name))).await;
    let first = replies[0].json();
    assert!(replies.iter().all(|reply| reply.json() == first));
    let id = first["id"].as_str().unwrap();
    agent.finished(id).await;
    assert_eq!(start(name).await.json(), first);
    let other = start("1f8fad5bd9cb469fa16570867728950e").await.json();
    assert_ne!(other["id"], first["id"]);
    agent.finished(other["id"].as_str().unwrap()).await;
    assert_eq!(start("short").await.status, 400);
    assert_eq!(agent.execute("cat count").await["stdout"], "x\nx\n");
}

#[actix_rt::test]
async fn one_command_too_many_is_told_to_come_back() {
    let agent = Agent::with(|config| config.with_max_running_commands(2));
    let ids = [agent.start_command("sleep 60", 300).await, agent.start_command("sleep 60", 300).await];
    let reply = send_json(agent.post("/api/bash/start_bash_command"), &json!({"command": "true"})).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{reply:?}");
    assert!(reply.json()["exception"].as_str().unwrap().starts_with("503: "));
    assert_eq!(agent.stop_command(&ids[0]).await, 200);
    agent.start_command("true", 300).await;
}

#[actix_rt::test]
async fn a_reader_of_evicted_output_can_tell() {
    let retention = Retention::default().with_output_bytes(2 << 20).with_memory_bytes(1 << 20);
    let agent = Agent::with(|config| config.with_retention(retention));
    let flood = "head -c 8000000 /dev/zero | tr '\\0' x; echo end >&2";
    let id = agent.start_command(flood, 300).await;
    let events = agent.finished(&id).await;
    let last = events.last().unwrap();
    assert_eq!((&last["exit_code"], &last["stderr"]), (&json!(0), &json!("end\n")));
    assert!(last["order"].as_u64().unwrap() > events.len() as u64 - 1, "nothing seems to be missing: {last}");
    assert!(joined(&events, "stdout").len() <= 2 << 20);
    let reply = send_json(agent.post("/api/bash/execute_bash_command"), &json!({"command": flood})).await;
    assert_eq!(reply.status, 500, "half of the output passed for all of it");
}

#[actix_rt::test]
async fn the_oldest_finished_commands_are_forgotten() {
    let agent = Agent::with(|config| config.with_retention(Retention::default().with_commands(3)));
    let running = agent.start_command("sleep 60", 300).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(agent.execute("true").await["command_id"].as_str().unwrap().to_owned());
    }
    let mut known = Vec::new();
    for id in &ids {
        known.push(send(agent.get(&format!("/api/bash/bash_events/{id}"))).await.status);
    }
    assert_eq!(known, [404, 404, 200, 200, 200]);
    assert_eq!(agent.search_all("kind__eq=BashOutput", 100).await.len(), 3);
    assert_eq!(agent.stop_command(&ids[0]).await, 404);
    assert_eq!(agent.stop_command(&running).await, 200);
}

#[actix_rt::test]
async fn searches_find_by_kind_time_and_page() {
    let agent = Agent::start();
    for i in 0..7 {
        agent.execute(&format!("echo {i}")).await;
    }
    let all = agent.search_all("", 3).await;
    assert_eq!(all.len(), 14);
    let times: Vec<_> = all.iter().map(|event| event["timestamp"].as_str().unwrap().to_owned()).collect();
    assert!(times.is_sorted() && times.windows(2).all(|pair| pair[0] != pair[1]));
    let mut reversed = agent.search_all("sort_order=TIMESTAMP_DESC", 4).await;
    reversed.reverse();
    assert_eq!(reversed, all);
    let outputs: Vec<_> = all.iter().filter(|event| event["kind"] == "BashOutput").cloned().collect();
    assert_eq!(agent.search_all("kind__eq=BashOutput", 2).await, outputs);
    let window = format!("timestamp__gte={}&timestamp__lt={}", times[4], times[9]);
    assert_eq!(agent.search_all(&window, 2).await, all[4..9]);
    let id = all[0]["id"].as_str().unwrap();
    assert!(agent.search_all(&format!("command_id__eq={id}&kind__eq=BashCommand"), 9).await.is_empty());
    let unknown = agent.get_json("/api/bash/bash_events/search?limit=1&page_id=what").await;
    assert_eq!(unknown["items"], json!([all[0]]));
    let one = agent.get_json(&format!("/api/bash/bash_events/{}", all[3]["id"].as_str().unwrap())).await;
    assert_eq!(one, all[3]);
}

#[actix_rt::test]
async fn searches_find_commands_by_the_ids_in_their_heads() {
    let agent = Agent::start();
    let [first, second, other] = [(); 3].map(|()| CommandHead::new(EventId::random()));
    // A head may have been put before another's, and one may have been sent twice.
    let texts =
        [format!("{first}true"), format!("{other}{second}true"), format!("{other}true"), format!("{first}true")];
    for text in &texts {
        agent.execute(text).await;
    }
    for (query, expected) in [
        (format!("process_id__eq={}", first.id()), vec![0, 3]),
        (format!("process_id__eq={}&kind__eq=BashCommand", second.id()), vec![1]),
        (format!("process_id__eq={}&process_id__eq={}", second.id(), first.id()), vec![0, 1, 3]),
        (format!("process_id__eq={}", EventId::random()), vec![]),
        (format!("process_id__eq={}&kind__eq=BashOutput", first.id()), vec![]),
    ] {
        let found = agent.search_all(&query, 1).await;
        let expected: Vec<_> = expected.into_iter().map(|at: usize| json!(texts[at])).collect();
        assert_eq!(found.iter().map(|event| event["command"].clone()).collect::<Vec<_>>(), expected, "{query}");
    }
}

#[actix_rt::test]
async fn clearing_forgets_events_and_stops_nothing() {
    let agent = Agent::start();
    agent.execute("true").await;
    let id = agent.start_command("echo a; sleep 0.3; echo b; exit 4", 300).await;
    let cleared =
        send(agent.client.delete(agent.url("/api/bash/bash_events")).insert_header(("X-Session-API-Key", "k1")));
    assert!(cleared.await.json()["cleared_count"].as_u64().unwrap() >= 3);
    let events = agent.finished(&id).await;
    assert_eq!(events.last().unwrap()["exit_code"], 4);
    assert_eq!(agent.search_all("kind__eq=BashCommand", 9).await, Vec::<Value>::new());
}

#[actix_rt::test]
async fn many_commands_run_at_once() {
    let agent = Agent::start();
    let start = Instant::now();
    let results = futures::future::join_all((0..100).map(|i| {
        let command = format!("sleep 1; echo {i}");
        let agent = &agent;
        async move { agent.execute(&command).await }
    }))
    .await;
    assert!(results.iter().enumerate().all(|(i, result)| result["stdout"] == format!("{i}\n")));
    // One after another they would take 100 s; the bound leaves room for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}
