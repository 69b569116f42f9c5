//! The dashboard, as a browser shows it.

use std::fs;

use serde_json::json;
use tempfile::TempDir;
use workspace_fleet::service::{Access, ApiKey, Service, ServiceConfig};

use crate::{agent::Agent, browser::Browser, scene::Served};

/// Nothing that comes from a workspace may become more than text.
const EVIL: &str = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";

#[actix_rt::test]
async fn the_page_shows_the_fleet_runs_a_command_on_all_of_it_and_outlives_a_restart() {
    let Some(mut browser) = Browser::start().await else { return };
    let root = TempDir::new().unwrap();
    let agent = Agent::start(root.path(), &[]);
    let mut service = Served::start(&[]);
    for number in 0..4 {
        let host = format!("http://127.0.0.1:{}", agent.port);
        let labels = json!({ "number": number.to_string(), "evil": EVIL });
        service
            .post("/v1/workspaces", &json!({ "name": format!("sandbox-{number}"), "host": host, "labels": labels }))
            .await;
    }
    browser.open(&service.url("/")).await;
    browser.until("document.querySelector('#fleet-count').textContent === '4'").await;
    browser.until("document.querySelector('#connection').dataset.state === 'live'").await;
    browser.until("document.querySelector('#plot-throughput .plot-value').textContent !== '–'").await;
    assert_eq!(browser.complaints(), [] as [String; 0]);

    run_on_all(&mut browser, &root).await;

    service.kill();
    browser.until("document.querySelector('#connection').dataset.state === 'lost'").await;
    service.start_again();
    browser.until("document.querySelector('#connection').dataset.state === 'live'").await;
    browser.until("document.querySelector('#fleet-count').textContent === '4'").await;
    assert_eq!(browser.text("#selected").await, "4 workspaces selected", "what was selected is kept");
    browser.click("#select-none").await;
    browser.write("#filter", "number=2").await;
    browser.until("document.querySelector('#fleet-count').textContent === '1 of 4'").await;
    browser.click("#select-all").await;
    browser.write("#command", "echo after the restart on $((40 + 2))").await;
    browser.click("#run").await;
    browser.until("document.querySelector('#confirm-title').textContent.includes('1 workspace?')").await;
    browser.click("#confirm-yes").await;
    browser.until("document.querySelector('#output-text').textContent === 'after the restart on 42\\n'").await;
    browser.until("document.querySelector('#output-state').textContent === 'succeeded'").await;
    assert_eq!(browser.complaints(), [] as [String; 0]);
}

/// Runs a command on the whole fleet, and looks at what it writes while it runs and in the end.
async fn run_on_all(browser: &mut Browser, root: &TempDir) {
    browser.click("#select-all").await;
    let go_on = root.path().join("go-on");
    let evil = EVIL.replace('\'', "'\\''");
    let command = format!("echo first; until [ -e {} ]; do sleep 0.05; done; echo second '{evil}'", go_on.display());
    browser.write("#command", &command).await;
    browser.click("#run").await;
    browser.until("document.querySelector('#confirm-title').textContent.includes('4 workspaces')").await;
    browser.click("#confirm-yes").await;
    let lines = |word: &str, count: usize| {
        format!("document.querySelector('#output-text').textContent.split('  {word}').length === {}", count + 1)
    };
    browser.until(&lines("first", 4)).await;
    browser.until("document.querySelector('#output-state').textContent === 'running'").await;
    assert!(!browser.text("#output-text").await.contains("second"), "it is shown while it runs");
    fs::write(go_on, "").unwrap();
    browser.until(&lines("second", 4)).await;
    browser.until("document.querySelector('#output-state').textContent === 'succeeded'").await;
    browser.until("document.querySelector('#output-outcomes').textContent.includes('4 succeeded')").await;
    browser.until("document.querySelector('#activity .badge').textContent === 'succeeded'").await;
    let text = browser.text("#output-text").await;
    assert_eq!(text.matches(EVIL).count(), 4, "{text}");
    let made = "document.querySelectorAll('#output-text script, #output-text img, #activity img, .tip img').length";
    assert_eq!(browser.eval(made).await, 0);
    assert_eq!(browser.eval("document.title").await, "workspace-fleet");
}

#[actix_rt::test]
async fn a_key_is_asked_for_and_one_that_may_only_look_offers_nothing_else() {
    let Some(mut browser) = Browser::start().await else { return };
    let state = TempDir::new().unwrap();
    let config = ServiceConfig::new(state.path())
        .with_key(ApiKey::new("ops", "key-of-ops", Access::Full))
        .with_key(ApiKey::new("watch", "key-to-look", Access::ReadOnly));
    // It waits until the service is there, which the thread of the browser must not.
    let service = tokio::task::spawn_blocking(|| Service::start(config).unwrap()).await.unwrap();
    browser.open(&service.url()).await;
    browser.until("document.querySelector('#key').open").await;
    browser.write("#key-input", "wrong").await;
    browser.click("#key button").await;
    browser.until("document.querySelector('#key-error').textContent !== ''").await;
    browser.write("#key-input", "key-to-look").await;
    browser.click("#key button").await;
    browser.until("document.querySelector('#connection').dataset.state === 'live'").await;
    browser.until("document.querySelector('#fleet-empty').textContent.includes('curl http')").await;
    browser.until("document.querySelector('#access').checkVisibility()").await;
    assert_eq!(browser.eval("document.querySelector('#launch').checkVisibility()").await, false);
    browser.click("#forget").await;
    browser.until("document.querySelector('#key').open").await;
    browser.write("#key-input", "key-of-ops").await;
    browser.click("#key button").await;
    browser.until("document.querySelector('#connection').dataset.state === 'live'").await;
    assert_eq!(browser.eval("document.querySelector('#access').checkVisibility()").await, false);
    assert_eq!(browser.complaints(), [] as [String; 0]);
}
