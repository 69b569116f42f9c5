use awc::http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    agent::Agent,
    client::{follow, until_state},
    scene::Served,
};

/// A service with three workspaces, `w0` to `w2`.
async fn stage() -> (Served, TempDir, Agent) {
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let service = Served::start(&[]);
    for number in 0..3 {
        let host = format!("http://127.0.0.1:{}", agent.port);
        service.post("/v1/workspaces", &json!({ "name": format!("w{number}"), "host": host })).await;
    }
    (service, root, agent)
}

fn each(operation: &Value) -> Value {
    json!({ "selector": {}, "work": { "each": { "steps": [{ "operation": operation }] } } })
}

fn path(run: &Value) -> String {
    format!("/v1/runs/{}", run["id"].as_str().unwrap())
}

#[actix_rt::test]
async fn a_run_is_followed_reported_in_pages_and_listed() {
    let (service, root, _agent) = stage().await;
    let upload = json!({ "upload": { "source": { "base64": "aGkh" }, "destination": root.path().join("up") } });
    let execute = json!({ "execute": { "command": "cat up; echo $S | wc -c; seq 1 5000 >&2; [ $WORKSPACE != w1 ]",
        "cwd": root.path(), "env": { "WORKSPACE": "{workspace}" } } });
    let steps = json!([{ "operation": upload }, { "operation": execute }]);
    let run = json!({ "selector": {}, "work": { "each": { "steps": steps } }, "secret_env": { "S": "12345" } });
    let run = service.post("/v1/runs", &run).await;
    let events = follow(&service.url(&format!("{}/events", path(&run)))).await;
    let end = &events.last().unwrap().data;
    assert_eq!(end["summary"]["outcomes"], json!({ "succeeded": 2, "failed": 1 }), "{end}");
    assert_eq!(end["progress"]["finished"], 3);
    let (mut targets, mut cursor) = (Vec::new(), json!(0));
    loop {
        let report = service.get(&format!("{}/report?limit=1&tail=10&cursor={cursor}", path(&run))).await;
        targets.extend(report["targets"].as_array().unwrap().clone());
        cursor = report["next_cursor"].clone();
        if report["complete"] == true {
            break;
        }
    }
    let mut seen: Vec<_> =
        targets.iter().map(|target| (target["workspace"].clone(), target["outcome"].clone())).collect();
    seen.sort_by_key(|(workspace, _)| workspace.to_string());
    let expected = [("w0", "succeeded"), ("w1", "failed"), ("w2", "succeeded")].map(|(w, o)| (json!(w), json!(o)));
    assert_eq!(seen, expected);
    let result = &targets[0]["value"]["value"];
    assert_eq!(
        (&result["stdout"], &result["stderr"], &result["truncated"]),
        (&json!("hi!6\n"), &json!("4999\n5000\n"), &json!(true))
    );
    let list = service.get("/v1/runs?state=finished&limit=1").await;
    assert_eq!((&list["runs"][0]["id"], &list["next_cursor"]), (&run["id"], &Value::Null), "{list}");
}

#[actix_rt::test]
async fn jobs_are_added_to_an_open_run_until_it_is_closed() {
    let (service, _root, _agent) = stage().await;
    let job = |name: &str| json!({ "name": name, "steps": [{ "operation": { "execute": { "command": "true" } } }] });
    let run = json!({ "selector": {}, "work": { "jobs": [] }, "open": true });
    let run = service.post("/v1/runs", &run).await;
    service.post(&format!("{}/jobs", path(&run)), &json!({ "jobs": [job("a"), job("b")] })).await;
    service.post(&format!("{}/jobs", path(&run)), &json!({ "jobs": [job("c")] })).await;
    assert_eq!(service.get("/v1/runs?state=running").await["runs"][0]["id"], run["id"]);
    service.post(&format!("{}/close", path(&run)), &json!({})).await;
    let ended = until_state(&service.url(&path(&run)), "finished").await;
    assert_eq!(ended["summary"]["outcomes"], json!({ "succeeded": 3 }), "{ended}");
    let late = service.ask(Method::POST, &format!("{}/jobs", path(&run)), Some(&json!({ "jobs": [job("d")] }))).await;
    assert_eq!(late.0, StatusCode::CONFLICT, "{}", late.1);
}

#[actix_rt::test]
async fn a_run_is_cancelled_and_what_runs_is_stopped() {
    let (service, _root, _agent) = stage().await;
    let run =
        service.post("/v1/runs", &each(&json!({ "execute": { "command": "sleep 600", "timeout_ms": null } }))).await;
    while service.get(&path(&run)).await["progress"]["running"] != 3 {
        actix_rt::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    service.post(&format!("{}/cancel", path(&run)), &json!({})).await;
    let ended = until_state(&service.url(&path(&run)), "finished").await;
    assert_eq!(ended["summary"]["outcomes"], json!({ "stopped": 3 }), "{ended}");
    assert_eq!(ended["cancelled"], true);
}

#[actix_rt::test]
async fn what_a_run_of_the_service_cannot_do_is_refused_with_the_reason() {
    let (service, _root, _agent) = stage().await;
    let mut misspelled = each(&json!("ping"));
    misspelled["retry"] = json!(3);
    let mut misspelled_filter = each(&json!("ping"));
    misspelled_filter["selector"] = json!({ "lables": { "tier": "gpu" } });
    let mut with_id = each(&json!("ping"));
    with_id["id"] = json!("0f8fad5bd9cb469fa16570867728950e");
    let cases = [
        (each(&json!({ "download": { "source": "/etc/hosts", "destination": "/tmp/x" } })), "service's own machine"),
        (each(&json!({ "execute": { "command": "cat", "stdin": { "path": "/etc/hosts" } } })), "base64"),
        (each(&json!({ "execute": { "command": "cat", "secret_env": { "A": "b" } } })), "secret_env"),
        (json!({ "selector": {}, "work": { "jobs": [{ "steps": [] }] } }), "name"),
        (misspelled, "retry"),
        (misspelled_filter, "selector.lables"),
        (each(&json!({ "execute": { "command": "true", "timeout": 5 } })), "steps.0.operation.timeout"),
        (with_id, "id"),
    ];
    for (run, reason) in cases {
        let (status, problem) = service.ask(Method::POST, "/v1/runs", Some(&run)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{run}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(reason), "{run}: {problem}");
    }
}
