//! Forwards calls about a session to the channel's owner: a phone is linked, followed and unlinked there, whichever node the
//! caller reached.
//!
//! The caller's own key is forwarded and checked again by the other node, which does not trust this one.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use recado_domain::channel::ChannelKey;
use recado_domain::error_chain::causes;
use recado_providers::outbound::BaseUrl;
use recado_store::StoreError;
use recado_store::nodes::Node;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use super::auth::AuthContext;
use super::error::ApiError;
use super::path::Ids;
use crate::cluster::Owner;
use crate::gateway::Gateway;

/// A header of forwarded calls. Its value is a secret that only the nodes of one database have. A forwarded call is not
/// forwarded again, and was counted by the first node.
const FORWARDED: HeaderName = HeaderName::from_static("recado-forwarded");
/// The headers that belong to one connection and not to the call (RFC 9110, 7.6.1).
const OF_A_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];
/// The time limit for connecting to the other node.
const CONNECT: Duration = Duration::from_secs(2);
/// The time limit for the head of its answer. A call that waits for a first code takes ten seconds.
const ANSWER: Duration = Duration::from_secs(40);

/// How often the owner of a channel without owner is looked up, and the interval.
const OWNER_LOOKUPS: usize = 30;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

type Nodes = Client<HttpsConnector<HttpConnector>, Body>;

/// Forwards the call if another node owns the channel.
pub async fn to_owner(State(gateway): State<Arc<Gateway>>, ids: Ids<1>, request: Request, next: Next) -> Response {
    let Some(channel) = elsewhere(&gateway, &ids, &request) else { return next.run(request).await };
    let forwarded = is_from_node(&gateway, request.headers());
    let node = match owner(&gateway, channel).await {
        Ok(Owner::Here) => return next.run(request).await,
        Ok(Owner::Other(node)) if !forwarded => node,
        Ok(_) => return ApiError::Unavailable.into_response(),
        Err(error) => return ApiError::from(error).into_response(),
    };
    forward(&gateway, &node, request).await.unwrap_or_else(IntoResponse::into_response)
}

/// Forwards a call about what the session of this channel can fetch, if another node has the session. Otherwise gives the
/// call back, because this node answers it.
pub(super) async fn to_session(
    gateway: &Gateway,
    channel: ChannelKey,
    request: Request,
) -> ControlFlow<Response, Request> {
    let holds_session = gateway.directory.channel(channel).is_some_and(|entry| entry.kind.descriptor().holds_session);
    if !holds_session || gateway.nodes.leases().epoch(channel).is_some() || is_from_node(gateway, request.headers()) {
        return ControlFlow::Continue(request);
    }
    match gateway.nodes.owner(channel).await {
        Ok(Owner::Other(node)) => {
            let answer = forward(gateway, &node, request).await;
            ControlFlow::Break(answer.unwrap_or_else(IntoResponse::into_response))
        }
        Ok(Owner::Here | Owner::None) => ControlFlow::Continue(request),
        Err(error) => ControlFlow::Break(ApiError::from(error).into_response()),
    }
}

/// Whether another node has forwarded the call.
pub(super) fn is_from_node(gateway: &Gateway, headers: &HeaderMap) -> bool {
    let Some((secret, given)) = gateway.nodes.secret().zip(headers.get(FORWARDED)) else { return false };
    // Compare hashes, so that the duration reveals nothing about the secret.
    Sha256::digest(given) == Sha256::digest(secret.expose_secret())
}

/// The channel of a call about its session, if this node does not own the channel.
fn elsewhere(gateway: &Gateway, Ids([id]): &Ids<1>, request: &Request) -> Option<ChannelKey> {
    let known = request.extensions().get::<AuthContext>()?;
    let path = request.extensions().get::<MatchedPath>()?;
    // Reading a channel, or changing its settings, does not need its session.
    if path.as_str().ends_with("{channelId}") && request.method() != Method::DELETE {
        return None;
    }
    let entry = gateway.directory.find(known.institution, known.grant.environment, id)?;
    let needs_session = entry.kind.descriptor().holds_session && gateway.nodes.leases().epoch(entry.via.key).is_none();
    needs_session.then_some(entry.via.key)
}

/// Looks up the owner of the channel repeatedly, because the channel may be new, or may be moving between nodes.
async fn owner(gateway: &Gateway, channel: ChannelKey) -> Result<Owner, StoreError> {
    for _ in 0..OWNER_LOOKUPS {
        let owner = gateway.nodes.owner(channel).await?;
        if !matches!(owner, Owner::None) {
            return Ok(owner);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(Owner::None)
}

async fn forward(gateway: &Gateway, node: &Node, mut request: Request) -> Result<Response, ApiError> {
    let Some(secret) = gateway.nodes.secret() else { return Err(ApiError::Unavailable) };
    let Some(address) = node.address.as_deref().and_then(|address| BaseUrl::parse("node_url", address).ok()) else {
        tracing::warn!(node = node.id, "cannot forward request: owner node has no RECADO_NODE_URL");
        return Err(ApiError::Unavailable);
    };
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = format!("{}{path}", address.text).parse::<Uri>().map_err(|_| ApiError::Unavailable)?;
    let headers = request.headers_mut();
    remove_connection_headers(headers);
    headers.remove(HOST);
    let secret = HeaderValue::from_str(secret.expose_secret()).map_err(|_| ApiError::Unavailable)?;
    headers.insert(FORWARDED, secret);
    let answer = tokio::time::timeout(ANSWER, client(&address)?.request(request)).await;
    let answer = answer.map_err(|_| "timed out".to_owned()).and_then(|answer| answer.map_err(|error| causes(&error)));
    match answer {
        Ok(mut answer) => {
            remove_connection_headers(answer.headers_mut());
            let answer = answer.map(Body::new);
            let events = HeaderValue::from_static("text/event-stream");
            if answer.headers().get(CONTENT_TYPE) != Some(&events) {
                return Ok(answer);
            }
            // An endless answer must not block the stop of this node.
            let stop = gateway.stop.clone().cancelled_owned();
            Ok(answer.map(|body| Body::from_stream(body.into_data_stream().take_until(stop))))
        }
        Err(error) => {
            tracing::warn!(node = node.id, error, "owner node unreachable");
            Err(ApiError::Unavailable)
        }
    }
}

/// Removes the headers of the connection by which the call came.
fn remove_connection_headers(headers: &mut HeaderMap) {
    let named: Vec<_> = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).collect();
    let named =
        named.iter().flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    for name in OF_A_CONNECTION.into_iter().chain(named.collect::<Vec<_>>()) {
        headers.remove(name);
    }
}

/// Created at the first call, because most processes make none.
fn client(address: &BaseUrl) -> Result<&'static Nodes, ApiError> {
    static CLIENTS: [OnceLock<Nodes>; 2] = [OnceLock::new(), OnceLock::new()];
    let place = &CLIENTS[usize::from(address.secure)];
    if let Some(client) = place.get() {
        return Ok(client);
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let tls = address.tls().map_err(|error| {
        tracing::warn!(error = format!("{error:#}"), "cannot create client for forwarding");
        ApiError::Unavailable
    })?;
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    Ok(place.get_or_init(|| client))
}
