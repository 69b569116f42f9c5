use std::fs;

use awc::http::{Method, StatusCode};
use serde_json::{Value, json};
use workspace_fleet::{
    Connection, Fleet, WorkspaceConfig,
    protocol::{CommandHead, EventId},
};

use super::scene::{AGENT_KEY, FULL_KEY, Scene};
use crate::support::proxy::{Fault, Proxy};

fn commands(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    items.filter_map(|event| event["command"].as_str().map(str::to_owned)).collect()
}

#[actix_rt::test]
async fn the_head_is_put_before_a_command_and_shown_to_no_client() {
    let scene = Scene::start().await;
    let started = scene.start_command("echo \"$WSFLEET_COMMAND_ID\"").await;
    assert_eq!(
        (&started["command"], &started["timeout"], &started["cwd"], &started["kind"]),
        (&json!("echo \"$WSFLEET_COMMAND_ID\""), &json!(60), &Value::Null, &json!("BashCommand"))
    );
    let id = started["id"].as_str().unwrap();
    let process_id = scene.ended(id).await["stdout"].as_str().unwrap().trim().parse::<EventId>().unwrap();
    let search = "/api/bash/bash_events/search?kind__eq=BashCommand";
    assert_eq!(commands(&scene.get(search).await), ["echo \"$WSFLEET_COMMAND_ID\""]);
    let event = format!("/api/bash/bash_events/{id}");
    assert_eq!(scene.get(&event).await["command"], started["command"]);
    let (_, direct) = scene.ask(Method::GET, scene.direct(&event), AGENT_KEY, None).await;
    let (head, rest) = CommandHead::strip(direct["command"].as_str().unwrap()).expect("the agent has the head");
    assert_eq!((head.id(), rest), (process_id, "echo \"$WSFLEET_COMMAND_ID\""));
}

#[actix_rt::test]
async fn a_client_that_puts_a_head_itself_finds_it_again() {
    let scene = Scene::start().await;
    let command = format!("{}echo \"$WSFLEET_COMMAND_ID\"", CommandHead::new(EventId::random()));
    let started = scene.start_command(&command).await;
    assert_eq!(started["command"], json!(command));
    let search = "/api/bash/bash_events/search?kind__eq=BashCommand";
    assert_eq!(commands(&scene.get(search).await), [command.as_str()]);
    let out = scene.ended(started["id"].as_str().unwrap()).await["stdout"].as_str().unwrap().to_owned();
    assert_eq!(out.trim(), CommandHead::strip(&command).unwrap().0.id().to_string());
}

#[actix_rt::test]
async fn a_fleet_whose_server_is_the_gateway_finds_a_start_whose_answer_is_lost() {
    let scene = Scene::start().await;
    let proxy = Proxy::start(&format!("http://{}", scene.address())).await.unwrap();
    proxy.spoil_next("start_bash_command", Fault::DropAnswer);
    let fleet = Fleet::builder().worker_threads(1).start().unwrap();
    let connection = Connection::new(&format!("{}/workspaces/w%201", proxy.url())).unwrap().with_api_key(FULL_KEY);
    let workspace = fleet.add(WorkspaceConfig::new("w", connection)).await.unwrap();
    let file = scene.root.path().join("starts");
    let command = format!("echo x >>'{}'; echo out", file.display());
    assert_eq!(workspace.execute_command(command).await.unwrap().stdout, "out\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "x\n");
    assert_eq!(workspace.observe().await.unwrap().starts_recovered, 1);
    fleet.shutdown().await;
}

#[actix_rt::test]
async fn a_start_whose_answer_is_lost_is_not_the_clients_problem() {
    let root = tempfile::TempDir::new().unwrap();
    let agent = crate::agent::Agent::start(root.path(), &[AGENT_KEY]);
    let proxy = Proxy::start(&format!("http://127.0.0.1:{}", agent.port)).await.unwrap();
    let scene = Scene::by_way_of(&proxy.url()).await;
    let file = root.path().join("starts");
    for (fault, number) in [(Fault::DropAnswer, 1), (Fault::Refuse(503, 0), 2), (Fault::AnswerInstead(502), 3)] {
        proxy.spoil_next("start_bash_command", fault);
        let started = scene.start_command(&format!("echo x >>'{}'", file.display())).await;
        scene.ended(started["id"].as_str().unwrap()).await;
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), number, "{fault:?}");
    }
    assert_eq!(proxy.spoilt(), 3);
}

#[actix_rt::test]
async fn a_read_whose_connection_is_cut_is_made_again() {
    let root = tempfile::TempDir::new().unwrap();
    let agent = crate::agent::Agent::start(root.path(), &[AGENT_KEY]);
    let proxy = Proxy::start(&format!("http://127.0.0.1:{}", agent.port)).await.unwrap();
    let scene = Scene::by_way_of(&proxy.url()).await;
    for fault in [Fault::DropAnswer, Fault::Refuse(503, 0)] {
        proxy.spoil_next("bash_events/search", fault);
        assert_eq!(scene.get("/api/bash/bash_events/search").await["items"], json!([]));
    }
    // What is half there is told as such.
    fs::write(root.path().join("file"), vec![b'x'; 1 << 20]).unwrap();
    proxy.spoil_next("download", Fault::CutAnswer(1000));
    let url = scene.url(&format!("/api/file/download?path={}/file", root.path().display()));
    // The connection may end before the head of the answer has gone out.
    if let Ok(mut answer) = scene.client.get(url).insert_header(("x-session-api-key", FULL_KEY)).send().await {
        let got = answer.body().limit(2 << 20).await.map_or(0, |body| body.len());
        assert!(got < 1 << 20, "a part of the file passed for all of it");
    }
    assert_eq!(proxy.spoilt(), 3);
}

#[actix_rt::test]
async fn an_execution_is_answered_as_the_agent_does() {
    let scene = Scene::start().await;
    let both = json!({ "command": "echo out; echo err >&2; exit 7", "timeout": 20 });
    let answer = scene.post("/api/bash/execute_bash_command", &both).await;
    assert_eq!(
        (&answer["exit_code"], &answer["stdout"], &answer["stderr"], &answer["kind"]),
        (&json!(7), &json!("out\n"), &json!("err\n"), &json!("BashOutput"))
    );
    let late = json!({ "command": "echo part; sleep 20", "timeout": 1 });
    let answer = scene.post("/api/bash/execute_bash_command", &late).await;
    assert_eq!((&answer["exit_code"], &answer["stdout"]), (&json!(-1), &json!("part\n")));
    // What makes no sense is answered by the agent, in its own words.
    let (status, answer) = scene
        .ask(Method::POST, scene.url("/api/bash/execute_bash_command"), FULL_KEY, Some(&json!({ "command": 1 })))
        .await;
    assert_eq!((status, &answer["detail"][0]["type"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("string_type")));
}

#[actix_rt::test]
async fn a_command_is_stopped() {
    let scene = Scene::start().await;
    let started = scene.start_command("sleep 60").await;
    let id = started["id"].as_str().unwrap();
    let stopped = scene.post(&format!("/api/bash/bash_commands/{id}/stop"), &Value::Null).await;
    assert_eq!(stopped, json!({ "success": true }));
    assert_eq!(scene.ended(id).await["exit_code"], json!(-15));
    let unknown = scene.url(&format!("/api/bash/bash_commands/{}/stop", EventId::random()));
    let (status, _) = scene.ask(Method::POST, unknown, FULL_KEY, None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
