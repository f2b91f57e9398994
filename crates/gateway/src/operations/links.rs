//! How channels are linked to Meta's Cloud API: made, checked, taken up at the start.

use std::sync::Arc;

use recado_domain::channel::{ChannelAction, ChannelState};
use recado_domain::field_errors::Field;
use secrecy::{ExposeSecret, SecretString};

use crate::api::error::ApiError;
use crate::clock::Millis;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;
use crate::operations::channels;
use crate::provider::cloud_api::link::UnreadableLink;
use crate::provider::cloud_api::{CheckError, CloudApi, Link};
use crate::sealed::{KeyRing, Place, SealError};
use crate::store::rows::{self, Channel, StoreError};
use crate::store::{self, Store};

/// Links a channel to its number and brings its line up. Meta is asked first whether the token may speak for the number.
/// Without a new link the one is used that the channel has.
pub async fn connect(gateway: &Gateway, entry: &ChannelEntry, given: Option<Link>) -> Result<Channel, ApiError> {
    let Some(cloud_api) = gateway.providers.cloud_api() else { return Err(ApiError::NotImplemented) };
    let key = entry.via.key;
    let link = match given {
        Some(link) => link,
        None => cloud_api.get(key).map(|link| (*link).clone()).ok_or_else(nothing_given)?,
    };
    if gateway.secrets.is_empty() {
        return Err(ApiError::SecretKeyMissing);
    }
    // Before Meta is asked: a channel that cannot be connected, or is gone, costs no call.
    next(&channels::get(gateway, entry).await?)?;
    let number = cloud_api.graph().check(&link).await.map_err(refusal)?;
    let link = Arc::new(link.with_number(number));
    let sealed = gateway.secrets.seal(Place::Link(key), link.secrets().expose_secret().as_bytes(), &*gateway.entropy);
    let sealed = sealed.map_err(|_| ApiError::SecretKeyMissing)?;
    let row = rows::Link { channel: key, details: link.details(), sealed };
    let _one_at_a_time = gateway.changes.lock().await;
    for _ in 0..channels::TRIES {
        let channel = channels::get(gateway, entry).await?;
        next(&channel)?;
        // In use before the line is up: no send may still take the old one then, be refused, and pause the channel.
        let former = cloud_api.get(key);
        cloud_api.set(key, link.clone());
        let linked = gateway.store.link_channel(row.clone(), channel.state, gateway.clock.now()).await;
        if !matches!(linked, Ok(true)) {
            former.map_or_else(|| cloud_api.remove(key), |former| cloud_api.set(key, former));
        }
        if linked? {
            tracing::info!(channel.id = %entry.via.id, from = channel.state.name(), to = "CONNECTED", "channel moved");
            gateway.dispatcher.wake(key);
            return channels::get(gateway, entry).await;
        }
    }
    Err(ApiError::Unavailable)
}

fn next(channel: &Channel) -> Result<ChannelState, ApiError> {
    channel.state.after(ChannelAction::Connect).ok_or(ApiError::ChannelNotConnected)
}

/// The errors of a first connect that names nothing.
fn nothing_given() -> ApiError {
    const NOTHING: [Field<'_>; 5] = [Field::Absent, Field::Absent, Field::Absent, Field::Absent, Field::Absent];
    Link::parse(&NOTHING).map_or_else(Into::into, |_| ApiError::Internal)
}

fn refusal(error: CheckError) -> ApiError {
    error.faulty_field().map_or(ApiError::Unavailable, Into::into)
}

/// Why a stored link cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Sealed(#[from] SealError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableLink),
}

impl Unusable {
    /// For a channel's `stateReason`.
    fn reason(&self) -> String {
        match self {
            Self::Sealed(error) => error.reason(),
            Self::Unreadable(_) => "A ligacao guardada do canal nao pode ser lida. Conecte-o de novo.".to_owned(),
        }
    }
}

/// Takes all stored links into use. A channel whose link cannot be opened is paused with the reason; the others go on.
pub async fn take_up(cloud_api: &CloudApi, store: &dyn Store, secrets: &KeyRing, now: Millis) -> store::Result<()> {
    for row in store.links().await? {
        match open(secrets, &row) {
            Ok(link) => cloud_api.set(row.channel, Arc::new(link)),
            Err(error) => {
                tracing::warn!(channel = row.channel, %error, "a channel's link cannot be used; the channel is paused");
                pause(store, row.channel, &error.reason(), now).await?;
            }
        }
    }
    Ok(())
}

fn open(secrets: &KeyRing, row: &rows::Link) -> Result<Link, Unusable> {
    let opened = secrets.open(Place::Link(row.channel), &row.sealed)?;
    let text = std::str::from_utf8(opened.expose_secret()).map_err(|_| UnreadableLink::Secrets)?;
    Ok(Link::from_stored(&row.details, &SecretString::from(text))?)
}

async fn pause(store: &dyn Store, channel: rows::ChannelKey, reason: &str, now: Millis) -> Result<(), StoreError> {
    for state in [ChannelState::Connected, ChannelState::Restricted] {
        store.move_channel(channel, state, ChannelState::Paused, Some(reason.to_owned()), now).await?;
    }
    Ok(())
}
