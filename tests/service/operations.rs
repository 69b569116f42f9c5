use serde_json::json;

use crate::{
    http::{get, post, send},
    scene::Served,
};

fn workspace(list: &serde_json::Value) -> String {
    list["workspaces"][0]["name"].as_str().unwrap().to_owned()
}

/// The value of a line of the metrics.
fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.rsplit_once(' ').is_some_and(|(given, _)| given == name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[actix_rt::test]
async fn what_happened_is_counted() {
    let service = Served::start(&["--local", "2"]);
    let name = workspace(&get(&service, "/v1/workspaces").await.json());
    for (command, count) in [("exit 0", 2), ("exit 1", 1)] {
        for _ in 0..count {
            post(&service, &format!("/v1/workspaces/{name}/execute"), &json!({ "command": command })).await;
        }
    }
    get(&service, "/made-up/by-someone").await;
    let answer = get(&service, "/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    let text = answer.text();
    for (name, value) in [
        ("wsfleet_workspaces", 2.0),
        ("wsfleet_commands_total{outcome=\"succeeded\"}", 2.0),
        ("wsfleet_commands_total{outcome=\"failed\"}", 1.0),
        ("wsfleet_command_start_duration_seconds_count", 3.0),
        ("wsfleet_fleet_commands_started_total", 3.0),
        ("wsfleet_commands_running", 0.0),
        ("wsfleet_sse_readers", 0.0),
        ("wsfleet_http_requests_total{method=\"POST\",route=\"/v1/workspaces/{name}/execute\",status=\"200\"}", 3.0),
        ("wsfleet_http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"}", 1.0),
    ] {
        assert!((metric(&text, name) - value).abs() < f64::EPSILON, "{name}: {text}");
    }
    assert!(metric(&text, "wsfleet_store_commit_duration_seconds_count") >= 6.0, "{text}");
    assert!(!text.contains(&name) && !text.contains("made-up"), "no name is in it: {text}");
}

#[actix_rt::test]
async fn a_request_has_an_id_in_its_answer_and_in_the_log() {
    let service = Served::start(&["--local", "1"]);
    let answer = send(&service, "GET", "/health", &[("x-request-id", "trace-17")], "").await;
    assert_eq!(answer.header("x-request-id"), "trace-17");
    let answer = send(&service, "GET", "/health", &[("x-request-id", "a b\"c")], "").await;
    assert_eq!(answer.header("x-request-id").len(), 32, "one that cannot be logged is replaced");
}

#[actix_rt::test]
async fn it_says_that_it_ends_and_those_that_wait_are_told() {
    let mut service = Served::start(&["--local", "1", "--drain-delay", "2s"]);
    assert_eq!(get(&service, "/ready").await.status, 200);
    let name = workspace(&get(&service, "/v1/workspaces").await.json());
    let path = format!("/v1/workspaces/{name}/execute");
    let body = json!({ "command": "sleep 600", "timeout_ms": null });
    let started = post(&service, &format!("/v1/workspaces/{name}/commands"), &body).await.json();
    let wait = post(&service, &path, &body);
    let end = async {
        // It is being waited for when the end is told.
        while get(&service, "/v1/commands?state=running").await.json()["commands"].as_array().unwrap().len() < 2 {}
        service.tell_to_end();
        let mut last = get(&service, "/ready").await;
        while last.status == 200 {
            last = get(&service, "/ready").await;
        }
        last.is_problem(503, "unavailable");
        assert_eq!(get(&service, "/health").await.status, 200, "it still answers");
    };
    let events = format!("/v1/commands/{}/events", started["id"].as_str().unwrap());
    let (waited, (), events) = futures::join!(wait, end, get(&service, &events));
    assert_eq!((waited.status.as_u16(), waited.json()["state"].clone()), (202, json!("running")));
    assert_eq!(events.status, 200, "readers are let go");
    assert_eq!(service.wait_for_end(), Some(0));
}
