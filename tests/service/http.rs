//! Requests as they are, with all of their answers.

use std::time::Duration;

use awc::http::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;

use crate::scene::Served;

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {}", self.status, self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Checks that it is a problem document of this kind.
    pub(crate) fn is_problem(&self, status: u16, kind: &str) {
        let shown = self.text();
        assert_eq!(self.status.as_u16(), status, "{shown}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{shown}");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:wsfleet:problem:{kind}"), "{shown}");
        assert_eq!(problem["status"], status);
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        assert!(!self.header("x-request-id").is_empty());
    }
}

/// Sends a request with these headers and this body.
pub(crate) async fn send(
    service: &Served,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Answer {
    let client = awc::Client::builder().timeout(Duration::from_secs(30)).disable_redirects().finish();
    let mut request = client.request(Method::from_bytes(method.as_bytes()).unwrap(), service.url(path));
    for (name, value) in headers {
        request = request.insert_header((*name, *value));
    }
    let mut answer = request.send_body(body.into()).await.unwrap();
    let body = answer.body().limit(256 << 20).await.unwrap().to_vec();
    Answer { status: answer.status(), headers: answer.headers().clone(), body }
}

pub(crate) async fn get(service: &Served, path: &str) -> Answer {
    send(service, "GET", path, &[], "").await
}

pub(crate) async fn post(service: &Served, path: &str, body: &Value) -> Answer {
    send(service, "POST", path, &[("content-type", "application/json")], body.to_string()).await
}
