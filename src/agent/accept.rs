use std::{io, rc::Rc, time::Duration};

use actix_http::{HttpService, KeepAlive};
use actix_service::{Service, ServiceFactory, map_config};
use actix_web::{App, dev::AppConfig, web};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{routes, state::AgentState};

/// How long an idle connection is kept, as by the real server.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long a connection is still read after its last answer when the client may be sending. A WebSocket client waits this
/// long for the end of the connection after the closing frames. The HTTP library reads its clock twice a second, and a
/// deadline that has passed when it is set never fires, so it must not be shorter than that.
const LINGER: Duration = Duration::from_millis(800);
/// How long answers that are on their way have when the agent stops.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Serves connections until told to stop, then stops the commands.
///
/// Everything runs on the current thread. A server of the usual make-up would start two threads or more for each agent,
/// which is too much where a process holds many.
pub(super) async fn serve(
    listener: TcpListener,
    state: web::Data<AgentState>,
    max_connections: usize,
    stopping: CancellationToken,
) -> io::Result<()> {
    let shared = state.clone();
    let app = App::new().app_data(shared).configure(routes::configure);
    let factory = HttpService::build()
        .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
        .client_request_timeout(HEAD_TIME)
        .client_disconnect_timeout(LINGER)
        .finish(map_config(app, |()| AppConfig::default()))
        .tcp();
    let service = factory.new_service(()).await.map_err(|()| io::Error::other("the HTTP service did not start"))?;
    let service = Rc::new(service);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < max_connections => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    connections.spawn_local(connection(Rc::clone(&service), stream));
                }
                Err(error) => {
                    // Out of file descriptors, most likely: they come back when connections end.
                    log::warn!("cannot accept a connection: {error}");
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    state.bash.close().await;
    let _ = timeout(LAST_WORDS, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn connection<S>(service: Rc<S>, stream: TcpStream)
where
    S: Service<TcpStream, Response = (), Error = actix_http::error::DispatchError>,
{
    if let Err(error) = service.call(stream).await {
        log::debug!("connection: {error}");
    }
}
