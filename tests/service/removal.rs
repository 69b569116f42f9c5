use std::pin::pin;

use futures::future::{Either, select};
use serde_json::json;

use crate::{
    http::{get, post, send},
    scene::Served,
};

#[actix_rt::test]
async fn a_removal_that_takes_its_time_holds_up_no_other_workspace() {
    // The system takes connections to it, and nobody ever answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = format!("http://{}", silent.local_addr().unwrap());
    let service = Served::start(&[]);
    assert_eq!(post(&service, "/v1/workspaces", &json!({ "name": "silent", "host": host })).await.status, 201);
    let starts = service.url("/v1/workspaces/silent/commands");
    actix_rt::spawn(async move {
        // It is never answered well.
        let _ = awc::Client::default().post(starts).send_json(&json!({ "command": "true" })).await;
    });
    while get(&service, "/v1/commands").await.json()["commands"].as_array().unwrap().is_empty() {}
    let mut removal = pin!(send(&service, "DELETE", "/v1/workspaces/silent", &[], ""));
    let others = async {
        while get(&service, "/v1/workspaces").await.json()["total"] != 0 {}
        post(&service, "/v1/workspaces", &json!({ "name": "other", "host": host })).await
    };
    match select(pin!(others), removal.as_mut()).await {
        Either::Left((added, _)) => assert_eq!(added.status, 201, "{}", added.text()),
        Either::Right(_) => panic!("the removal has ended before another workspace could be added"),
    }
    assert_eq!(removal.await.status, 204);
}
