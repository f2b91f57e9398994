//! How channels are linked to Meta's Cloud API: made, checked, taken up at the start.

use std::sync::Arc;

use recado_domain::channel::{self, Actor, Channel, ChannelAction, ChannelKey, ChannelMove, ChannelState, ChannelType};
use recado_domain::error::AppError;
use recado_domain::field_errors::Field;
use recado_providers::cloud_api::link::UNUSABLE;
use recado_providers::cloud_api::{CheckError, Link, tell_of_key};
use recado_store::StoreError;
use recado_store::sealed::Place;
use secrecy::ExposeSecret;

use crate::directory::ChannelEntry;
use crate::gateway::Gateway;
use crate::operations::channels;

/// What links a channel, not checked yet: the values of [`FIELDS`](recado_providers::cloud_api::link::FIELDS).
pub type Given<'a> = [Field<'a>; 5];

/// Nothing that is new.
pub const NOTHING: Given<'static> = [Field::Absent, Field::Absent, Field::Absent, Field::Absent, Field::Absent];

/// Links a channel to its number and brings its line up. Meta is asked first whether the token may speak for the number.
/// What is not given is as in the link that the channel has.
pub async fn connect(
    gateway: &Gateway,
    entry: &ChannelEntry,
    given: &Given<'_>,
    by: Actor,
) -> Result<Channel, AppError> {
    let Some(cloud_api) = gateway.providers.cloud_api() else { return Err(AppError::NotImplemented) };
    let key = entry.via.key;
    if gateway.secrets.is_empty() {
        return Err(AppError::SecretKeyMissing);
    }
    // Before Meta is asked: a channel that cannot be connected, or is gone, costs no call.
    next(&channels::get(gateway, entry).await?)?;
    let link = Link::parse(given, stored(gateway, key).await?.as_ref())?;
    let number = cloud_api.graph().check(&link).await.map_err(refusal)?;
    let link = Arc::new(link.with_number(number));
    let sealed = gateway.secrets.seal(Place::Link(key), link.secrets().expose_secret().as_bytes(), &*gateway.entropy);
    let sealed = sealed.map_err(|_| AppError::SecretKeyMissing)?;
    let row = channel::Link { channel: key, details: link.details(), sealed };
    let _one_at_a_time = gateway.changes.lock().await;
    for _ in 0..channels::TRIES {
        let channel = channels::get(gateway, entry).await?;
        next(&channel)?;
        // In use before the line is up: no send may still take the old one then, be refused, and pause the channel.
        let former = cloud_api.get(key);
        cloud_api.set(key, link.clone());
        let linked = gateway.store.link_channel(row.clone(), channel.state, by, gateway.clock.now()).await;
        if !matches!(linked, Ok(true)) {
            former.map_or_else(|| cloud_api.remove(key), |former| cloud_api.set(key, former));
        }
        if linked? {
            tracing::info!(channel.id = %entry.via.id, from = channel.state.name(), to = "CONNECTED", "channel moved");
            return channels::get(gateway, entry).await;
        }
    }
    Err(AppError::Unavailable)
}

fn next(channel: &Channel) -> Result<ChannelState, AppError> {
    channel.state.after(ChannelAction::Connect).ok_or(AppError::ChannelNotConnected)
}

/// The link that a channel has. One that cannot be opened is none: it has to be made anew.
async fn stored(gateway: &Gateway, channel: ChannelKey) -> Result<Option<Link>, AppError> {
    let row = gateway.store.link(channel).await?;
    Ok(row.and_then(|row| gateway.links.open(&row).ok()))
}

fn refusal(error: CheckError) -> AppError {
    error.faulty_field().map_or(AppError::Unavailable, Into::into)
}

/// Takes all stored links into use; whether it could. A channel whose link cannot be used (a server that was started
/// without its secret key) is paused with the reason, and goes on at the start that finds it usable again; the others are
/// not touched by it. One node among others pauses nothing: another may have the right key.
pub async fn take_up(gateway: &Gateway) -> Result<bool, StoreError> {
    let mut all = !gateway.nodes.are_shared() || opens_sessions(gateway).await?;
    let Some(cloud_api) = gateway.providers.cloud_api() else { return Ok(all) };
    let mut usable = Vec::new();
    for row in gateway.store.links().await? {
        let channel = row.channel;
        // A phone's channel has its secrets in its session.
        if gateway.directory.channel(channel).is_none_or(|entry| entry.kind != ChannelType::CloudApi) {
            continue;
        }
        match gateway.links.open(&row) {
            Ok(link) => {
                usable.push((channel, Arc::new(link)));
                move_at_start(gateway, channel, None).await?;
            }
            Err(error) if gateway.nodes.are_shared() => {
                tell_of_key(channel, &error);
                all = false;
            }
            Err(error) => {
                tracing::warn!(channel.key = channel, %error, "channel credentials not readable; channel paused");
                move_at_start(gateway, channel, Some(error.reason())).await?;
            }
        }
    }
    cloud_api.set_all(usable);
    Ok(all)
}

/// Whether this node's key opens what linked phones keep, as far as one row can tell.
async fn opens_sessions(gateway: &Gateway) -> Result<bool, StoreError> {
    let Some(row) = gateway.store.session_rows(None, 1).await?.pop() else { return Ok(true) };
    let opened = gateway.secrets.open((&row.of).into(), &row.sealed);
    Ok(opened.inspect_err(|error| tell_of_key(row.of.channel, error)).is_ok())
}

/// Pauses a channel that is up for this reason; without one ends a pause that had such a reason.
async fn move_at_start(gateway: &Gateway, channel: ChannelKey, reason: Option<String>) -> Result<(), StoreError> {
    let Some(found) = gateway.store.channel(channel).await? else { return Ok(()) };
    let was_unusable = found.state_reason.is_some_and(|reason| reason.starts_with(UNUSABLE));
    let next = match (found.state, &reason) {
        (ChannelState::Connected | ChannelState::Restricted, Some(_)) => ChannelState::Paused,
        (ChannelState::Paused, None) if was_unusable => ChannelState::Connected,
        _ => return Ok(()),
    };
    let to = ChannelMove { from: found.state, to: next, reason, by: Actor::Recado, at: gateway.clock.now() };
    gateway.store.move_channel(channel, to).await?;
    Ok(())
}
