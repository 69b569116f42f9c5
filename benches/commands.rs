//! What the actors cost: commands per second through a fleet, beside the same requests made by the client alone.
//!
//! Both drive the same embedded agent server from the same number of workspaces, in turns within one run, so that only the
//! ratio of the two counts. The client alone starts a command and searches until it has ended, with no wait in between.
//!
//! ```console
//! $ cargo bench --bench commands
//! ```

use std::time::{Duration, Instant};

use workspace_fleet::{
    Connection, Fleet, Workspace, WorkspaceConfig,
    agent::{AgentConfig, AgentServer},
    client::{AgentClient, ClientLimits, EventQuery, SharedTls, Transport},
    protocol::{BashEvent, BashEventKind, StartBashCommand},
};

const ROUNDS: usize = 5;
const WORKSPACES: usize = 8;
const COMMANDS: usize = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let agent = AgentServer::spawn(AgentConfig::default().with_session_key("key"))?;
    let connection = Connection::new(&agent.url())?.with_api_key("key");
    let fleet = Fleet::start()?;
    actix_rt::System::new().block_on(async {
        let mut workspaces = Vec::new();
        for number in 0..WORKSPACES {
            workspaces.push(fleet.add(WorkspaceConfig::new(format!("w{number}"), connection.clone())).await?);
        }
        let mut ratios = Vec::new();
        for round in 1..=ROUNDS {
            let alone = per_second(client_alone(&connection)).await?;
            let through = per_second(through_fleet(&workspaces)).await?;
            println!("round {round}: {through:.0}/s through the fleet, {alone:.0}/s by the client alone");
            ratios.push(through / alone);
        }
        ratios.sort_by(f64::total_cmp);
        println!("ratio: median {:.2}, from {:.2} to {:.2}", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    Ok(())
}

async fn per_second(
    work: impl Future<Output = Result<(), Box<dyn std::error::Error>>>,
) -> Result<f64, Box<dyn std::error::Error>> {
    let began = Instant::now();
    work.await?;
    Ok((WORKSPACES * COMMANDS) as f64 / began.elapsed().as_secs_f64())
}

async fn through_fleet(workspaces: &[Workspace]) -> Result<(), Box<dyn std::error::Error>> {
    let each = workspaces.iter().map(|workspace| async move {
        for _ in 0..COMMANDS {
            workspace.execute_command("true").await?;
        }
        Ok(())
    });
    futures::future::try_join_all(each).await.map(drop)
}

async fn client_alone(connection: &Connection) -> Result<(), Box<dyn std::error::Error>> {
    let transport = Transport::new(&SharedTls::default());
    let each = (0..WORKSPACES).map(|_| async {
        let client = AgentClient::new(connection, &transport, ClientLimits::default())?;
        for _ in 0..COMMANDS {
            start_and_wait(&client).await?;
        }
        Ok(())
    });
    futures::future::try_join_all(each).await.map(drop)
}

async fn start_and_wait(client: &AgentClient) -> Result<(), Box<dyn std::error::Error>> {
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
