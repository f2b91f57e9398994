//! The callbacks of Meta: one address for each app, or one for each channel.
//!
//! They have no key. The app's secret, which signs every callback, authenticates the caller, and so does the verify token,
//! which Meta sends once when the address is entered in its dashboard. A caller without either gets the same 403 whether the
//! channel exists or not.

pub mod accept;
mod arrivals;
mod receipts;
pub mod verify;

use std::sync::Arc;

use axum::http::Extensions;
use recado_providers::cloud_api::link::Fingerprint;
use recado_providers::cloud_api::{CloudApi, Link, Linked, callback, one_of_each_app};

use super::auth;
use super::error::ApiError;
use crate::gateway::Gateway;
use crate::rate_limit::Peer;

/// The address that was called.
enum Address {
    /// The address of an app. Its statuses go to the channels of its numbers.
    App(Arc<CloudApi>),
    /// The address of the channels with this id in all institutions. Ids are unique only within an institution.
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

    /// Whether this is the hash of a verify token for the address.
    fn is_verified_by(&self, token: Fingerprint) -> bool {
        match self {
            Self::App(cloud_api) => cloud_api.verifies(token),
            Self::Channel(channels) => channels.iter().any(|(_, link)| link.verifier() == token),
        }
    }

    /// The links whose app may have signed the body: those of the ids in it. If it names no known id, as Meta's test or the
    /// app's other numbers do, all links are tried if `on_all` permits it.
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

/// The most bytes of an unauthenticated body that is tried on all apps, or read after too many failures.
const SMALL: u64 = 16 << 10;

/// The caller, as far as it is known before the body is read.
struct Caller {
    peer: Option<Peer>,
    /// Signed callbacks have come from its address.
    is_known: bool,
    /// The seconds to wait after too many failures from its address. An address that sent signed callbacks is not refused:
    /// behind a proxy, Meta and other callers share it.
    spent: Option<u64>,
}

impl Caller {
    fn of(gateway: &Gateway, extensions: &Extensions) -> Self {
        let (peer, now) = (extensions.get::<Peer>().copied(), gateway.clock.now());
        let is_known = gateway.intake.is_verified(peer, now);
        let spent =
            peer.and_then(|Peer(address)| gateway.failed_logins.exhausted_for(address, now)).filter(|_| !is_known);
        Self { peer, is_known, spent }
    }

    /// Refuses addresses with too many failures.
    fn admit(&self) -> Result<(), ApiError> {
        self.spent.map_or(Ok(()), |wait| Err(ApiError::RateLimited(wait)))
    }
}

/// Rejects a caller that is not authenticated as Meta. An address with too many failures gets 429.
fn refuse(gateway: &Gateway, caller: &Caller) -> ApiError {
    auth::refuse(gateway, caller.peer, gateway.clock.now(), ApiError::Forbidden)
}
