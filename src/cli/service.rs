//! A service as the inventory: which workspaces it has, and how they are reached through it.

use std::{collections::BTreeMap, io::Write as _, path::Path, time::Duration};

use awc::http::{Method, StatusCode, header::HeaderMap};
use futures::StreamExt as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use super::args::TargetArgs;
use crate::{
    Connection, Failure, SessionKey,
    client::{AgentClient, Below, ClientLimits, Passed, PassedAnswer, PassedBody, SharedTls, Transport},
    inventory::{Inventory, InventoryError, check_name},
};

/// How long the head of an answer may take.
const WAIT: Duration = Duration::from_secs(30);

/// How many workspaces are asked for at once.
const PAGE: usize = 1000;

/// How many pages a list may have, and how large each may be.
const PAGES: usize = 1000;
const PAGE_BYTES: usize = 32 << 20;

/// A page of the list.
#[derive(Deserialize)]
struct Page {
    workspaces: Vec<Listed>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// A workspace of the list, as much of it as matters here.
#[derive(Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    working_dir: Option<String>,
}

/// The inventory that a list makes.
#[derive(Serialize)]
struct Entries {
    workspace: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
    labels: BTreeMap<String, String>,
}

/// Asks a service for its workspaces.
pub(super) fn inventory(url: &str, args: &TargetArgs) -> Result<Inventory, InventoryError> {
    let variable = &args.service_key_env;
    let key = std::env::var(variable).ok().filter(|key| !key.trim().is_empty());
    if key.is_none() && args.given.contains("service_key_env") {
        let reason = format!("the environment variable {variable}, which holds its key, is not set; export it first");
        return Err(InventoryError::Key { origin: format!("the service {url}"), reason });
    }
    let has_key = key.is_some();
    let listed = actix_rt::System::new().block_on(list(url, args, key))?;
    let base = url.trim().trim_end_matches('/');
    // Its own place is no folder that a relative path could be seen from.
    let ca_file = args.ca_file.as_deref().map(std::path::absolute).transpose().ok().flatten();
    let entry = |listed: Listed| Entry {
        host: format!("{base}/workspaces/{}", utf8_percent_encode(&listed.name, NON_ALPHANUMERIC)),
        name: listed.name,
        api_key_env: has_key.then(|| variable.clone()),
        working_dir: listed.working_dir,
        ca_file: ca_file.as_deref().and_then(Path::to_str).map(str::to_owned),
        labels: listed.labels,
    };
    let (usable, odd): (Vec<_>, Vec<_>) = listed.into_iter().partition(|listed| check_name(&listed.name).is_ok());
    if let Some(first) = odd.first() {
        let (count, name) = (odd.len(), first.name.escape_debug());
        let note =
            format!("wsfleet: {count} of its workspaces are left aside, whose names cannot be used here: `{name}`");
        // Without a standard error there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "{note}{}", if count > 1 { " and others" } else { "" });
    }
    let entries = Entries { workspace: usable.into_iter().map(entry).collect() };
    let text = serde_json::to_vec(&entries).map_err(|error| failed(url, &error.to_string()))?;
    Inventory::from_bytes(Path::new(base), text)
}

async fn list(url: &str, args: &TargetArgs, key: Option<String>) -> Result<Vec<Listed>, InventoryError> {
    let mut connection = Connection::new(url).map_err(|failure| failed(url, &format!("cannot be used: {failure}")))?;
    if let Some(key) = key {
        connection = connection.with_api_key(SessionKey::from(key));
    }
    if let Some(file) = &args.ca_file {
        connection = connection.with_ca_file(file);
    }
    let mut limits = ClientLimits::default();
    limits.connect_timeout = args.connect_timeout.unwrap_or(limits.connect_timeout);
    let client = AgentClient::new(&connection, &Transport::new(&SharedTls::new()), limits)
        .map_err(|failure| failed(url, &failure.kind.to_string()))?;
    let mut found = Vec::new();
    let mut cursor = None;
    for _ in 0..PAGES {
        let page = page(&client, url, cursor.as_deref(), &args.service_key_env).await?;
        found.extend(page.workspaces);
        match page.next_cursor {
            None => return Ok(found),
            // A service that gives the same page again would do so for ever.
            next if next == cursor => break,
            next => cursor = next,
        }
    }
    Err(failed(url, "lists workspaces without end; is it a service of wsfleet?"))
}

async fn page(client: &AgentClient, url: &str, cursor: Option<&str>, variable: &str) -> Result<Page, InventoryError> {
    let mut path = format!("/v1/workspaces?limit={PAGE}");
    if let Some(cursor) = cursor {
        path.push_str(&format!("&cursor={}", utf8_percent_encode(cursor, NON_ALPHANUMERIC)));
    }
    let asked = Passed {
        method: Method::GET,
        below: Below::Root,
        path,
        headers: HeaderMap::new(),
        body: PassedBody::None,
        wait: WAIT,
    };
    let broke = |failure: Failure| failed(url, &format!("does not tell its workspaces: {}", failure.kind));
    let answer = client.pass(asked).await.map_err(broke)?;
    let status = answer.status;
    let body = read(answer).await.map_err(broke)?;
    match status {
        StatusCode::OK => serde_json::from_slice(&body)
            .map_err(|error| failed(url, &format!("gives no list of workspaces; is it one of wsfleet? ({error})"))),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(failed(
            url,
            &format!(
                "does not accept the key: export one of its keys as {variable}, or name another variable with --service-key-env"
            ),
        )),
        StatusCode::NOT_FOUND => {
            Err(failed(url, "has no list of workspaces; is it the address that `wsfleet serve` prints?"))
        }
        status => Err(failed(url, &format!("answered {status} when it was asked for its workspaces"))),
    }
}

async fn read(mut answer: PassedAnswer) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = answer.body.next().await {
        body.extend_from_slice(&piece?);
        if body.len() > PAGE_BYTES {
            return Err(Failure::protocol(format!("a page of its list is larger than {} MiB", PAGE_BYTES >> 20)));
        }
    }
    Ok(body)
}

fn failed(url: &str, reason: &str) -> InventoryError {
    // What may be a password does not go into messages.
    let shown = url.rsplit_once('@').map_or(url, |(_, host)| host);
    InventoryError::Service { url: shown.to_owned(), reason: reason.to_owned() }
}
