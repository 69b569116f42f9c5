//! Embedding a fleet in a plain multi-threaded tokio program.
//!
//! Two agent servers run in this process, in place of two sandboxes.
//!
//! ```console
//! $ cargo run --example embed_tokio
//! ```

use std::time::Duration;

use futures::StreamExt as _;
use workspace_fleet::{
    Connection, Fleet, RunSpec, Selector, WorkspaceConfig,
    agent::{AgentConfig, AgentServer},
    fleet::{RunEventKind, TargetValue},
    messages::{CommandEvent, ExecuteCommand},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let agents = [agent(folder.path())?, agent(folder.path())?];

    let fleet = Fleet::start()?;
    for (number, agent) in agents.iter().enumerate() {
        let connection = Connection::new(&agent.url())?.with_api_key("key");
        let config = WorkspaceConfig::new(format!("sandbox-{number}"), connection).with_label("tier", "cpu");
        fleet.add(config).await?;
    }

    // One workspace: steps are carried out in the order of the calls, awaited or not.
    let workspace = fleet.workspace("sandbox-0").await.ok_or("it was added above")?;
    let remote = folder.path().join("greeting.txt").display().to_string();
    let upload = workspace.file_upload(b"hello from a file\n".to_vec(), remote.clone());
    let execute = workspace.execute_command(format!("cat {remote}; exit 3"));
    let (upload, result) = futures::try_join!(upload, execute)?;
    println!(
        "uploaded {:?} bytes; cat wrote {:?} and exited with {}",
        upload.file_size, result.stdout, result.exit_code
    );

    // A command that is followed while it runs, with a bound on its time.
    let count =
        ExecuteCommand::new("for i in 1 2 3; do echo $i; sleep 0.2; done").with_timeout(Duration::from_secs(10));
    let mut events = workspace.follow_command(count);
    while let Some(event) = events.next().await {
        if let CommandEvent::Output { text, .. } = event {
            print!("{text}");
        }
    }

    // Many workspaces at once.
    let mut run = fleet.run(RunSpec::command(Selector::label("tier", "cpu"), "uname"));
    while let Some(event) = run.next().await {
        if let RunEventKind::TargetFinished(ended) = event.kind {
            let output = match &ended.value {
                Some(TargetValue::Command(result)) => result.stdout.trim(),
                _ => "",
            };
            println!("{}: {} {output}", ended.target.workspace, ended.outcome);
        }
    }

    drop((workspace, events, run));
    fleet.shutdown().await;
    for agent in agents {
        agent.stop().await;
    }
    Ok(())
}

fn agent(root: &std::path::Path) -> Result<workspace_fleet::agent::AgentHandle, workspace_fleet::agent::AgentError> {
    AgentServer::spawn(AgentConfig::default().with_root(root).with_session_key("key"))
}
