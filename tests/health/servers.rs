//! Agent servers that are killed and started again, and servers that are none.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use workspace_fleet::{
    Connection, Fleet, Health, HealthState, Workspace, WorkspaceConfig,
    agent::{AgentConfig, AgentHandle, AgentServer},
};

/// Longer than anything should take, for waits that end as soon as something happens.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A `wsfleet agent` of its own process, with a directory of its own.
pub(crate) struct Agent {
    child: Child,
    pub(crate) port: u16,
    root: tempfile::TempDir,
    args: Vec<String>,
}

impl Agent {
    pub(crate) fn start(args: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (child, port) = run(root.path(), 0, &args);
        Self { child, port, root, args }
    }

    /// Kills it, so that it leaves its commands running.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        (self.child, self.port) = run(self.root.path(), self.port, &self.args);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where its commands run.
    pub(crate) fn root(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap()
    }

    /// How many processes run in its directory, its own left aside.
    pub(crate) fn commands(&self) -> usize {
        let (root, own) = (self.root(), self.child.id().to_string());
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let others = processes.filter(|process| *process.file_name() != *own);
        others.filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == root)).count()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(root: &Path, port: u16, args: &[String]) -> (Child, u16) {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match try_run(root, port, args) {
            Some(running) => return running,
            // A connection of another test may have the port for a moment.
            None if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(100)),
            None => panic!("no agent can be started at port {port}"),
        }
    }
}

fn try_run(root: &Path, port: u16, args: &[String]) -> Option<(Child, u16)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsfleet"));
    command.args(["agent", "--port", &port.to_string(), "--root"]).arg(root).args(args).env("INIT_KEY", "wake-up");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    match line.trim().rsplit(':').next().unwrap().parse() {
        Ok(port) => Some((child, port)),
        Err(_) => {
            child.wait().unwrap();
            None
        }
    }
}

/// An agent of this process, at a port that may have been another's.
pub(crate) async fn agent_at(port: u16) -> AgentHandle {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match AgentServer::spawn(AgentConfig::default().with_port(port)) {
            Ok(agent) => return agent,
            Err(error) if Instant::now() > give_up => panic!("{error}"),
            // A connection of another test may have the port for a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// What is answered, by the path that is asked for.
type Answer = Box<dyn Fn(&str) -> String + Send + Sync>;

/// Something that listens, and answers every request with this, or with nothing.
pub(crate) struct Stub {
    pub(crate) url: String,
    serving: JoinHandle<()>,
}

impl Stub {
    /// Takes connections and never says anything.
    pub(crate) async fn silent() -> Self {
        Self::start(None).await
    }

    /// Answers every request with this status and a page.
    pub(crate) async fn answering(status: u16) -> Self {
        let page = "<html>a gateway's own words</html>";
        let answer = format!(
            "HTTP/1.1 {status} Whatever\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        );
        Self::start(Some(Box::new(move |_: &str| answer.clone()))).await
    }

    /// Answers each request with the JSON that this says for its path.
    pub(crate) async fn telling(tell: impl Fn(&str) -> serde_json::Value + Send + Sync + 'static) -> Self {
        let answer = move |path: &str| {
            let body = tell(path).to_string();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
            format!("{head}: {}\r\n\r\n{body}", body.len())
        };
        Self::start(Some(Box::new(answer))).await
    }

    async fn start(answer: Option<Answer>) -> Self {
        let answer = answer.map(Arc::<dyn Fn(&str) -> String + Send + Sync>::from);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answer.clone();
                connections.spawn(async move {
                    // The requests here are small and come in one piece.
                    let mut request = [0; 8192];
                    while let Ok(size) = stream.read(&mut request).await
                        && size > 0
                    {
                        let Some(answer) = &answer else { continue };
                        let text = String::from_utf8_lossy(&request[..size]);
                        let path = text.split(' ').nth(1).unwrap_or_default();
                        if stream.write_all(answer(path).as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, serving }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A fleet with one workspace.
pub(crate) async fn workspace(url: &str, adapt: impl FnOnce(WorkspaceConfig) -> WorkspaceConfig) -> (Fleet, Workspace) {
    let fleet = Fleet::builder().worker_threads(1).start().unwrap();
    let config = WorkspaceConfig::new("w1", Connection::new(url).unwrap());
    let workspace = fleet.add(adapt(config)).await.unwrap();
    (fleet, workspace)
}

/// Waits until the workspace is in this state.
pub(crate) async fn health_is(workspace: &Workspace, state: HealthState) -> Health {
    let waiting = async {
        loop {
            let health = workspace.health().await.unwrap();
            if health.state == state {
                return health;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(health) => health,
        Err(_) => panic!("it is not {state} but {:?}", workspace.health().await),
    }
}
