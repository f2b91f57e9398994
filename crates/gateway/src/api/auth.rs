//! Authentication and permissions. The key is checked before anything else of a request is read.
//!
//! A handler that has [`Caller`] with a scope among its arguments cannot be reached without a key that has the scope.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use recado_domain::api_key::{Environment, Grant, Scope, Scopes, SecretKey};
use recado_domain::channel::Actor;
use recado_domain::clock::Millis;
use recado_domain::ids::{ApiKeyId, InstitutionId};
use recado_domain::institution::ApiKey;
use recado_domain::rate_limit::Quota;
use recado_store::{StoreError, shares};

use super::error::ApiError;
use super::{forward, held};
use crate::directory::{ChannelEntry, KeyEntry};
use crate::disconnected::Disconnected;
use crate::gateway::Gateway;
use crate::metrics::METRICS;
use crate::rate_limit::{Calls, Peer};

/// The authenticated caller. It is stored in a request's extensions, which no input can reach: only this file writes it.
#[derive(Clone, Copy)]
pub(super) struct AuthContext {
    pub(super) institution: InstitutionId,
    /// `None` for the operator.
    pub(super) key: Option<ApiKeyId>,
    pub(super) grant: Grant,
}

/// Authenticates a request as the operator's, who may do everything in any institution without a key or a limit: a person
/// who can open the control socket could as well create a key.
pub fn authenticate_operator(request: &mut Request, institution: InstitutionId, environment: Environment) {
    let grant = Grant { environment, scopes: Scopes::all(), rate_limit: None, expires_at: None };
    request.extensions_mut().insert(AuthContext { institution, key: None, grant });
}

/// Authenticates the key and counts the call. It runs only if the route and its method exist.
pub async fn authenticate(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    if request.extensions().get::<AuthContext>().is_some() {
        return next.run(request).await;
    }
    let now = gateway.clock.now();
    let peer = request.extensions().get::<Peer>().copied();
    let key = match bearer(request.headers()) {
        Some(secret) => match find(&gateway, &secret.hash(), peer, now).await {
            Ok(key) => key,
            Err(error) => return ApiError::from(error).into_response(),
        },
        None => None,
    };
    let Some(entry) = key.filter(|entry| entry.is_valid(now)) else {
        METRICS.not_authenticated(request.headers().contains_key(AUTHORIZATION));
        return refuse(&gateway, peer, now, ApiError::Unauthorized).into_response();
    };
    if entry.touch(now) {
        gateway.key_used.notify_one();
    }
    let calls = if looks_only(request.method()) { Calls::Reads } else { Calls::Sends };
    let nodes = gateway.nodes.quota();
    // The node that forwarded the call has counted it.
    let counted = forward::is_from_node(&gateway, request.headers());
    let quota = match if counted { Ok(None) } else { entry.acquire(calls, now, nodes).await } {
        Ok(quota) => quota,
        Err(error) => return ApiError::from(error).into_response(),
    };
    let mut response = if let Some(Quota { allowed: false, retry_after, .. }) = quota {
        METRICS.limited("key");
        ApiError::RateLimited(retry_after).into_response()
    } else {
        // Another node may just have created the channel.
        if gateway.nodes.are_shared()
            && names_unknown_channel(&gateway, &entry.key, &request)
            && let Err(error) = gateway.nodes.refresh().await
        {
            return ApiError::from(error).into_response();
        }
        request.extensions_mut().insert(entry.clone());
        request.extensions_mut().insert(AuthContext {
            institution: entry.key.institution,
            key: Some(entry.key.id),
            grant: entry.key.grant,
        });
        let call = reads_of(&entry.key, &request);
        held::count(&gateway.intake, entry.key.institution, shares::of_call(call, next.run(request)).await)
    };
    if let Some(quota) = quota {
        write_rate_limit_headers(response.headers_mut(), quota);
    }
    response
}

/// Whose share of the store's readers the call uses.
fn reads_of(key: &ApiKey, request: &Request) -> shares::Call {
    let owner = (key.institution, key.grant.environment);
    if looks_only(request.method()) {
        // A call of a command has no connection of its own.
        let disconnected = request.extensions().get::<Disconnected>().cloned().unwrap_or_default();
        shares::Call::Looks(owner, disconnected.token())
    } else {
        shares::Call::Changes(owner)
    }
}

/// The key with this hash. A key that another node has just created may need a refresh of the directory. An address with too
/// many failures gets no refresh.
async fn find(
    gateway: &Gateway,
    hash: &[u8; 32],
    peer: Option<Peer>,
    now: Millis,
) -> Result<Option<Arc<KeyEntry>>, StoreError> {
    let guesses = peer.is_some_and(|Peer(address)| gateway.failed_logins.is_exhausted(address, now));
    if gateway.directory.key(hash).is_none() && !guesses {
        gateway.nodes.refresh().await?;
    }
    Ok(gateway.directory.key(hash))
}

/// Whether the call names a channel that is not in the directory.
fn names_unknown_channel(gateway: &Gateway, key: &ApiKey, request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let named =
        path.and_then(|path| path.split('/').zip(request.uri().path().split('/')).find(|(name, _)| *name == CHANNEL));
    // An id in a path needs no escapes; an id with escapes is not found.
    named.is_some_and(|(_, id)| {
        gateway.directory.find(key.institution, key.grant.environment, id).is_none_or(|entry| entry.is_deleted())
    })
}

