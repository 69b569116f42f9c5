//! Stopping a command while its server can not be reached for a while.

use std::time::Duration;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    servers::{Agent, workspace},
    support::eventually,
};

/// A way to a server that can be shut: connections are then cut, and new ones as well.
struct Gate {
    url: String,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let (open, state) = watch::channel(true);
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let (upstream, mut state) = (upstream.clone(), state.clone());
                connections.spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(upstream).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { url, open }
    }
}

#[tokio::test]
async fn a_command_is_stopped_although_the_way_to_its_server_was_shut_at_first() {
    let agent = Agent::start(&[]);
    let gate = Gate::before(&agent.url()).await;
    let (fleet, workspace) = workspace(&gate.url, |config| config).await;
    let id = workspace.start_command("sleep 600").await.unwrap();
    assert!(eventually(Duration::from_secs(10), || agent.commands() > 0).await);
    gate.open.send_replace(false);
    let stopping = tokio::spawn(workspace.stop_command(id));
    // So long that a few tries in quick succession are over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(agent.commands() > 0, "nothing can reach it while the way is shut");
    gate.open.send_replace(true);
    assert!(eventually(Duration::from_secs(10), || agent.commands() == 0).await, "the command runs on");
    stopping.await.unwrap().unwrap();
    fleet.shutdown().await;
}
