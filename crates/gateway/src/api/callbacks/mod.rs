//! What Meta calls: one address for each app, or one for each channel.
//!
//! There is no key here. Who calls is known by the app's secret, which signs every callback, and by the verify token, which
//! Meta sends once when the address is entered in its dashboard. Who has neither is told the same 403 whether there is such
//! a channel or not.

pub mod statuses;
pub mod verify;

use std::collections::HashSet;
use std::sync::Arc;

use axum::http::Extensions;
use secrecy::ExposeSecret;

use super::auth::{self, Peer};
use super::error::ApiError;
use crate::gateway::Gateway;
use crate::provider::cloud_api::Link;
use crate::store::rows::ChannelKey;

/// Most app secrets that are tried on a callback to the address of the app. More apps than that have an address for each
/// channel.
pub const APPS: usize = 64;

type Linked = (ChannelKey, Arc<Link>);

/// The linked channels of this id, in all institutions: ids are unique only within one.
fn channels_of_id(gateway: &Gateway, id: &str) -> Vec<Linked> {
    let Some(cloud_api) = gateway.providers.cloud_api() else { return Vec::new() };
    let named = gateway.directory.named(id).into_iter().filter(|entry| !entry.is_deleted());
    let linked = named.filter_map(|entry| Some((entry.via.key, cloud_api.get(entry.via.key)?)));
    linked.filter(|(_, link)| link.app_secret().is_some()).collect()
}

/// All linked channels whose callbacks can be believed, of the first so many apps.
fn channels_of_apps(gateway: &Gateway) -> Vec<Linked> {
    let Some(cloud_api) = gateway.providers.cloud_api() else { return Vec::new() };
    let mut all = cloud_api.all();
    // The eldest apps stay among the first, whatever is added.
    all.sort_unstable_by_key(|(channel, _)| *channel);
    let mut apps = HashSet::new();
    all.retain(|(_, link)| {
        link.app_secret().is_some_and(|secret| {
            let secret = secret.expose_secret();
            apps.contains(secret) || (apps.len() < APPS && apps.insert(secret.to_owned()))
        })
    });
    all
}

/// Refuses who did not prove to be Meta; too many tries from one address are told so.
fn refuse(gateway: &Gateway, extensions: &Extensions) -> ApiError {
    let peer = extensions.get::<Peer>().copied();
    auth::refuse(gateway, peer, gateway.clock.now(), ApiError::Forbidden)
}
