use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use actix_http::{HttpService, KeepAlive, Protocol};
use actix_service::{Service, ServiceFactory, map_config};
use actix_web::{App, dev::AppConfig, web};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Connections, Place, Watched},
    routes,
    state::AgentState,
};

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
/// What a write may take beyond the time after which a stalled event socket is closed, so that the close comes first.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// When the system begins to ask after a client from which nothing comes, and how often it then asks. One whose machine
/// vanished would otherwise hold its connection for ever.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBES: u32 = 4;
/// How many clients that find no place are told so at once; more are cut off without a word.
const MOST_REFUSALS: usize = 64;
/// How long a refusal may take.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 38\r\n\r\n{\"detail\":\"Too many open connections\"}";

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
        .on_connect_ext(|stream: &Watched, data| {
            data.insert(Rc::clone(&stream.connection));
        })
        .finish(map_config(app, |()| AppConfig::default()));
    let service = factory.new_service(()).await.map_err(|()| io::Error::other("the HTTP service did not start"))?;
    let service = Rc::new(service);
    let write_time = state.idle_timeout.max(state.subscriber_stall + CLOSE_TIME);
    let open = Rc::<Connections>::default();
    let (mut connections, mut refusals) = (JoinSet::new(), JoinSet::new());
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            Some(_) = refusals.join_next() => {}
            // Never without this: what is not accepted waits unanswered for as long as others hold their connections.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    prepare(&stream);
                    match open.enter(max_connections) {
                        Some(place) => drop(connections.spawn_local(connection(Rc::clone(&service), stream, place, write_time))),
                        None if refusals.len() < MOST_REFUSALS => drop(refusals.spawn_local(refuse(stream))),
                        None => {}
                    }
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

/// Sets a stream's options. A failure means that the client is gone, which reading tells too.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true)
        .and_then(|()| sockopt::set_tcp_keepidle(stream, PROBE_AFTER))
        .and_then(|()| sockopt::set_tcp_keepintvl(stream, PROBE_EVERY))
        .and_then(|()| sockopt::set_tcp_keepcnt(stream, PROBES));
}

async fn connection<S>(service: Rc<S>, stream: TcpStream, place: Place, write_time: Duration)
where
    S: Service<(Watched, Protocol, Option<SocketAddr>), Response = (), Error = actix_http::error::DispatchError>,
{
    let peer = stream.peer_addr().ok();
    let stream = Watched::new(stream, Rc::clone(&place.connection), write_time);
    tokio::select! {
        () = place.connection.evicted.cancelled() => log::debug!("connection: closed to make room for another"),
        served = service.call((stream, Protocol::Http1, peer)) => if let Err(error) = served {
            log::debug!("connection: {error}");
        }
    }
}

/// Answers a client for which there is no place.
async fn refuse(mut stream: TcpStream) {
    let told = async {
        // A connection that is closed with bytes unread is reset, and the client may not see the answer.
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        if stream.write_all(REFUSAL).await.is_ok() && stream.shutdown().await.is_ok() {
            while matches!(stream.read(&mut head).await, Ok(1..)) {}
        }
    };
    let _ = timeout(REFUSAL_TIME, told).await;
}
