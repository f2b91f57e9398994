//! The HTTP API: every route, in one list.

pub mod api_keys;
pub mod auth;
pub mod callbacks;
pub mod channels;
mod contacts;
mod conversations;
pub mod cors;
pub mod docs;
pub mod error;
mod events;
pub mod fields;
mod forward;
mod health;
mod held;
pub mod json;
mod media;
mod messages;
pub mod openapi;
pub mod pages;
pub mod path;
pub mod query;
mod request_id;
mod route;
mod sandbox;
mod webhooks;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use recado_domain::kinds::KINDS;

use crate::config::Docs;
use crate::gateway::Gateway;
use crate::metrics::METRICS;
use error::ApiError;
use route::{Access, Route, keyed, open, page};

/// Every route, with its handlers and its description for the OpenAPI document.
pub fn routes() -> Vec<Route> {
    use api_keys as keys;

    use channels::{act, connect};
    use messages::{cancel, planned, send, vcard};
    let mut routes: Vec<Route> = KINDS.iter().map(send::route).collect();
    routes.extend([
        send::route_of_any(keyed("/v1/channels/{channelId}/messages"))
            .list(messages::list::list, messages::list::describe),
        keyed("/v1/channels/{channelId}/messages/{messageId}")
            .get(messages::get::get, messages::get::describe)
            .delete(cancel::cancel, cancel::describe)
            .otherwise(planned::refuse),
        keyed("/v1/channels/{channelId}/messages/{messageId}/vcard").get(vcard::vcard, vcard::describe),
        keyed("/v1/media/{mediaId}/content").get(media::content::content, media::content::describe),
        keyed("/v1/channels")
            .list(channels::list::list, channels::list::describe)
            .post(channels::create::create, channels::create::describe),
        keyed("/v1/channels/{channelId}")
            .on_owner()
            .get(channels::get::get, channels::get::describe)
            .put(channels::update::update, channels::update::describe)
            .delete(channels::delete::delete, channels::delete::describe),
        keyed("/v1/channels/{channelId}/events").list(channels::events::list, channels::events::describe),
        keyed("/v1/channels/{channelId}/connect").on_owner().post(connect::connect, connect::describe),
        keyed("/v1/channels/{channelId}/pairing").on_owner().get(channels::pairing::get, channels::pairing::describe),
        keyed("/v1/channels/{channelId}/accounts/{phone}")
            .on_owner()
            .get(channels::account::get, channels::account::describe),
        keyed("/v1/channels/{channelId}/disconnect").on_owner().post(act::disconnect, act::describe_disconnect),
        keyed("/v1/channels/{channelId}/pause").on_owner().post(act::pause, act::describe_pause),
        keyed("/v1/channels/{channelId}/resume").on_owner().post(act::resume, act::describe_resume),
        keyed("/v1/api-keys")
            .list(keys::list::list, keys::list::describe)
            .post(keys::create::create, keys::create::describe),
        keyed("/v1/api-keys/{keyId}").delete(keys::revoke::revoke, keys::revoke::describe),
        keyed("/v1/events").list(events::list::list, events::list::describe),
        keyed("/v1/events/settings")
            .get(events::settings::get, events::settings::describe_get)
            .put(events::settings::put, events::settings::describe_put),
        keyed("/v1/events/{eventId}").get(events::get::get, events::get::describe),
        keyed("/v1/sandbox/messages").list(sandbox::messages::messages, sandbox::messages::describe),
        keyed("/v1/sandbox/simulate/incoming").post(sandbox::simulate::simulate, sandbox::simulate::describe),
        keyed("/v1/sandbox/data").delete(sandbox::clear::clear, sandbox::clear::describe),
        open("/v1/callbacks/meta")
            .get(callbacks::verify::of_app, callbacks::verify::describe_of_app)
            .post(callbacks::accept::of_app, callbacks::accept::describe_of_app),
        open("/v1/callbacks/meta/{channelId}")
            .get(callbacks::verify::of_channel, callbacks::verify::describe_of_channel)
            .post(callbacks::accept::of_channel, callbacks::accept::describe_of_channel),
        open("/health/live").get(health::live, health::describe_live),
        open("/health/ready").get(health::ready, health::describe_ready),
        page("/openapi.json", docs::openapi),
        page("/docs", docs::index),
        page("/docs/start.js", docs::start),
        page("/docs/swagger-ui.css", docs::style),
        page("/docs/swagger-ui-bundle.js", docs::script),
    ]);
    routes.extend(webhook_routes());
    routes.extend(of_people());
    routes
}

