use std::time::Duration;

use actix_web::{
    FromRequest as _, HttpRequest, HttpResponse,
    dev::Payload,
    http::{
        StatusCode,
        header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL},
    },
    web,
};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason};
use futures::StreamExt as _;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{
    access,
    answer::Refusal,
    gate::Gate,
    headers,
    outbox::{Outbox, Outgoing},
    relay::Relay,
    route::{KEY_IN_QUERY, Route},
    strangers::{Does, Stranger},
    ways::{self, UnderWay},
};
use crate::{
    client::{KeyIn, PassedSocket},
    service::{
        config::Access,
        http::{Authorized, may_act},
        server::Shared,
    },
};

/// The most bytes of a message, in either direction.
pub(super) const MOST: usize = 16 << 20;

/// How long the first message with the key may take, as agent servers have it.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);

/// What agent servers close a socket with whose key is not accepted.
const BAD_KEY: CloseCode = CloseCode::Other(4001);

/// The first message of a client that has a key.
#[derive(Deserialize)]
struct Auth {
    r#type: AuthType,
    session_api_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum AuthType {
    Auth,
}

/// Whether a message is one with a key.
pub(super) fn is_auth(text: &str) -> bool {
    serde_json::from_str::<Auth>(text).is_ok()
}

/// Opens a socket of a workspace for a client.
pub(super) async fn serve(
    http: HttpRequest,
    payload: web::Payload,
    shared: &Shared,
    route: Route,
) -> Result<HttpResponse, Refusal> {
    if !may_act(shared, http.headers()) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "pages of this origin may open no socket here"));
    }
    let in_first_message = route.path.starts_with("/sockets/");
    let given = given(&http, &route);
    let access = match Authorized::by_key(shared, given.as_deref()) {
        Ok(authorized) => {
            access::check_socket(&authorized, &route)?;
            Some(authorized.access)
        }
        Err(_) if given.is_some() => {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "the key is not one of this service"));
        }
        Err(_) if in_first_message => None,
        Err(_) => return Err(Refusal::unauthorized()),
    };
    let Some(access) = access else { return asked_for_a_key(http, payload, route).await };
    let opened = Opened::open(&http, shared, &route).await?;
    let (mut response, session, messages, gate) = upgrade(&http, payload).await?;
    gate.cancel();
    if let Some(protocol) = opened.socket.protocol.as_deref().and_then(|name| HeaderValue::from_str(name).ok()) {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    actix_web::rt::spawn(opened.relay(shared, Outbox::to(session), messages, access, route).run());
    Ok(response)
}

/// The key in the request itself: in a header, or in the query, from where it does not go on.
fn given(http: &HttpRequest, route: &Route) -> Option<String> {
    let headers = http.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
    if let Some(key) = bearer.or_else(|| text("x-session-api-key")) {
        return Some(key.to_owned());
    }
    let pairs = url::form_urlencoded::parse(route.query.as_deref().unwrap_or_default().as_bytes());
    pairs.into_iter().find(|(name, _)| name == KEY_IN_QUERY).map(|(_, value)| value.into_owned())
}

/// Takes the client's side of a socket. Nothing but its first message is read before the token is cancelled.
async fn upgrade(
    http: &HttpRequest,
    payload: web::Payload,
) -> Result<(HttpResponse, actix_ws::Session, AggregatedMessageStream, CancellationToken), Refusal> {
    let wrong = |error: actix_web::Error| Refusal::bad(error.to_string());
    let open = CancellationToken::new();
    let gate = Gate::new(payload.into_inner(), open.clone());
    let mut payload = Payload::Stream { payload: gate.boxed_local() };
    let payload = web::Payload::from_request(http, &mut payload).await.map_err(wrong)?;
    let (response, session, messages) = actix_ws::handle(http, payload).map_err(wrong)?;
    let messages = messages.max_frame_size(MOST).aggregate_continuations().max_continuation_size(MOST);
    Ok((response, session, messages, open))
}

/// Lets a client in that has still to say its key.
async fn asked_for_a_key(http: HttpRequest, payload: web::Payload, route: Route) -> Result<HttpResponse, Refusal> {
    let stranger = Stranger::enter(Does::OpensSocket)?;
    let (response, session, mut messages, gate) = upgrade(&http, payload).await?;
    let Some(shared) = http.app_data::<web::Data<Shared>>().cloned() else { return Err(Refusal::unauthorized()) };
    actix_web::rt::spawn(async move {
        let outbox = Outbox::to(session);
        let close = |code: CloseCode, why: &str| {
            let _ = outbox.put(Outgoing::Close(Some(CloseReason { code, description: Some(why.to_owned()) })));
        };
        let key = tokio::time::timeout(FIRST_MESSAGE, first_key(&mut messages)).await;
        drop(stranger);
        let key = key.ok().flatten();
        let Ok(authorized) = Authorized::by_key(&shared, Some(key.as_deref().unwrap_or_default())) else {
            return close(BAD_KEY, "Authentication failed");
        };
        if let Err(refusal) = access::check_socket(&authorized, &route) {
            return close(CloseCode::Policy, refusal.detail());
        }
        match Opened::open(&http, &shared, &route).await {
            Ok(opened) => {
                gate.cancel();
                opened.relay(&shared, outbox, messages, authorized.access, route).run().await;
            }
            Err(refusal) => close(CloseCode::Again, refusal.detail()),
        }
    });
    Ok(response)
}

/// The key in the first message of a client.
async fn first_key(messages: &mut AggregatedMessageStream) -> Option<String> {
    loop {
        match messages.next().await {
            Some(Ok(AggregatedMessage::Text(text))) => {
                let Auth { r#type: AuthType::Auth, session_api_key } = serde_json::from_str(&text).ok()?;
                return Some(session_api_key);
            }
            // They are no messages of their own.
            Some(Ok(AggregatedMessage::Ping(_) | AggregatedMessage::Pong(_))) => {}
            _ => return None,
        }
    }
}

/// A socket of a workspace.
struct Opened {
    socket: PassedSocket,
    under_way: UnderWay,
}

impl Opened {
    async fn open(http: &HttpRequest, shared: &Shared, route: &Route) -> Result<Self, Refusal> {
        let workspace = ways::workspace(shared, &route.name).await?;
        let lent = ways::client(&workspace).await?;
        let (below, path) = route.target();
        let key_in = if route.path.starts_with("/sockets/") { KeyIn::FirstMessage } else { KeyIn::Header };
        let passed = headers::of_socket(http, route, &lent.way);
        let socket = lent.client.pass_socket(below, &path, &passed, &protocols(http), key_in).await?;
        Ok(Self { socket, under_way: lent.under_way })
    }

    fn relay(
        self,
        shared: &Shared,
        outbox: Outbox,
        messages: AggregatedMessageStream,
        access: Access,
        route: Route,
    ) -> Relay {
        Relay {
            outbox,
            messages,
            framed: self.socket.framed,
            tells_commands: route.path == "/sockets/bash-events",
            may_write: access == Access::Full,
            under_way: self.under_way,
            closing: shared.closing.clone(),
        }
    }
}

fn protocols(http: &HttpRequest) -> Vec<String> {
    let lists = http.headers().get_all(SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}
