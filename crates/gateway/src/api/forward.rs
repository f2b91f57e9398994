//! Calls about a line are handed to the node that holds it: a phone is linked, followed and unlinked there, whichever
//! node the caller reached.
//!
//! The caller's own key goes along and is looked at once more by the other node, which trusts this one with nothing.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONNECTION, HOST};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use recado_domain::channel::ChannelType;

use super::auth::Known;
use super::error::ApiError;
use super::path::Ids;
use crate::gateway::Gateway;
use crate::outbound::{BaseUrl, causes};
use crate::store::postgres::Node;
use crate::store::rows::{ChannelKey, StoreError};

/// Stands on a call that was handed on. Such a call is not handed on again.
const FORWARDED: HeaderName = HeaderName::from_static("recado-forwarded-by");
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
    let forwarded = request.headers().contains_key(FORWARDED);
    let node = match holder(&gateway, channel).await {
        Ok(Holder::Here) => return next.run(request).await,
        Ok(Holder::There(node)) if !forwarded => node,
        Ok(_) => return ApiError::Unavailable.into_response(),
        Err(error) => return ApiError::from(error).into_response(),
    };
    hand_on(&node, request).await.unwrap_or_else(IntoResponse::into_response)
}

/// The channel of a call about its line, where this node does not hold it.
fn elsewhere(gateway: &Gateway, Ids([id]): &Ids<1>, request: &Request) -> Option<ChannelKey> {
    let cluster = gateway.cluster.as_ref()?;
    let known = request.extensions().get::<Known>()?;
    let path = request.extensions().get::<MatchedPath>()?;
    // To look at a channel, or to change its settings, is no matter of its line.
    if path.as_str().ends_with("{channelId}") && request.method() != Method::DELETE {
        return None;
    }
    let entry = gateway.directory.find(known.institution, known.grant.environment, id)?;
    let of_line = entry.kind == ChannelType::WhatsAppWeb && cluster.leases.epoch(entry.via.key).is_none();
    of_line.then_some(entry.via.key)
}

/// Who holds a channel.
enum Holder {
    Here,
    There(Node),
    /// No node sends for such channels.
    Nobody,
}

/// Looks for a while: the channel may be new, or just changing hands.
async fn holder(gateway: &Gateway, channel: ChannelKey) -> Result<Holder, StoreError> {
    let Some(cluster) = &gateway.cluster else { return Ok(Holder::Here) };
    for _ in 0..LOOKS {
        if cluster.leases.epoch(channel).is_some() {
            return Ok(Holder::Here);
        }
        if let Some(node) = cluster.store.holder(channel).await? {
            return Ok(Holder::There(node));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(Holder::Nobody)
}

async fn hand_on(node: &Node, mut request: Request) -> Result<Response, ApiError> {
    let Some(address) = node.address.as_deref().and_then(|address| BaseUrl::parse("node_url", address).ok()) else {
        tracing::warn!(node = node.id, "a call is another node's, which says no address (RECADO_NODE_URL)");
        return Err(ApiError::Unavailable);
    };
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = format!("{}{path}", address.text).parse::<Uri>().map_err(|_| ApiError::Unavailable)?;
    let headers = request.headers_mut();
    // They were of the connection to this node.
    headers.remove(HOST);
    headers.remove(CONNECTION);
    headers.insert(FORWARDED, HeaderValue::from_static("node"));
    let answer = tokio::time::timeout(ANSWER, client(&address)?.request(request)).await;
    let answer =
        answer.map_err(|_| "it takes too long".to_owned()).and_then(|answer| answer.map_err(|error| causes(&error)));
    match answer {
        Ok(answer) => Ok(answer.map(Body::new)),
        Err(error) => {
            tracing::warn!(node = node.id, error, "another node cannot be reached");
            Err(ApiError::Unavailable)
        }
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
        tracing::warn!(error = format!("{error:#}"), "another node cannot be reached");
        ApiError::Unavailable
    })?;
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    Ok(place.get_or_init(|| client))
}