/// The name of the channel's id in the routes.
const CHANNEL: &str = "{channelId}";

fn looks_only(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Rejects a failed authentication and counts it. An address with too many failures gets 429.
pub fn refuse(gateway: &Gateway, peer: Option<Peer>, now: Millis, otherwise: ApiError) -> ApiError {
    let quota = peer.and_then(|Peer(address)| gateway.failed_logins.record(address, now));
    match quota {
        Some(Quota { allowed: false, retry_after, .. }) => {
            METRICS.limited("address");
            ApiError::RateLimited(retry_after)
        }
        _ => otherwise,
    }
}

fn write_rate_limit_headers(headers: &mut HeaderMap, quota: Quota) {
    headers.insert(HeaderName::from_static("ratelimit-limit"), quota.limit.into());
    headers.insert(HeaderName::from_static("ratelimit-remaining"), quota.remaining.into());
    headers.insert(HeaderName::from_static("ratelimit-reset"), quota.reset.into());
}

/// The key of `Authorization: Bearer …`. `None` if there is none or more than one, or if its checksum is wrong.
fn bearer(headers: &HeaderMap) -> Option<SecretKey> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| SecretKey::parse(key.trim_matches(' ')))?
}

/// The scopes as types, for the signatures of handlers.
pub mod scope {
    use super::Scope;

    /// A scope that a call needs.
    pub trait Needed: Send {
        /// The scope.
        const SCOPE: Scope;
    }

    macro_rules! needed {
        ($($name:ident)*) => {
            $(
                /// The call needs this scope.
                pub struct $name;

                impl Needed for $name {
                    const SCOPE: Scope = Scope::$name;
                }
            )*
        };
    }

    needed! { MessagesSend MessagesRead ChannelsRead ChannelsWrite KeysRead KeysWrite SandboxRead SandboxWrite
    EventsRead WebhooksRead WebhooksWrite ConversationsRead ConversationsWrite ContactsRead ContactsWrite }
}

/// A caller whose key has the scope `S`.
pub struct Caller<S> {
    /// The institution of the key.
    pub institution: InstitutionId,
    /// The key's environment.
    pub environment: Environment,
    /// The key; `None` for the operator.
    pub key: Option<ApiKeyId>,
    /// The permissions of the key.
    pub grant: Grant,
    scope: PhantomData<S>,
}

impl<S: scope::Needed, G: Sync> FromRequestParts<G> for Caller<S> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &G) -> Result<Self, ApiError> {
        let AuthContext { institution, key, grant } = *parts.extensions.get().ok_or(ApiError::Unauthorized)?;
        if !grant.scopes.allows(S::SCOPE) {
            return Err(ApiError::MissingScopes([S::SCOPE].into_iter().collect()));
        }
        Ok(Self { institution, environment: grant.environment, key, grant, scope: PhantomData })
    }
}

/// Whether the caller's key is still valid, for calls that last long.
pub struct Validity(Option<Arc<KeyEntry>>);

impl<G: Sync> FromRequestParts<G> for Validity {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &G) -> Result<Self, Infallible> {
        // The operator has no key.
        Ok(Self(parts.extensions.get().cloned()))
    }
}

impl Validity {
    /// Whether the key was neither revoked nor has expired.
    pub fn lasts(&self, now: Millis) -> bool {
        self.0.as_ref().is_none_or(|entry| entry.is_valid(now))
    }
}

impl<S> Caller<S> {
    /// The actor that is recorded for the caller's changes.
    pub fn actor(&self) -> Actor {
        Actor::caller(self.key)
    }

    /// The caller's channel with this id. Another institution's channel looks like one that does not exist.
    pub fn channel(&self, gateway: &Gateway, id: &str) -> Result<Arc<ChannelEntry>, ApiError> {
        self.channel_or_its_history(gateway, id)
            .and_then(|entry| if entry.is_deleted() { Err(ApiError::ChannelNotFound) } else { Ok(entry) })
    }

    /// The same, including a deleted channel, whose messages stay readable.
    pub fn channel_or_its_history(&self, gateway: &Gateway, id: &str) -> Result<Arc<ChannelEntry>, ApiError> {
        gateway.directory.find(self.institution, self.environment, id).ok_or(ApiError::ChannelNotFound)
    }

    /// Refuses live keys, which have no sandbox.
    pub fn sandbox_only(&self) -> Result<(), ApiError> {
        if self.environment == Environment::Test { Ok(()) } else { Err(ApiError::Forbidden) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_compared_without_case_and_the_key_with() {
        let secret = SecretKey::new(Environment::Test, &[7; 64]).unwrap();
        let key = secret.reveal();
        let of = |values: &[String]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).is_some()
        };
        assert!(of(&[format!("Bearer {key}")]) && of(&[format!("bEARER  {key}")]));
        for bad in
            [key.to_owned(), format!("Basic {key}"), format!("Bearer {}", key.to_lowercase()), "Bearer".to_owned()]
        {
            assert!(!of(&[bad]));
        }
        assert!(!of(&[]));
        assert!(!of(&[format!("Bearer {key}"), format!("Bearer {key}")]), "which one?");
    }
}
