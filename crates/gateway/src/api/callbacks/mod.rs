//! What Meta calls: one address for each app, or one for each channel.
//!
//! There is no key here. Who calls is known by the app's secret, which signs every callback, and by the verify token, which
//! Meta sends once when the address is entered in its dashboard. Who has neither is told the same 403 whether there is such
//! a channel or not.

pub mod statuses;
pub mod verify;

use std::sync::Arc;

use axum::http::Extensions;
use recado_providers::cloud_api::link::Fingerprint;
use recado_providers::cloud_api::{CloudApi, Link, Linked, callback, one_of_each_app};

use super::auth;
use super::error::ApiError;
use crate::gateway::Gateway;
use crate::rate_limit::Peer;

/// Which address was called.
enum Address {
    /// That of an app: what it tells goes to the channels of its numbers.
    App(Arc<CloudApi>),
    /// That of the channels of one id, in all institutions: ids are unique only within one.
    Channel(Vec<Linked>),
}

impl Address {
    fn app(gateway: &Gateway) -> Self {
        gateway.drivers.cloud_api().map_or_else(|| Self::Channel(Vec::new()), |cloud_api| Self::App(cloud_api.clone()))
    }

    fn channel(gateway: &Gateway, id: &str) -> Self {
        let Some(cloud_api) = gateway.drivers.cloud_api() else { return Self::Channel(Vec::new()) };
        let named = gateway.directory.named(id).into_iter().filter(|entry| !entry.is_deleted());
        let linked = named.filter_map(|entry| Some((entry.via.key, cloud_api.get(entry.via.key)?)));
        Self::Channel(linked.filter(|(_, link)| link.app_secret().is_some()).collect())
    }

    /// Whether this is the hash of a verify token that opens it.
    fn is_verified_by(&self, token: Fingerprint) -> bool {
        match self {
            Self::App(cloud_api) => cloud_api.verifies(token),
            Self::Channel(channels) => channels.iter().any(|(_, link)| link.verifier() == token),
        }
    }

    /// The links whose app may have signed the body: those of the ids in it. A body without any that is known, such as
    /// Meta's test or one of an app's other numbers, is tried on all where that is allowed.
    fn signed_by(&self, gateway: &Gateway, body: &[u8], on_all: bool) -> Vec<Arc<Link>> {
        let ids = callback::ids(body);
        let mut links = match self {
            Self::App(cloud_api) => cloud_api.apps_of(&ids),
            Self::Channel(channels) => {
                let of_number = |(_, link): &&Linked| ids.numbers.contains(&link.phone_number_id());
                let of_account = |(_, link): &&Linked| ids.accounts.contains(&link.business_account_id());
                channels.iter().filter(of_number).chain(channels.iter().filter(of_account)).cloned().collect()
            }
        };
        if links.is_empty() && on_all {
            links = match self {
                Self::App(cloud_api) => cloud_api.apps(),
                Self::Channel(channels) => channels.clone(),
            };
        }
        one_of_each_app(links, |channel| gateway.directory.channel(channel).map(|entry| entry.via.institution))
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

/// Most bytes of a stranger's body that is tried on all apps, or looked at after too many failures.
const SMALL: u64 = 16 << 10;

/// Who calls, as far as that is known before anything was looked at.
struct Caller {
    peer: Option<Peer>,
    /// Signed callbacks have come from there.
    is_known: bool,
    /// How many seconds to wait, where too many calls from there have failed. An address from which signed callbacks came
    /// goes on: behind a proxy it is Meta's as well as a stranger's.
    spent: Option<u64>,
}

impl Caller {
    fn of(gateway: &Gateway, extensions: &Extensions) -> Self {
        let (peer, now) = (extensions.get::<Peer>().copied(), gateway.clock.now());
        let is_known = gateway.intake.knows(peer, now);
        let spent =
            peer.and_then(|Peer(address)| gateway.failed_logins.exhausted_for(address, now)).filter(|_| !is_known);
        Self { peer, is_known, spent }
    }

    /// Turns those away who have failed too often.
    fn admit(&self) -> Result<(), ApiError> {
        self.spent.map_or(Ok(()), |wait| Err(ApiError::RateLimited(wait)))
    }
}

/// Refuses who did not prove to be Meta; too many tries from one address are told so.
fn refuse(gateway: &Gateway, caller: &Caller) -> ApiError {
    auth::refuse(gateway, caller.peer, gateway.clock.now(), ApiError::Forbidden)
}
