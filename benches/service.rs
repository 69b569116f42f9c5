//! What the service costs: commands per second through it, beside the library alone.
//!
//! Both drive the same embedded agent server from the same number of workspaces, in turns within one run, so that only the
//! ratios count. Through the service a command is executed by its own API (`/v1`), or is started and polled to its end by the
//! agent-server API of the gateway, with no wait but a millisecond between polls.
//!
//! ```console
//! $ cargo bench --bench service
//! ```

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use workspace_fleet::{
    Connection, Fleet, Workspace, WorkspaceConfig,
    agent::{AgentConfig, AgentServer},
    client::{AgentClient, ClientLimits, EventQuery, SharedTls, Transport},
    protocol::{BashEvent, BashEventKind, StartBashCommand},
    service::{Service, ServiceConfig},
};

const ROUNDS: usize = 5;
const WORKSPACES: usize = 8;
const COMMANDS: usize = 100;

type Done = Result<(), Box<dyn std::error::Error>>;

fn main() -> Done {
    let agent = AgentServer::spawn(AgentConfig::default().with_session_key("key"))?;
    let connection = Connection::new(&agent.url())?.with_api_key("key");
    let state = tempfile::tempdir()?;
    let mut config = ServiceConfig::new(state.path());
    config.rate_limit = u32::MAX;
    for number in 0..WORKSPACES {
        config = config.with_workspace(WorkspaceConfig::new(format!("w{number}"), connection.clone()));
    }
    let service = Service::start(config)?;
    let fleet = Fleet::start()?;
    actix_rt::System::new().block_on(async {
        let mut workspaces = Vec::new();
        for number in 0..WORKSPACES {
            workspaces.push(fleet.add(WorkspaceConfig::new(format!("w{number}"), connection.clone())).await?);
        }
        let (mut by_api, mut by_gateway) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            let alone = per_second(library(&workspaces)).await?;
            let api = per_second(executed(&service.url())).await?;
            let gateway = per_second(started_and_polled(&service.url())).await?;
            println!("round {round}: {alone:.0}/s by the library, {api:.0}/s by /v1, {gateway:.0}/s by the gateway");
            by_api.push(api / alone);
            by_gateway.push(gateway / alone);
        }
        for (name, ratios) in [("/v1", &mut by_api), ("gateway", &mut by_gateway)] {
            ratios.sort_by(f64::total_cmp);
            println!("{name}: median {:.2}, from {:.2} to {:.2}", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    })
}

async fn per_second(work: impl Future<Output = Done>) -> Result<f64, Box<dyn std::error::Error>> {
    let began = Instant::now();
    work.await?;
    Ok((WORKSPACES * COMMANDS) as f64 / began.elapsed().as_secs_f64())
}

async fn library(workspaces: &[Workspace]) -> Done {
    let each = workspaces.iter().map(|workspace| async move {
        for _ in 0..COMMANDS {
            workspace.execute_command("true").await?;
        }
        Ok(())
    });
    futures::future::try_join_all(each).await.map(drop)
}

async fn executed(service: &str) -> Done {
    let client = awc::Client::builder().timeout(Duration::from_secs(30)).finish();
    let each = (0..WORKSPACES).map(|number| {
        let (client, url) = (client.clone(), format!("{service}/v1/workspaces/w{number}/execute"));
        async move {
            for _ in 0..COMMANDS {
                let mut answer = client.post(&url).send_json(&json!({ "command": "true" })).await?;
                let body: Value = serde_json::from_slice(&answer.body().await?)?;
                if !answer.status().is_success() {
                    return Err(format!("{}: {body}", answer.status()).into());
                }
            }
            Ok(())
        }
    });
    futures::future::try_join_all(each).await.map(drop)
}

async fn started_and_polled(service: &str) -> Done {
    let transport = Transport::new(&SharedTls::default());
    let each = (0..WORKSPACES).map(|number| {
        let transport = &transport;
        async move {
            let connection = Connection::new(&format!("{service}/workspaces/w{number}"))?;
            let client = AgentClient::new(&connection, transport, ClientLimits::default())?;
            for _ in 0..COMMANDS {
                start_and_wait(&client).await?;
            }
            Ok(())
        }
    });
    futures::future::try_join_all(each).await.map(drop)
}

async fn start_and_wait(client: &AgentClient) -> Done {
    let start = StartBashCommand { command: "true".to_owned(), cwd: None, timeout: 30 };
    let id = client.start_bash_command(&start, None).await?.id;
    let query = EventQuery { kind: Some(BashEventKind::Output), command_id: Some(id), ..EventQuery::default() };
    loop {
        let page = client.search_bash_events(&query).await?;
        if page.items.iter().any(|event| matches!(event, BashEvent::Output(output) if output.is_final())) {
            return Ok(());
        }
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
}
