use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    client::until_state,
    http::{get, post, send},
    scene::Served,
};

fn names(list: &Value) -> Vec<&str> {
    list["workspaces"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

#[actix_rt::test]
async fn workspaces_are_added_listed_changed_and_removed_and_their_secrets_never_told() {
    let service = Served::start(&[]);
    for (name, tier) in [("node1", "gpu"), ("node2", "cpu"), ("web/ä", "cpu")] {
        let body = json!({ "name": name, "host": "http://127.0.0.1:1", "api_key": "hush-key",
            "headers": { "X-Gate": "hush-gate" }, "labels": { "tier": tier } });
        let added = post(&service, "/v1/workspaces", &body).await;
        assert_eq!(added.status, 201, "{}", added.text());
        assert!(!added.text().contains("hush"), "{}", added.text());
        let location = added.header("location").to_owned();
        assert_eq!(get(&service, &location).await.json()["name"], name, "{location}");
    }
    post(&service, "/v1/workspaces", &json!({ "name": "node1", "host": "http://a" })).await.is_problem(409, "conflict");
    let service = &service;
    let list = async |query: &str| get(service, &format!("/v1/workspaces{query}")).await;
    for (query, expected) in [
        ("", &["node1", "node2", "web/ä"][..]),
        ("?label=tier%3Dcpu", &["node2", "web/ä"]),
        ("?name=node%5B1-9%5D", &["node1", "node2"]),
        ("?selector=%7B%22names%22%3A%5B%22node2%22%5D%7D", &["node2"]),
        ("?health=ready", &[]),
        ("?health=connecting&limit=1&cursor=node1", &["node2"]),
        ("?selector=%7B%7D", &["node1", "node2", "web/ä"]),
    ] {
        assert_eq!(names(&list(query).await.json()), expected, "{query}");
    }
    // Passed over, it would pick everything.
    list("?selector=%7B%22name%22%3A%5B%22node2%22%5D%7D").await.is_problem(422, "invalid-request");
    let page = list("?limit=2").await.json();
    assert_eq!((&page["next_cursor"], &page["total"]), (&json!("node2"), &json!(3)));
    let headers = json!({ "X-Gate": "hush-other" });
    let change = json!({ "host": "http://127.0.0.1:2", "api_key": "", "headers": headers }).to_string();
    let changed = send(service, "PATCH", "/v1/workspaces/node1", &[("content-type", "application/json")], change).await;
    let settings = &changed.json()["settings"];
    assert_eq!((&settings["has_api_key"], &settings["header_names"]), (&json!(false), &json!(["X-Gate"])));
    assert_eq!(get(service, "/v1/workspaces/node1").await.json()["host"], "http://127.0.0.1:2/");
    assert_eq!(list("?name=node1").await.json()["workspaces"][0]["host"], "http://127.0.0.1:2/");
    assert_eq!(send(service, "DELETE", "/v1/workspaces/node1?on_remove=detach", &[], "").await.status, 204);
    get(service, "/v1/workspaces/node1").await.is_problem(404, "not-found");
}

#[actix_rt::test]
async fn a_command_is_executed_once_per_key_and_its_output_is_read_from_a_position() {
    let service = Served::start(&["--local", "1"]);
    let name = names(&get(&service, "/v1/workspaces").await.json())[0].to_owned();
    let path = format!("/v1/workspaces/{name}/execute");
    let command = json!({ "command": "cat; echo $SECRET >&2; echo x >>count; exit 3", "stdin_base64": "aGk=",
        "secret_env": { "SECRET": "hush-env" } });
    let headers = [("content-type", "application/json"), ("idempotency-key", "k1")];
    let first = send(&service, "POST", &path, &headers, command.to_string()).await;
    let ended = first.json();
    assert_eq!(first.status, 200, "{ended}");
    assert_eq!((&ended["stdout"], &ended["stderr"]), (&json!("hi"), &json!("hush-env\n")));
    assert_eq!((&ended["result"]["exit_code"], &ended["outcome"]), (&json!(3), &json!("failed")));
    let again = send(&service, "POST", &path, &headers, command.to_string()).await.json();
    assert_eq!(again["id"], ended["id"]);
    let counted = post(&service, &path, &json!({ "command": "wc -l <count" })).await.json();
    assert_eq!(counted["stdout"].as_str().unwrap().trim(), "1", "it was started once");
    let other = send(&service, "POST", &path, &headers, json!({ "command": "true" }).to_string()).await;
    other.is_problem(422, "invalid-request");

    let location = first.header("location").to_owned();
    let told = get(&service, &location).await.text();
    assert!(!told.contains("hush") && !told.contains("sealed") && !told.contains("aGk="), "{told}");
    let page = get(&service, &format!("{location}/output?limit=1")).await.json();
    let (next, text) = (page["next"].as_u64().unwrap(), page["output"][0]["text"].as_str().unwrap());
    let rest = get(&service, &format!("{location}/output?format=text&from={next}")).await;
    assert_eq!(format!("{text}{}", rest.text()), "hihush-env\n");
    let end = rest.header("wsfleet-next").to_owned();
    assert_eq!(get(&service, &format!("{location}/output?from={end}")).await.json()["complete"], true);
    get(&service, &format!("{location}/output?from=1")).await.is_problem(422, "invalid-request");
    let list = get(&service, &format!("/v1/commands?workspace={name}&state=finished&limit=1")).await.json();
    assert_eq!(list["commands"][0]["id"], counted["id"], "the newest is first");
    let cursor = list["next_cursor"].as_str().unwrap();
    let list = get(&service, &format!("/v1/commands?cursor={cursor}")).await.json();
    assert_eq!(list["commands"][0]["id"], ended["id"]);
}

#[actix_rt::test]
async fn a_command_that_goes_on_is_told_of_and_stopped() {
    let service = Served::start(&["--local", "1"]);
    let name = names(&get(&service, "/v1/workspaces").await.json())[0].to_owned();
    let body = json!({ "command": "echo begun; sleep 600", "timeout_ms": null });
    let waits = post(&service, &format!("/v1/workspaces/{name}/execute?wait_ms=100"), &body).await;
    assert_eq!(waits.status, 202, "{}", waits.text());
    let location = waits.header("location").to_owned();
    assert_eq!(send(&service, "POST", &format!("{location}/stop"), &[], "").await.status, 202);
    let events = get(&service, &format!("{location}/events")).await.text();
    let end = events.split("event: end\ndata: ").nth(1).unwrap().trim();
    let end: Value = serde_json::from_str(end).unwrap();
    assert_eq!((&end["state"], &end["outcome"]), (&json!("finished"), &json!("stopped")), "{end}");
}

#[actix_rt::test]
async fn a_command_that_waits_for_its_turn_and_is_stopped_is_never_started() {
    let service = Served::start(&["--local", "1"]);
    let name = names(&get(&service, "/v1/workspaces").await.json())[0].to_owned();
    let start = async |body: Value| {
        let started = post(&service, &format!("/v1/workspaces/{name}/execute?wait_ms=100"), &body).await;
        assert_eq!(started.status, 202, "{}", started.text());
        started.header("location").to_owned()
    };
    let ended = async |path: &str| until_state(&service.url(path), "finished").await;
    let first = start(json!({ "command": "sleep 600", "timeout_ms": null, "hold_until": "finished" })).await;
    let second = start(json!({ "command": ": >ran" })).await;
    assert_eq!(send(&service, "POST", &format!("{second}/stop"), &[], "").await.status, 202);
    let record = ended(&second).await;
    assert_eq!((&record["outcome"], &record["started"]), (&json!("stopped"), &Value::Null), "{record}");
    assert_eq!(send(&service, "POST", &format!("{first}/stop"), &[], "").await.status, 202);
    assert_eq!(ended(&first).await["outcome"], "stopped");
    let listed = post(&service, &format!("/v1/workspaces/{name}/execute"), &json!({ "command": "ls" })).await;
    assert_eq!(listed.json()["stdout"], "", "{}", listed.text());
}

#[actix_rt::test]
async fn whoever_waits_when_the_service_ends_is_told_how_it_is_now() {
    let mut service = Served::start(&["--local", "1"]);
    let name = names(&get(&service, "/v1/workspaces").await.json())[0].to_owned();
    let body = json!({ "command": "sleep 600", "timeout_ms": null });
    let started = post(&service, &format!("/v1/workspaces/{name}/commands"), &body).await;
    let output = format!("{}/output?wait_ms=60000", started.header("location"));
    let (waits, ()) = futures::join!(get(&service, &output), async {
        actix_rt::time::sleep(Duration::from_millis(300)).await;
        service.tell_to_end();
    });
    assert_eq!((waits.status.as_u16(), &waits.json()["output"]), (200, &json!([])), "{}", waits.text());
    assert_eq!(service.wait_for_end(), Some(0));
}

#[actix_rt::test]
async fn files_and_directories_go_there_and_back_as_they_are() {
    let service = Served::start(&["--local", "1"]);
    let name = names(&get(&service, "/v1/workspaces").await.json())[0].to_owned();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().display();
    let content: Vec<u8> = (0..9_000_000_u32).map(|index| (index % 251) as u8).collect();
    let file = format!("/v1/workspaces/{name}/files?path={path}/a%20b");
    let uploaded = send(&service, "PUT", &format!("{file}&sha256=true"), &[], content.clone()).await;
    assert_eq!(uploaded.status, 200, "{}", uploaded.text());
    assert_eq!(uploaded.json()["file_size"], 9_000_000);
    assert_eq!(std::fs::read(folder.path().join("a b")).unwrap(), content);
    let downloaded = get(&service, &file).await;
    assert_eq!(downloaded.header("content-length"), "9000000");
    assert!(downloaded.header("etag").starts_with('"'));
    assert!(downloaded.body == content);
    assert_eq!(
        send(&service, "PUT", &format!("/v1/workspaces/{name}/files?path={path}/empty"), &[], "").await.status,
        200
    );
    assert_eq!(get(&service, &format!("/v1/workspaces/{name}/files?path={path}/empty")).await.body, b"");
    get(&service, &format!("/v1/workspaces/{name}/files?path={path}/none")).await.is_problem(404, "not-found");
    get(&service, &format!("/v1/workspaces/{name}/files?path=relative")).await.is_problem(422, "invalid-request");

    let directory = format!("/v1/workspaces/{name}/directories");
    let archive = get(&service, &format!("{directory}?path={path}")).await;
    assert_eq!(archive.header("content-type"), "application/x-tar");
    let unpacked = send(&service, "PUT", &format!("{directory}?path={path}/it%27s/deep"), &[], archive.body).await;
    assert_eq!(unpacked.status, 200, "{}", unpacked.text());
    assert_eq!(std::fs::read(folder.path().join("it's/deep/a b")).unwrap(), content);
    get(&service, &format!("{directory}?path={path}/none")).await.is_problem(404, "not-found");
    let broken = send(&service, "PUT", &format!("{directory}?path={path}/x"), &[], "no archive").await;
    broken.is_problem(422, "invalid-request");
}

#[actix_rt::test]
async fn what_changed_in_a_repository_is_told() {
    let service = Served::start(&["--local", "1"]);
    let name = names(&get(&service, "/v1/workspaces").await.json())[0].to_owned();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().display();
    let make = format!(
        "cd {path} && git init -q && echo one >f && git add f && \
         git -c user.name=n -c user.email=e@e commit -qm first && echo two >f"
    );
    let made = post(&service, &format!("/v1/workspaces/{name}/execute"), &json!({ "command": make })).await.json();
    assert_eq!(made["result"]["exit_code"], 0, "{made}");
    let git = format!("/v1/workspaces/{name}/git");
    let changes = get(&service, &format!("{git}/changes?path={path}")).await.json();
    assert_eq!(changes, json!([{ "status": "UPDATED", "path": "f" }]));
    let diff = get(&service, &format!("{git}/diff?path={path}/f")).await.json();
    assert_eq!((&diff["original"], &diff["modified"]), (&json!("one"), &json!("two")));
    let commits = get(&service, &format!("{git}/commits?path={path}&limit=5")).await.json();
    assert_eq!(commits["commits"][0]["subject"], "first");
    get(&service, &format!("{git}/changes?path=/")).await.is_problem(422, "workspace-refused");
}

#[actix_rt::test]
async fn a_lease_is_held_by_one_and_ends_when_it_is_not_renewed() {
    let service = Served::start(&["--local", "1"]);
    let name = names(&get(&service, "/v1/workspaces").await.json())[0].to_owned();
    let first = post(&service, "/v1/leases", &json!({ "ttl_ms": 600_000, "wait_ms": 20_000 })).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let location = first.header("location").to_owned();
    assert_eq!(first.json()["workspace"], name);
    post(&service, "/v1/leases", &json!({ "wait_ms": 50 })).await.is_problem(409, "conflict");
    let id = first.json()["id"].as_str().unwrap().to_owned();
    let headers = [("content-type", "application/json"), ("wsfleet-lease", id.as_str())];
    let execute = format!("/v1/workspaces/{name}/execute");
    let done = send(&service, "POST", &execute, &headers, json!({ "command": "true" }).to_string()).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let renewed = send(&service, "POST", &format!("{location}/renew?ttl_ms=1000"), &[], "").await;
    assert_eq!(renewed.json()["ttl_ms"], 1000);
    // It ends by itself, and whoever waits gets the workspace.
    let second = post(&service, "/v1/leases", &json!({ "wait_ms": 20_000, "ttl_ms": 600_000 })).await;
    assert_eq!(second.status, 201, "{}", second.text());
    get(&service, &location).await.is_problem(404, "not-found");
    send(&service, "POST", &execute, &headers, json!({ "command": "true" }).to_string())
        .await
        .is_problem(404, "not-found");
    assert_eq!(get(&service, "/v1/leases").await.json()["leases"].as_array().unwrap().len(), 1);
    let second = second.header("location").to_owned();
    assert_eq!(send(&service, "DELETE", &second, &[], "").await.status, 204);
    assert_eq!(post(&service, "/v1/leases", &json!({ "wait_ms": 20_000 })).await.status, 201);
}

#[actix_rt::test]
async fn every_error_is_a_problem_document() {
    let service = Served::start(&["--local", "1"]);
    let json = [("content-type", "application/json")];
    get(&service, "/nowhere").await.is_problem(404, "not-found");
    get(&service, "/v1/commands/x").await.is_problem(422, "invalid-request");
    get(&service, "/v1/workspaces?limit=0").await.is_problem(422, "invalid-request");
    get(&service, "/v1/workspaces?lable=a%3Db").await.is_problem(422, "invalid-request");
    get(&service, "/v1/workspaces?name=%FF").await.is_problem(400, "malformed");
    let wrong = send(&service, "TRACE", "/v1/workspaces", &[], "").await;
    wrong.is_problem(405, "method-not-allowed");
    assert_eq!(wrong.header("allow"), "GET, POST");
    let broken = send(&service, "POST", "/v1/leases", &json, "{\n \"wait_ms\": ,}").await;
    broken.is_problem(400, "malformed");
    assert_eq!((&broken.json()["line"], &broken.json()["column"]), (&json!(2), &json!(13)));
    send(&service, "POST", "/v1/leases", &json, "{\"wait\": 1}").await.is_problem(422, "invalid-request");
    send(&service, "POST", "/v1/leases", &[], "{}").await.is_problem(415, "unsupported-media-type");
    let large = send(&service, "POST", "/v1/leases", &json, vec![b' '; (4 << 20) + 1]).await;
    large.is_problem(413, "too-large");
    send(&service, "POST", "/v1/workspaces", &json, "{\"name\":\"\",\"host\":\"http://a\"}")
        .await
        .is_problem(422, "invalid-request");
}

#[actix_rt::test]
async fn what_is_served_is_what_is_described() {
    let service = Served::start(&[]);
    let document = get(&service, "/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 25, "{}", paths.len());
    for (path, item) in paths {
        let asked = path.replace("{name}", "none").replace("{id}", "0198f7d8-0000-7000-8000-000000000000");
        let described: Vec<String> = item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            if (method, path.as_str()) == ("GET", "/v1/events") {
                // It never ends; those who follow the fleet look at it in `readers.rs`.
                assert!(described.contains(&"GET".to_owned()));
                continue;
            }
            let answer = send(&service, method, &asked, &[], "").await;
            let shown = format!("{method} {path}: {} {}", answer.status, answer.text());
            if described.iter().any(|known| known == method) {
                let problem = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
                let detail = problem["detail"].as_str().unwrap_or_default();
                assert!(answer.status != 405 && !detail.starts_with("there is nothing at"), "{shown}");
                let answers = item[method.to_lowercase()]["responses"].as_object().unwrap();
                assert!(answers.contains_key(answer.status.as_str()), "{shown}");
            } else {
                assert_eq!(answer.status, 405, "{shown}");
                let mut allowed: Vec<String> = answer.header("allow").split(", ").map(str::to_owned).collect();
                let mut known = described.clone();
                allowed.sort();
                known.sort();
                assert_eq!(allowed, known, "{shown}");
            }
        }
    }
}

#[actix_rt::test]
async fn the_page_of_the_description_needs_nothing_from_elsewhere() {
    let service = Served::start(&[]);
    let page = get(&service, "/docs").await;
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let text = page.text();
    assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
    for part in text.split(['"', '\'']).filter(|part| part.starts_with('/')) {
        assert_eq!(get(&service, part).await.status, 200, "{part}");
    }
    assert!(!get(&service, "/docs/page.js").await.text().contains("innerHTML"));
}

/// Runs schemathesis where it is installed; see `tests/schemathesis.sh`.
#[test]
fn schemathesis_finds_no_answer_that_is_not_described() {
    let is_there = std::env::var_os("WSFLEET_SCHEMATHESIS").is_some()
        || std::path::Path::new("target/schemathesis/bin/schemathesis").exists();
    if !is_there {
        println!(
            "left out: schemathesis is not installed; run tests/schemathesis.sh, or name it as WSFLEET_SCHEMATHESIS"
        );
        return;
    }
    let began = std::time::Instant::now();
    let output = std::process::Command::new("tests/schemathesis.sh")
        .args([env!("CARGO_BIN_EXE_wsfleet"), "5"])
        .env("WSFLEET_SCHEMATHESIS_SECONDS", "60")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(began.elapsed() < Duration::from_secs(300));
}

#[actix_rt::test]
async fn variables_have_a_bound_and_lists_leave_out_what_is_long() {
    let service = Served::start(&["--local", "1"]);
    let name = service.get("/v1/workspaces").await["workspaces"][0]["name"].as_str().unwrap().to_owned();
    let path = format!("/v1/workspaces/{name}/execute");
    for much in [
        json!({ "command": "true", "env": { "A": "x".repeat(3_900_000) } }),
        json!({ "command": "true", "env": { "A": "x".repeat(131_067) } }),
        json!({ "command": "true", "secret_env": { "A": "x".repeat(131_071) } }),
        json!({ "command": "true", "cwd": "x".repeat(5000) }),
    ] {
        post(&service, &path, &much).await.is_problem(422, "invalid-request");
    }
    let long = format!("true {}", "ä".repeat(1000));
    let done = service.post(&path, &json!({ "command": long, "env": { "A": "x".repeat(100_000) } })).await;
    assert_eq!(done["outcome"], "succeeded");
    let listed = &get(&service, "/v1/commands").await.json()["commands"][0];
    assert_eq!(listed["command"]["env"], json!({}));
    for text in [&listed["command"]["command"], &listed["result"]["command"]] {
        assert_eq!(text.as_str().unwrap(), long.chars().take(300).collect::<String>());
    }
    let whole = get(&service, &format!("/v1/commands/{}", done["id"].as_str().unwrap())).await.json();
    assert_eq!(whole["command"]["command"], long.as_str());
    assert_eq!(whole["command"]["env"]["A"].as_str().unwrap().len(), 100_000);
}