fn webhook_routes() -> impl Iterator<Item = Route> {
    use webhooks as hooks;

    let routes = [
        keyed("/v1/webhooks")
            .list(hooks::list::list, hooks::list::describe)
            .post(hooks::create::create, hooks::create::describe),
        keyed("/v1/webhooks/{webhookId}")
            .get(hooks::get::get, hooks::get::describe)
            .put(hooks::update::update, hooks::update::describe)
            .delete(hooks::delete::delete, hooks::delete::describe),
        keyed("/v1/webhooks/{webhookId}/test").post(hooks::test::test, hooks::test::describe),
        keyed("/v1/webhooks/{webhookId}/replay").post(hooks::replay_range::replay, hooks::replay_range::describe),
        keyed("/v1/webhooks/{webhookId}/logs").list(hooks::logs::list, hooks::logs::describe),
        keyed("/v1/webhooks/{webhookId}/logs/{deliveryId}").get(hooks::delivery::get, hooks::delivery::describe),
        keyed("/v1/webhooks/{webhookId}/logs/{deliveryId}/replay").post(hooks::replay::replay, hooks::replay::describe),
    ];
    routes.into_iter()
}

/// The routes of conversations and contacts.
fn of_people() -> [Route; 12] {
    use conversations::{assign, close, reopen, transfer, unassign};
    [
        keyed("/v1/channels/{channelId}/conversations/{conversationId}")
            .list(conversations::messages::messages, conversations::messages::describe),
        keyed("/v1/conversations").list(conversations::list::list, conversations::list::describe),
        keyed("/v1/conversations/{conversationId}").get(conversations::get::get, conversations::get::describe),
        keyed("/v1/conversations/{conversationId}/assign").patch(assign::assign, assign::describe),
        keyed("/v1/conversations/{conversationId}/unassign").patch(unassign::unassign, unassign::describe),
        keyed("/v1/conversations/{conversationId}/transfer").patch(transfer::transfer, transfer::describe),
        keyed("/v1/conversations/{conversationId}/close").patch(close::close, close::describe),
        keyed("/v1/conversations/{conversationId}/reopen").patch(reopen::reopen, reopen::describe),
        keyed("/v1/conversations/{conversationId}/read").post(conversations::read::read, conversations::read::describe),
        keyed("/v1/contacts")
            .list(contacts::list::list, contacts::list::describe)
            .post(contacts::create::create, contacts::create::describe),
        keyed("/v1/contacts/{contactId}")
            .get(contacts::get::get, contacts::get::describe)
            .put(contacts::update::update, contacts::update::describe)
            .delete_with(contacts::delete::delete, contacts::delete::describe),
        keyed("/v1/contacts/by-phone/{phone}").put(contacts::put::put, contacts::put::describe),
    ]
}

/// The HTTP API.
#[derive(Clone)]
pub struct Api {
    gateway: Arc<Gateway>,
    router: Router,
}

impl Api {
    /// All routes of a gateway.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self { router: router(gateway.clone(), routes().into_iter()), gateway }
    }

    /// The routes for health, and for calls that other nodes forward about the sessions of this node, for a process that
    /// answers no other calls.
    pub fn of_sessions(gateway: Arc<Gateway>) -> Self {
        let routes = routes().into_iter().filter(|route| {
            route.on_owner || route.path.starts_with("/health/") || route.path.starts_with("/v1/media/")
        });
        Self { router: router(gateway.clone(), routes), gateway }
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request) -> Response {
        request_id::identify(&self.gateway, request, self.router.clone()).await
    }
}

fn router(gateway: Arc<Gateway>, routes: impl Iterator<Item = Route>) -> Router {
    let pages = gateway.behaviour.docs == Docs::On;
    let routes = routes.filter(|route| pages || route.access != Access::Page);
    let logged = tracing::enabled!(tracing::Level::DEBUG) || METRICS.count_calls();
    let add = |router: Router<Arc<Gateway>>, route: Route| {
        // Only on methods that exist: an unknown path or method is reported before authentication.
        let forwards = || from_fn_with_state(gateway.clone(), forward::to_owner);
        let methods = if route.on_owner { route.methods.route_layer(forwards()) } else { route.methods };
        let methods = match route.access {
            Access::Keyed => methods.route_layer(from_fn_with_state(gateway.clone(), auth::authenticate)),
            Access::Open | Access::Page => methods,
        };
        router.route(&route.path, if logged { methods.route_layer(from_fn(request_id::name_route)) } else { methods })
    };
    let all = routes
        .fold(Router::new(), add)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .fallback(async || ApiError::NotFound);
    let shared = !gateway.behaviour.cors_origins.is_empty();
    let all = if shared { all.layer(from_fn_with_state(gateway.clone(), cors::share)) } else { all };
    all.with_state(gateway)
}
