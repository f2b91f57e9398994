//! What Meta calls: one address for each app, or one for each channel.
//!
//! There is no key here. Who calls is known by the app's secret, which signs every callback, and by the verify token, which
//! Meta sends once when the address is entered in its dashboard. Who has neither is told the same 403 whether there is such
//! a channel or not.

pub mod statuses;
pub mod verify;

use std::sync::Arc;

use axum::http::Extensions;

use super::auth::{self, Peer};
use super::error::ApiError;
use crate::gateway::Gateway;
use crate::provider::cloud_api::{CloudApi, Link, Linked, one_of_each_app};

/// Which address was called.
enum Address {
    /// That of an app: what it tells goes to the channels of its numbers.
    App(Arc<CloudApi>),
    /// That of the channels of one id, in all institutions: ids are unique only within one.
    Channel(Vec<Linked>),
}

impl Address {
    fn app(gateway: &Gateway) -> Self {
        gateway
            .providers
            .cloud_api()
            .map_or_else(|| Self::Channel(Vec::new()), |cloud_api| Self::App(cloud_api.clone()))
    }

    fn channel(gateway: &Gateway, id: &str) -> Self {
        let Some(cloud_api) = gateway.providers.cloud_api() else { return Self::Channel(Vec::new()) };
        let named = gateway.directory.named(id).into_iter().filter(|entry| !entry.is_deleted());
        let linked = named.filter_map(|entry| Some((entry.via.key, cloud_api.get(entry.via.key)?)));
        Self::Channel(linked.filter(|(_, link)| link.app_secret().is_some()).collect())
    }

    /// The links whose verify token opens it.
    fn verified_by(&self) -> Vec<Arc<Link>> {
        match self {
            Self::App(cloud_api) => cloud_api.with_callbacks(),
            Self::Channel(channels) => channels.iter().map(|(_, link)| link.clone()).collect(),
        }
    }

    /// The links whose app may sign what is sent to it.
    fn signed_by(&self) -> Vec<Arc<Link>> {
        match self {
            Self::App(cloud_api) => cloud_api.apps().to_vec(),
            Self::Channel(channels) => one_of_each_app(channels.iter().map(|(_, link)| link)),
        }
    }

    /// The channels of a number.
    fn of_number(&self, phone_number_id: &str) -> Vec<Linked> {
        match self {
            Self::App(cloud_api) => cloud_api.of_number(phone_number_id),
            Self::Channel(channels) => {
                let own = channels.iter().filter(|(_, link)| link.phone_number_id() == phone_number_id);
                own.cloned().collect()
            }
        }
    }
}

/// Refuses who did not prove to be Meta; too many tries from one address are told so.
fn refuse(gateway: &Gateway, extensions: &Extensions) -> ApiError {
    let peer = extensions.get::<Peer>().copied();
    auth::refuse(gateway, peer, gateway.clock.now(), ApiError::Forbidden)
}
