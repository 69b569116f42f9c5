use std::{
    fmt,
    io::{self, Write},
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    thread,
    time::Duration,
};

use actix_web::web;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{AgentConfig, AgentError, accept, state::AgentState};

/// How long threads are waited for in the end that write or remove files. One that is stuck in the system would be waited for
/// without end.
pub(crate) const LAST_FILES: Duration = Duration::from_secs(2);

/// An agent server that listens but does not serve yet. Connections that come before [`run`](Self::run) wait.
pub struct AgentServer {
    config: AgentConfig,
    listener: TcpListener,
    address: SocketAddr,
    control: Control,
}

/// What a server and its handles share.
#[derive(Debug, Clone, Default)]
struct Control {
    stop: CancellationToken,
    done: CancellationToken,
}

/// A handle of an agent server that may be running on another thread.
///
/// The handle that [`AgentServer::spawn`] gives stops the server when it is dropped, without waiting for it. One from
/// [`AgentServer::handle`] does not.
#[derive(Debug)]
pub struct AgentHandle {
    address: SocketAddr,
    control: Control,
    stops_on_drop: bool,
}

impl fmt::Debug for AgentServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl AgentServer {
    /// Takes the address of a configuration.
    ///
    /// # Errors
    /// The host does not resolve, the address is taken, others could reach it and there is no session key, or the root is
    /// no directory.
    pub fn bind(mut config: AgentConfig) -> Result<Self, AgentError> {
        if let Some(root) = &config.root {
            config.root = Some(usable_root(root)?);
        }
        let asked = (config.host.as_str(), config.port);
        let host_error = |source| AgentError::Host { host: config.host.clone(), source };
        let mut addresses = asked.to_socket_addrs().map_err(host_error)?;
        let nothing = || host_error(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
        let address = addresses.next().ok_or_else(nothing)?;
        if !address.ip().is_loopback() && config.session_keys.is_empty() {
            return Err(AgentError::OpenToOthers { address });
        }
        let bind_error = |source| AgentError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bind_error)?;
        listener.set_nonblocking(true).map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        Ok(Self { config, listener, address, control: Control::default() })
    }

    /// The address it listens on, with the port that was picked.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, as in `http://127.0.0.1:41234`.
    #[must_use]
    pub fn url(&self) -> String {
        url_of(self.address)
    }

    /// A handle by which it can be stopped from elsewhere.
    #[must_use]
    pub fn handle(&self) -> AgentHandle {
        AgentHandle { address: self.address, control: self.control.clone(), stops_on_drop: false }
    }

    /// Serves until a handle stops it, then stops its commands.
    ///
    /// It runs on the current thread, which must be an actix arbiter or within a tokio `LocalSet`.
    ///
    /// # Errors
    /// The listening socket cannot be used by this thread's runtime.
    pub async fn run(self) -> Result<(), AgentError> {
        // Also when this future is dropped, nobody must wait for ever.
        let _done = self.control.done.clone().drop_guard();
        self.serve().await
    }

    async fn serve(self) -> Result<(), AgentError> {
        // Whoever listens to a signal is woken with every runtime of the process, so that is not done without need.
        let _children =
            ends_are_ignored().then(|| signal(SignalKind::child())).transpose().map_err(AgentError::Start)?;
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(AgentError::Start)?;
        let state = AgentState::new(&self.config, self.address.port(), self.control.stop.clone());
        let served =
            accept::serve(listener, web::Data::new(state), self.config.max_connections, self.control.stop).await;
        served.map_err(AgentError::Start)
    }

    /// Takes the address and serves on a thread of its own.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); also when the thread cannot be started.
    pub fn spawn(config: AgentConfig) -> Result<AgentHandle, AgentError> {
        let server = Self::bind(config)?;
        let mut handle = server.handle();
        handle.stops_on_drop = true;
        // Made here, so that a failure is an error of the call.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AgentError::Start)?;
        let serve = move || {
            // It is done when its connections are closed, whose tasks end with the set of them: who has waited for that must not
            // find one that still takes a request and drops it.
            let _done = server.control.done.clone().drop_guard();
            let local = tokio::task::LocalSet::new();
            if let Err(error) = local.block_on(&runtime, server.serve()) {
                log::error!("{error}");
            }
            drop(local);
            runtime.shutdown_timeout(LAST_FILES);
        };
        thread::Builder::new().name("wsfleet-agent".to_owned()).spawn(serve).map_err(AgentError::Start)?;
        Ok(handle)
    }
}

impl AgentHandle {
    /// The address the server listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The server's base URL.
    #[must_use]
    pub fn url(&self) -> String {
        url_of(self.address)
    }

    /// Stops the server and its commands, and waits until both have ended, and for what its threads still do with files
    /// and directories 2 s at most. May be called more than once and from any runtime.
    pub async fn stop(&self) {
        self.control.stop.cancel();
        self.control.done.cancelled().await;
    }

    /// The same for code outside of any runtime. It must not be called on the thread that the server runs on.
    pub fn stop_blocking(&self) {
        futures::executor::block_on(self.stop());
    }
}

impl Drop for AgentHandle {
    fn drop(&mut self) {
        if self.stops_on_drop {
            self.control.stop.cancel();
        }
    }
}

/// Whether this process was started with the signal of ended children ignored, and so would not be told how they ended. Where it
/// cannot be known, it may be so.
fn ends_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_none_or(|mask| mask & 1 << (SignalKind::child().as_raw_value() - 1) != 0)
}

fn url_of(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// The root as an absolute path.
fn usable_root(root: &std::path::Path) -> Result<std::path::PathBuf, AgentError> {
    let error = |source| AgentError::Root { path: root.to_owned(), source };
    let found = root.canonicalize().map_err(error)?;
    if found.is_dir() { Ok(found) } else { Err(error(io::ErrorKind::NotADirectory.into())) }
}

/// Serves until SIGTERM, SIGINT, SIGHUP or SIGQUIT, then stops the commands and returns. A second of them ends the process at
/// once.
///
/// When it is ready it prints one line, `wsfleet agent listening on http://127.0.0.1:41234`. It needs the same thread as
/// [`AgentServer::run`].
///
/// # Errors
/// As [`AgentServer::bind`]; also when signals cannot be handled or the line cannot be printed.
pub async fn serve_until_signal(config: AgentConfig) -> Result<(), AgentError> {
    let server = AgentServer::bind(config)?;
    raise_file_limit();
    // Each of these would end the process, and its commands would live on.
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
    let mut signals = kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>().map_err(AgentError::Start)?;
    let mut out = io::stdout().lock();
    writeln!(out, "wsfleet agent listening on {}", server.url())
        .and_then(|()| out.flush())
        .map_err(AgentError::Start)?;
    drop(out);
    let handle = server.handle();
    let mut serving = std::pin::pin!(server.run());
    tokio::select! {
        served = &mut serving => return served,
        () = any_of(&mut signals) => {}
    }
    handle.control.stop.cancel();
    tokio::select! {
        served = serving => served,
        // Whoever asks twice does not want to wait, and a thread that is stuck in the system cannot be waited for.
        () = any_of(&mut signals) => std::process::exit(SECOND_SIGNAL),
    }
}

/// Lets this process open as many files as it may. A connection takes one and a command two, and the usual limit is for
/// programs that hold few.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!("cannot raise the limit of open files: {error}");
    }
}

/// The exit code after a second signal.
const SECOND_SIGNAL: i32 = 130;

async fn any_of(signals: &mut [Signal]) {
    futures::future::select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
}
