//! Calls about a line are handed to the node that holds it: a phone is linked, followed and unlinked there, whichever
//! node the caller reached.
//!
//! The caller's own key goes along and is looked at once more by the other node, which trusts this one with nothing.

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

use super::auth::Known;
use super::error::ApiError;
use super::path::Ids;
use crate::cluster::Owner;
use crate::gateway::Gateway;

/// Stands on a call that was handed on, with what the nodes of one database alone know. Such a call is not handed on
/// again, and has been counted where it came in.
const FORWARDED: HeaderName = HeaderName::from_static("recado-forwarded");
/// What is of one connection, and not of the call (RFC 9110, 7.6.1).
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
/// How long the other node may take to be reached.
const CONNECT: Duration = Duration::from_secs(2);
/// How long it may take to begin its answer; a call that waits for a first code takes ten seconds.
const ANSWER: Duration = Duration::from_secs(40);

/// How often it is asked who holds a channel that nobody holds, and the wait between.
const LOOKS: usize = 30;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

type Nodes = Client<HttpsConnector<HttpConnector>, Body>;

/// Hands the call on where another node holds the channel's line.
pub async fn to_holder(State(gateway): State<Arc<Gateway>>, ids: Ids<1>, request: Request, next: Next) -> Response {
    let Some(channel) = elsewhere(&gateway, &ids, &request) else { return next.run(request).await };
    let forwarded = is_from_node(&gateway, request.headers());
    let node = match owner(&gateway, channel).await {
        Ok(Owner::Here) => return next.run(request).await,
        Ok(Owner::Other(node)) if !forwarded => node,
        Ok(_) => return ApiError::Unavailable.into_response(),
        Err(error) => return ApiError::from(error).into_response(),
    };
    hand_on(&gateway, &node, request).await.unwrap_or_else(IntoResponse::into_response)
}

/// Whether another node has handed the call on.
pub(super) fn is_from_node(gateway: &Gateway, headers: &HeaderMap) -> bool {
    let Some((secret, given)) = gateway.nodes.secret().zip(headers.get(FORWARDED)) else { return false };
    // By their hashes, so that the time it takes says nothing of the secret.
    Sha256::digest(given) == Sha256::digest(secret.expose_secret())
}

/// The channel of a call about its line, where this node does not hold it.
fn elsewhere(gateway: &Gateway, Ids([id]): &Ids<1>, request: &Request) -> Option<ChannelKey> {
    let known = request.extensions().get::<Known>()?;
    let path = request.extensions().get::<MatchedPath>()?;
    // To look at a channel, or to change its settings, is no matter of its line.
    if path.as_str().ends_with("{channelId}") && request.method() != Method::DELETE {
        return None;
    }
    let entry = gateway.directory.find(known.institution, known.grant.environment, id)?;
    let of_line = entry.kind.descriptor().holds_session && gateway.nodes.leases().epoch(entry.via.key).is_none();
    of_line.then_some(entry.via.key)
}

/// Looks for a while who holds the channel: it may be new, or just changing hands.
async fn owner(gateway: &Gateway, channel: ChannelKey) -> Result<Owner, StoreError> {
    for _ in 0..LOOKS {
        let owner = gateway.nodes.owner(channel).await?;
        if !matches!(owner, Owner::None) {
            return Ok(owner);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(Owner::None)
}

async fn hand_on(gateway: &Gateway, node: &Node, mut request: Request) -> Result<Response, ApiError> {
    let Some(secret) = gateway.nodes.secret() else { return Err(ApiError::Unavailable) };
    let Some(address) = node.address.as_deref().and_then(|address| BaseUrl::parse("node_url", address).ok()) else {
        tracing::warn!(node = node.id, "cannot forward request: owner node has no RECADO_NODE_URL");
        return Err(ApiError::Unavailable);
    };
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = format!("{}{path}", address.text).parse::<Uri>().map_err(|_| ApiError::Unavailable)?;
    let headers = request.headers_mut();
    leave_connection(headers);
    headers.remove(HOST);
    let secret = HeaderValue::from_str(secret.expose_secret()).map_err(|_| ApiError::Unavailable)?;
    headers.insert(FORWARDED, secret);
    let answer = tokio::time::timeout(ANSWER, client(&address)?.request(request)).await;
    let answer =
        answer.map_err(|_| "it takes too long".to_owned()).and_then(|answer| answer.map_err(|error| causes(&error)));
    match answer {
        Ok(mut answer) => {
            leave_connection(answer.headers_mut());
            let answer = answer.map(Body::new);
            let events = HeaderValue::from_static("text/event-stream");
            if answer.headers().get(CONTENT_TYPE) != Some(&events) {
                return Ok(answer);
            }
            // What goes on and on must not keep this node from its end.
            let stop = gateway.stop.clone().cancelled_owned();
            Ok(answer.map(|body| Body::from_stream(body.into_data_stream().take_until(stop))))
        }
        Err(error) => {
            tracing::warn!(node = node.id, error, "owner node unreachable");
            Err(ApiError::Unavailable)
        }
    }
}

/// Takes out what was of the connection by which it came.
fn leave_connection(headers: &mut HeaderMap) {
    let named: Vec<_> = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).collect();
    let named =
        named.iter().flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    for name in OF_A_CONNECTION.into_iter().chain(named.collect::<Vec<_>>()) {
        headers.remove(name);
    }
}

/// Made at the first call: most processes make none.
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
