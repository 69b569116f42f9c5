use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use actix_http::Request;
use actix_service::{IntoServiceFactory, ServiceFactory};
use actix_web::{
    App, HttpMessage as _, HttpRequest, HttpServer,
    body::MessageBody,
    dev::{AppConfig, ServerHandle},
    middleware::from_fn,
    web,
};
use tokio_util::sync::CancellationToken;

use super::{
    ServiceConfig, ServiceError, api, dashboard,
    engine::Engine,
    gateway,
    http::{Problem, ProblemKind, RateLimiter, RequestId, guard, server_config},
    metrics::Metrics,
};

/// What every route has.
pub(super) struct Shared {
    pub(super) config: ServiceConfig,
    pub(super) engine: Arc<Engine>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) rate: RateLimiter,
    /// Whether only this machine can reach it.
    pub(super) is_loopback: bool,
    /// Cancelled when the service was told to end.
    pub(super) draining: CancellationToken,
    /// Cancelled when it takes no further request: who waits for something is told how it is now.
    pub(super) closing: CancellationToken,
}

impl Shared {
    /// What is said to those who come too late.
    pub(super) fn ends(&self) -> Problem {
        Problem::new(ProblemKind::Unavailable, "the service ends: come back in a moment")
    }

    /// What a request is called in logs.
    pub(super) fn request_id(&self, request: &HttpRequest) -> String {
        request.extensions().get::<RequestId>().map_or_else(String::new, |id| id.0.clone())
    }
}

/// A service that runs, on threads of its own. Dropping it ends it without waiting for that.
pub struct Service {
    handle: ServiceHandle,
    is_tls: bool,
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
        let tls = config.tls.as_ref().map(server_config).transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("wsfleet-engine")
            .enable_all()
            .build()
            .map_err(ServiceError::Start)?;
        let is_tls = tls.is_some();
        let front = Front { listener, tls, config, is_loopback: address.ip().is_loopback(), stop: handle.stop.clone() };
        let done = handle.done.clone();
        let (begun, has_begun) = mpsc::channel();
        let serve = move || {
            let _done = done.drop_guard();
            if let Some(engine) = actix_rt::System::new().block_on(front.serve(&runtime, &begun)) {
                runtime.block_on(engine.end());
            }
        };
        let thread =
            thread::Builder::new().name("wsfleet-service".to_owned()).spawn(serve).map_err(ServiceError::Start)?;
        let lost = |_| ServiceError::Start(io::Error::other("its thread has ended"));
        has_begun.recv().map_err(lost)??;
        Ok(Self { handle, is_tls, thread: Some(thread) })
    }

    /// Where it listens, with the port that was picked.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.handle.address
    }

    /// Its address as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.handle.address)
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
    /// Ends the service: `/ready` says so, then no further request is taken, those that go on have a moment, and what runs on the workspaces runs
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

/// What listens, before there is anything to serve.
struct Front {
    listener: TcpListener,
    tls: Option<rustls::ServerConfig>,
    config: ServiceConfig,
    is_loopback: bool,
    stop: CancellationToken,
}

/// How many threads serve.
const WORKERS: usize = 2;

impl Front {
    /// Says that the service is starting until what was there before is there again, then serves until it is told to end.
    /// Returns what is to be ended then.
    async fn serve(
        self,
        runtime: &tokio::runtime::Runtime,
        begun: &mpsc::Sender<Result<(), ServiceError>>,
    ) -> Option<Arc<Engine>> {
        let starting = || App::new().configure(api::configure_starting);
        let starting = match self.listen(HttpServer::new(starting).workers(1)) {
            Ok(server) => server.run(),
            Err(error) => {
                let _ = begun.send(Err(ServiceError::Start(error)));
                return None;
            }
        };
        let waiting = starting.handle();
        actix_rt::spawn(starting);
        let (config, handle) = (self.config.clone(), runtime.handle().clone());
        let engine = actix_rt::task::spawn_blocking(move || {
            let inner = handle.clone();
            handle.block_on(Engine::start(&config, inner))
        });
        let engine = engine.await.unwrap_or_else(|error| Err(ServiceError::Restore(error.to_string())));
        waiting.stop(false).await;
        let shared = match engine {
            Ok(engine) => self.shared(engine),
            Err(error) => {
                let _ = begun.send(Err(error));
                return None;
            }
        };
        let app = {
            let shared = shared.clone();
            move || {
                App::new()
                    .app_data(shared.clone())
                    .app_data(queries())
                    .wrap(from_fn(guard))
                    .configure(gateway::configure)
                    .configure(dashboard::configure)
                    .configure(api::configure)
            }
        };
        let server = HttpServer::new(app)
            .workers(WORKERS)
            .max_connections((self.config.max_connections / WORKERS).max(1))
            .shutdown_timeout(self.config.drain_timeout.as_secs().max(1));
        let server = match self.listen(server) {
            Ok(server) => server.run(),
            Err(error) => {
                let _ = begun.send(Err(ServiceError::Start(error)));
                return Some(Arc::clone(&shared.engine));
            }
        };
        actix_rt::spawn(end_when_told(server.handle(), shared.clone(), self.stop.clone()));
        // Whoever started it may have stopped waiting.
        let _ = begun.send(Ok(()));
        if let Err(error) = server.await {
            log::error!("{error}");
        }
        Some(Arc::clone(&shared.engine))
    }

    fn shared(&self, engine: Arc<Engine>) -> web::Data<Shared> {
        web::Data::new(Shared {
            metrics: Arc::clone(&engine.metrics),
            rate: RateLimiter::new(self.config.rate_limit),
            is_loopback: self.is_loopback,
            draining: self.stop.clone(),
            closing: CancellationToken::new(),
            config: self.config.clone(),
            engine,
        })
    }

    fn listen<F, I, S, B>(&self, server: HttpServer<F, I, S, B>) -> io::Result<HttpServer<F, I, S, B>>
    where
        F: Fn() -> I + Send + Clone + 'static,
        I: IntoServiceFactory<S, Request>,
        S: ServiceFactory<Request, Config = AppConfig> + 'static,
        S::Error: Into<actix_web::Error>,
        S::InitError: std::fmt::Debug,
        S::Response: Into<actix_http::Response<B>>,
        S::Service: 'static,
        B: MessageBody + 'static,
    {
        let listener = self.listener.try_clone()?;
        let server = server
            .disable_signals()
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD_TIME)
            .client_disconnect_timeout(LINGER);
        match &self.tls {
            None => server.listen(listener),
            Some(tls) => server.listen_rustls_0_23(listener, tls.clone()),
        }
    }
}

/// What is said of queries that make no sense.
fn queries() -> web::QueryConfig {
    web::QueryConfig::default()
        .error_handler(|error, _| Problem::invalid(format!("the query is wrong: {error}")).into())
}

/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long a connection is still read after its last answer.
const LINGER: Duration = Duration::from_secs(2);

/// Ends the server when the service is told to end: `/ready` says so at once, for those who send it requests.
async fn end_when_told(server: ServerHandle, shared: web::Data<Shared>, stop: CancellationToken) {
    stop.cancelled().await;
    log::info!("the service ends");
    tokio::time::sleep(shared.config.drain_delay).await;
    shared.closing.cancel();
    server.stop(true).await;
}
