use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    sync::Arc,
    thread,
};

use actix_web::{App, HttpServer, dev::ServerHandle, web};
use tokio_util::sync::CancellationToken;

use super::{
    ServiceConfig, ServiceError, api, dashboard,
    engine::Engine,
    http::{Problem, ProblemKind},
};

/// What every route has.
pub(super) struct Shared {
    pub(super) config: ServiceConfig,
    pub(super) engine: Arc<Engine>,
}

/// A service that runs, on threads of its own. Dropping it ends it without waiting for that.
pub struct Service {
    handle: ServiceHandle,
    thread: Option<thread::JoinHandle<()>>,
}

/// Ends a service from elsewhere.
#[derive(Debug, Clone)]
pub struct ServiceHandle {
    address: SocketAddr,
    stop: CancellationToken,
    done: CancellationToken,
}

impl Service {
    /// Takes the address, opens the store and serves. When this returns all that was there before is there again.
    ///
    /// # Errors
    /// The address is taken or open to others without keys, the store cannot be used, or the system gives no thread.
    pub fn start(config: ServiceConfig) -> Result<Self, ServiceError> {
        let listener = listen(&config)?;
        let address = listener.local_addr().map_err(ServiceError::Start)?;
        let handle = ServiceHandle { address, stop: CancellationToken::new(), done: CancellationToken::new() };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("wsfleet-engine")
            .enable_all()
            .build()
            .map_err(ServiceError::Start)?;
        let engine = runtime.block_on(Engine::start(&config, runtime.handle().clone()))?;
        let shared = web::Data::new(Shared { config, engine });
        let control = handle.clone();
        let serve = move || {
            let _done = control.done.clone().drop_guard();
            let served = actix_rt::System::new().block_on(serve(listener, shared.clone(), control.stop.clone()));
            if let Err(error) = served {
                log::error!("{error}");
            }
            runtime.block_on(shared.engine.end());
        };
        let thread =
            thread::Builder::new().name("wsfleet-service".to_owned()).spawn(serve).map_err(ServiceError::Start)?;
        Ok(Self { handle, thread: Some(thread) })
    }

    /// Where it listens, with the port that was picked.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.handle.address
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.handle.address)
    }

    /// A handle by which it can be ended from elsewhere.
    #[must_use]
    pub fn handle(&self) -> ServiceHandle {
        self.handle.clone()
    }

    /// Waits until somebody has ended it.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

impl ServiceHandle {
    /// Ends the service: no further request is taken, those that go on have a moment, and what runs on the workspaces runs
    /// on, to be taken up by the next service with the same store.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        self.done.cancelled().await;
    }
}

fn listen(config: &ServiceConfig) -> Result<TcpListener, ServiceError> {
    let failed = |source| ServiceError::Host { host: config.host.clone(), source };
    let mut addresses = (config.host.as_str(), config.port).to_socket_addrs().map_err(failed)?;
    let nothing = || failed(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    let address = addresses.next().ok_or_else(nothing)?;
    if !address.ip().is_loopback() && config.keys.is_empty() {
        return Err(ServiceError::OpenToOthers { address });
    }
    TcpListener::bind(address).map_err(|source| ServiceError::Bind { address, source })
}

async fn serve(listener: TcpListener, shared: web::Data<Shared>, stop: CancellationToken) -> io::Result<()> {
    let app = move || App::new().app_data(shared.clone()).app_data(json()).configure(dashboard::configure).configure(api::configure);
    let server = HttpServer::new(app).workers(2).disable_signals().shutdown_timeout(5).listen(listener)?.run();
    let handle: ServerHandle = server.handle();
    actix_rt::spawn(async move {
        stop.cancelled().await;
        handle.stop(true).await;
    });
    server.await
}

/// How JSON bodies are read, and what is said of those that cannot be.
fn json() -> web::JsonConfig {
    web::JsonConfig::default().limit(4 << 20).error_handler(|error, _| {
        let kind = match &error {
            actix_web::error::JsonPayloadError::Overflow { .. }
            | actix_web::error::JsonPayloadError::OverflowKnownLength { .. } => ProblemKind::TooLarge,
            _ => ProblemKind::InvalidRequest,
        };
        Problem::new(kind, error.to_string()).into()
    })
}
