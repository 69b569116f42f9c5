//! Workspaces as actors of an actix system of one's own, driven by messages.
//!
//! ```console
//! $ cargo run --example actix_messages
//! ```

use actix::Actor as _;
use workspace_fleet::{
    Connection, RemoteWorkspace, WorkspaceConfig,
    agent::{AgentConfig, AgentServer},
    client::SharedTls,
    messages::{ExecuteCommand, GetServerInfo, GitChanges, Shutdown},
};

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().display().to_string();
    let agent = AgentServer::spawn(AgentConfig::default().with_root(folder.path()).with_session_key("key"))?;

    let connection = Connection::new(&agent.url())?.with_api_key("key");
    let config = WorkspaceConfig::new("sandbox", connection).with_working_dir(root);
    let workspace = RemoteWorkspace::new(config, &SharedTls::default()).start();

    let info = workspace.send(GetServerInfo).await??;
    println!("{} {}", info.title, info.version);

    // Messages are steps: the changes are listed after the command was started, and here, after it has finished.
    let prepare = "git init -q . && echo new > 'a file.txt'";
    let prepare = ExecuteCommand::new(prepare).with_hold_until(workspace_fleet::messages::HoldUntil::Finished);
    let (prepared, changes) = futures::try_join!(workspace.send(prepare), workspace.send(GitChanges::new(".")))?;
    println!("exit code {}", prepared?.exit_code);
    for change in changes? {
        println!("{:?} {}", change.status, change.path);
    }

    workspace.send(Shutdown).await?;
    agent.stop().await;
    Ok(())
}
