//! The HTTP API: every route, in one list.

pub mod api_keys;
pub mod auth;
pub mod channels;
pub mod error;
mod health;
pub mod json;
mod messages;
pub mod path;
pub mod query;
pub mod rate_limit;
mod request_id;
mod sandbox;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post};

use crate::gateway::Gateway;
use error::ApiError;

/// The routes of the API.
pub fn router(gateway: Arc<Gateway>) -> Router {
    // On the methods that exist only: a wrong path or method is told before anybody is asked for a key.
    let keyed = |methods: MethodRouter<Arc<Gateway>>| {
        methods.route_layer(from_fn_with_state(gateway.clone(), auth::authenticate))
    };
    Router::new()
        .route("/v1/channels/{channel}/messages/contact", keyed(post(messages::send_contact::send_contact)))
        .route("/v1/channels/{channel}/messages", keyed(get(messages::list::list)))
        .route(
            "/v1/channels/{channel}/messages/{message}",
            keyed(get(messages::get::get).delete(messages::cancel::cancel)),
        )
        .route("/v1/channels/{channel}/messages/{message}/vcard", keyed(get(messages::vcard::vcard)))
        .route("/v1/channels", keyed(get(channels::list::list).post(channels::create::create)))
        .route("/v1/channels/{channel}", keyed(get(channels::get::get).delete(channels::delete::delete)))
        .route("/v1/channels/{channel}/connect", keyed(post(channels::act::connect)))
        .route("/v1/channels/{channel}/disconnect", keyed(post(channels::act::disconnect)))
        .route("/v1/channels/{channel}/pause", keyed(post(channels::act::pause)))
        .route("/v1/channels/{channel}/resume", keyed(post(channels::act::resume)))
        .route("/v1/api-keys", keyed(get(api_keys::list::list).post(api_keys::create::create)))
        .route("/v1/api-keys/{key}", keyed(delete(api_keys::revoke::revoke)))
        .route("/v1/sandbox/messages", keyed(get(sandbox::messages::messages)))
        .route("/v1/sandbox/data", keyed(delete(sandbox::clear::clear)))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .fallback(async || ApiError::NotFound)
        .layer(from_fn_with_state(gateway.clone(), request_id::identify))
        .with_state(gateway)
}
