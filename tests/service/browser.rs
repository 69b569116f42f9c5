//! A browser without a window, driven over its DevTools protocol.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use actix_codec::Framed;
use actix_http::ws::Item;
use awc::{
    BoxedSocket,
    ws::{Codec, Frame, Message},
};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long the page may take for anything, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that the browser says at once: pictures of the page.
const MAX_MESSAGE: usize = 64 << 20;

/// A browser with one page.
pub(crate) struct Browser {
    process: Child,
    _profile: TempDir,
    socket: Framed<BoxedSocket, Codec>,
    calls: u64,
    /// What the page and the browser complained of.
    complaints: Vec<String>,
}

impl Browser {
    /// Starts one; `None`, with a message, where none is installed and none is required.
    pub(crate) async fn start() -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
        let is_there = |name: &&str| folders.iter().any(|folder| Path::new(folder).join(name).is_file());
        let Some(name) = names.into_iter().find(is_there) else {
            assert!(env::var_os("WSFLEET_REQUIRE_CHROMIUM").is_none(), "no chromium is installed");
            eprintln!("skipped: no chromium is installed");
            return None;
        };
        let profile = TempDir::new().unwrap();
        let (process, port) = begin(name, &profile);
        let socket = connect(port).await;
        let mut browser = Self { process, _profile: profile, socket, calls: 0, complaints: Vec::new() };
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({})).await;
        }
        browser.size(1440, 900).await;
        Some(browser)
    }

    /// Sets how large the page is shown.
    pub(crate) async fn size(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Goes to a page.
    pub(crate) async fn open(&mut self, url: &str) {
        let answer = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(answer.get("errorText").is_none(), "{url}: {answer}");
    }

    /// Carries out an expression in the page and returns what comes of it.
    pub(crate) async fn eval(&mut self, expression: &str) -> Value {
        let call = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", call).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page.
    pub(crate) async fn until(&mut self, expression: &str) {
        let wait = format!(
            "new Promise((resolve) => {{
                const end = Date.now() + {patience};
                const look = () => {{
                    let is = false;
                    try {{ is = Boolean({expression}); }} catch {{ }}
                    if (is || Date.now() > end) resolve(is); else setTimeout(look, 30);
                }};
                look();
            }})",
            patience = PATIENCE.as_millis() / 2,
        );
        if self.eval(&wait).await != Value::Bool(true) {
            let shown = self.eval("document.body.innerText").await;
            panic!("never true: {expression}\ncomplaints: {:#?}\n{}", self.complaints, shown.as_str().unwrap_or("-"));
        }
    }

    /// Clicks on an element, as a person does: where it is, if nothing is before it.
    pub(crate) async fn click(&mut self, selector: &str) {
        self.until(&format!("document.querySelector({selector:?})?.checkVisibility()")).await;
        let place = format!(
            "(() => {{ const element = document.querySelector({selector:?}); element.scrollIntoView({{ block: 'center' }});
              const {{ x, y, width, height }} = element.getBoundingClientRect(); return [x + width / 2, y + height / 2]; }})()"
        );
        let place = self.eval(&place).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Writes a text into a field, in place of what is in it.
    pub(crate) async fn write(&mut self, selector: &str, text: &str) {
        self.eval(&format!(
            "(document.querySelector({selector:?}).focus(), document.querySelector({selector:?}).select())"
        ))
        .await;
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// The text of an element.
    pub(crate) async fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?}).textContent")).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// What the page and the browser complained of until now: errors, warnings, and what the page's policy forbade.
    pub(crate) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let call = json!({ "id": id, "method": method, "params": params });
        self.socket.send(Message::Text(call.to_string().into())).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.answer(id)).await;
        answer.unwrap_or_else(|_| panic!("the browser does not answer {method}"))
    }

    async fn answer(&mut self, id: u64) -> Value {
        let mut parts = Vec::new();
        loop {
            let text = match self.socket.next().await.expect("the browser is there").unwrap() {
                Frame::Text(text) => text,
                Frame::Continuation(Item::FirstText(part) | Item::Continue(part)) => {
                    parts.extend_from_slice(&part);
                    continue;
                }
                Frame::Continuation(Item::Last(part)) => {
                    parts.extend_from_slice(&part);
                    std::mem::take(&mut parts).into()
                }
                _ => continue,
            };
            let message: Value = serde_json::from_slice(&text).unwrap();
            if message["id"] == json!(id) {
                assert!(message.get("error").is_none(), "{message}");
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Value) {
        let params = &message["params"];
        let is_complaint = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                ["error", "warning", "assert"].iter().any(|kind| params["type"] == *kind)
            }
            // That a request was refused, or reached nobody, is said by the page.
            Some("Log.entryAdded") => params["entry"]["level"] == "error" && params["entry"]["source"] != "network",
            _ => false,
        };
        if is_complaint {
            self.complaints.push(params.to_string());
        }
    }
}

fn begin(name: &str, profile: &TempDir) -> (Child, u16) {
    let mut command = Command::new(name);
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    command.args(["--disable-background-networking", "--remote-debugging-port=0", "--hide-scrollbars"]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let address =
        lines.find_map(|line| Some(line.ok()?.strip_prefix("DevTools listening on ws://127.0.0.1:")?.to_owned()));
    let port = address.and_then(|address| address.split('/').next()?.parse().ok()).expect("the browser begins");
    // What it says must be taken, or it stands still one day.
    thread::spawn(move || lines.for_each(drop));
    (process, port)
}

async fn connect(port: u16) -> Framed<BoxedSocket, Codec> {
    let client = awc::Client::builder().timeout(PATIENCE).max_http_version(awc::http::Version::HTTP_11).finish();
    let mut answer = client.get(format!("http://127.0.0.1:{port}/json/list")).send().await.unwrap();
    let pages: Value = answer.json().await.unwrap();
    let page = pages.as_array().unwrap().iter().find(|page| page["type"] == "page").expect("there is a page");
    let address = page["webSocketDebuggerUrl"].as_str().unwrap();
    client.ws(address).max_frame_size(MAX_MESSAGE).connect().await.unwrap().1
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
