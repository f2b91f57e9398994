//! Operations on channels: create, change, move between states, delete.

use std::sync::Arc;

use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelAction, ChannelChange, ChannelMove, ChannelSettings, ChannelState, ChannelType, NewChannel,
    Setting, all_settings,
};
use recado_domain::clock::Millis;
use recado_domain::error::AppError;
use recado_domain::field_errors::FieldErrors;
use recado_domain::ids::{ChannelId, InstitutionId, SANDBOX};
use recado_domain::text;
use recado_providers::pairing::{Pairing, RESTRICTED};
use recado_providers::{ChannelDriver, Connect, Connected, Given};
use recado_store::shares::of_server;
use serde_json::{Map, Value};

use crate::cluster::Owner;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;

/// How often a transition is retried after a concurrent one.
const TRIES: usize = 5;
/// The most messages that one transaction cancels when a channel is deleted.
const CANCEL_AT_ONCE: usize = 500;
/// The most transactions in which a deletion closes conversations. The search for idle conversations closes the others.
const CLOSINGS: usize = 10;

/// The fields of a new channel, in the order in which their errors are reported.
pub const FIELDS: [&str; 4] = ["name", "type", "id", "settings"];

const PUT_DOWN: &str = "Desconectado a pedido.";

const BAD_NAME: &str = "O nome do canal deve ter de 1 a 100 caracteres.";

/// The most code points of a name.
pub const NAME_LIMIT: usize = 100;

/// A request to create a channel, not checked yet.
pub struct CreateChannel {
    pub name: Option<String>,
    pub kind: Option<String>,
    pub id: Option<String>,
    /// Those that the call names.
    pub settings: Map<String, Value>,
}

/// Creates a channel.
pub async fn create(
    gateway: &Gateway,
    institution: InstitutionId,
    environment: Environment,
    request: CreateChannel,
    by: Actor,
    mut errors: FieldErrors,
) -> Result<Channel, AppError> {
    let name = request.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    match name.map(|name| text::check_name(name, NAME_LIMIT)) {
        None if !names(&errors, "name") => errors.push("name", "O nome do canal e obrigatorio."),
        Some(Err(_)) => errors.push("name", BAD_NAME),
        _ => {}
    }
    let kind = request.kind.as_deref().map(ChannelType::from_name);
    match kind {
        None if !names(&errors, "type") => errors.push("type", "O tipo do canal e obrigatorio."),
        Some(None) => errors.push("type", format!("O tipo do canal deve ser {}.", ChannelType::names("ou"))),
        Some(Some(kind)) if kind.descriptor().environment != environment => {
            let wanted = match kind.descriptor().environment {
                Environment::Test => "de teste",
                Environment::Live => "live",
            };
            errors.push("type", format!("Um canal {} exige uma chave {wanted}.", kind.name()));
        }
        _ => {}
    }
    let id = request.id.as_deref().map(str::parse::<ChannelId>);
    match &id {
        Some(Err(_)) => errors.push("id", "O id do canal deve ter de 1 a 64 caracteres: letras, digitos, _ e -."),
        Some(Ok(id)) if id.as_str() == SANDBOX => errors.push("id", "O id sandbox e reservado."),
        _ => {}
    }
    let settings = kind.flatten().and_then(|kind| settings_of(kind, request.settings, &mut errors));
    let (Some(name), Some(Some(kind)), true) = (name, kind, errors.is_empty()) else {
        return Err(in_order(errors, &FIELDS));
    };
    gateway.drivers.get(kind)?;
    if kind.descriptor().has_secrets && gateway.secrets.is_empty() {
        return Err(AppError::SecretKeyMissing);
    }
    let id = id.and_then(Result::ok).unwrap_or_else(|| gateway.new_ids().channel());
    let (name, state, now) = (name.to_owned(), ChannelState::Created, gateway.clock.now());
    add(gateway, NewChannel { institution, environment, id, name, kind, settings, state, by, now }).await
}

/// The settings of a new channel; `None` if the call names none.
fn settings_of(kind: ChannelType, named: Map<String, Value>, errors: &mut FieldErrors) -> Option<ChannelSettings> {
    let change = ChannelChange { settings: named, ..ChannelChange::default() };
    (!change.settings.is_empty()).then(|| kind.default_settings().changed(&change, errors))
}

/// The errors in the order of these fields, and then of the settings.
fn in_order(errors: FieldErrors, fields: &[&str]) -> AppError {
    let names: Vec<_> = all_settings().map(Setting::field).collect();
    let order: Vec<_> = fields.iter().copied().chain(names.iter().map(String::as_str)).collect();
    errors.in_order_of(&order).into()
}

fn names(errors: &FieldErrors, field: &str) -> bool {
    errors.as_slice().iter().any(|error| error.field == field)
}

/// Changes a channel's name and settings.
pub async fn update(
    gateway: &Gateway,
    entry: &ChannelEntry,
    change: ChannelChange,
    mut errors: FieldErrors,
) -> Result<Channel, AppError> {
    let _one_at_a_time = gateway.changes.lock().await;
    // Calls of all owners wait for this lock.
    let channel = of_server(get(gateway, entry)).await?;
    let name = change.name.as_deref().map_or(channel.name.as_str(), str::trim);
    if name.is_empty() || text::check_name(name, NAME_LIMIT).is_err() {
        errors.push("name", BAD_NAME);
    }
    let settings = channel.settings.changed(&change, &mut errors);
    if !errors.is_empty() {
        return Err(in_order(errors, &["name", "settings"]));
    }
    if !of_server(gateway.store.update_channel(entry.via.key, name.to_owned(), settings)).await? {
        return Err(AppError::ChannelNotFound);
    }
    of_server(get(gateway, entry)).await
}

/// Stores a channel and adds it to the directory.
pub(super) async fn add(gateway: &Gateway, channel: NewChannel) -> Result<Channel, AppError> {
    let _one_at_a_time = gateway.changes.lock().await;
    let channel = of_server(gateway.store.create_channel(channel)).await?.ok_or(AppError::ChannelExists)?;
    gateway.nodes.channel_created();
    Ok(channel)
}

/// The channel as it is stored now.
pub async fn get(gateway: &Gateway, entry: &ChannelEntry) -> Result<Channel, AppError> {
    let found = gateway.store.channel(entry.via.key).await?;
    found.filter(|channel| channel.deleted_at.is_none()).ok_or(AppError::ChannelNotFound)
}

/// Why the messages of a connected channel wait, if no node can send them.
const UNSERVED: &str = "Nenhum no envia por canais deste tipo agora: confira a chave secreta e os papeis dos nos.";

/// The channel as callers see it. The state of its own network is stored; that no node serves it is known in memory.
pub fn as_seen(gateway: &Gateway, channel: Channel) -> Channel {
    let waits = channel.state == ChannelState::Connected && gateway.nodes.leaves_unserved(channel.kind);
    let state_reason = channel.state_reason.or_else(|| waits.then(|| UNSERVED.to_owned()));
    Channel { state_reason, ..channel }
}

/// Connects a channel with the fields of the call. Returns the channel, and the progress of its linking if a phone links it.
pub async fn connect(
    gateway: &Gateway,
    entry: &ChannelEntry,
    given: Given<'_>,
    by: Actor,
) -> Result<(Channel, Option<Pairing>), AppError> {
    let driver = gateway.drivers.get(entry.kind)?;
    session_is_here(gateway, entry).await?;
    let country = gateway.country(entry.via.institution);
    match driver.connect(Connect { channel: &entry.via, given, country, by }).await? {
        Connected::NothingToDo => Ok((move_by(gateway, entry, ChannelAction::Connect, by).await?, None)),
        Connected::Done => Ok((get(gateway, entry).await?, None)),
        Connected::Pairing(pairing) => Ok((get(gateway, entry).await?, Some(pairing))),
    }
}

/// Refuses an action that only the owner of the channel's session can do. Calls of the API are forwarded to the owner; a
/// command must be run there.
async fn session_is_here(gateway: &Gateway, entry: &ChannelEntry) -> Result<(), AppError> {
    if !entry.kind.descriptor().holds_session {
        return Ok(());
    }
    match gateway.nodes.owner(entry.via.key).await? {
        Owner::Other(node) => {
            Err(AppError::field("channel", format!("A linha do canal esta no no {}: repita o comando la.", node.name)))
        }
        // This node is releasing the channel.
        Owner::None if gateway.nodes.leases().session_epoch(entry.via.key).is_some() => Err(AppError::Unavailable),
        // A channel without owner has no open session.
        Owner::Here | Owner::None => Ok(()),
    }
}

/// Disconnects, pauses or resumes a channel.
pub async fn act(
    gateway: &Gateway,
    entry: &ChannelEntry,
    action: ChannelAction,
    by: Actor,
) -> Result<Channel, AppError> {
    if action == ChannelAction::Connect {
        return Ok(connect(gateway, entry, Given::default(), by).await?.0);
    }
    session_is_here(gateway, entry).await?;
    if let Some(driver) = gateway.drivers.of(entry.kind).filter(|_| action == ChannelAction::Disconnect) {
        // If the store is unavailable, the session stays open, as the channel's state says.
        get(gateway, entry).await?;
        driver.disconnect(entry.via.key).await;
    }
    move_by(gateway, entry, action, by).await
}

/// Moves a channel to the state after an action.
async fn move_by(
    gateway: &Gateway,
    entry: &ChannelEntry,
    action: ChannelAction,
    by: Actor,
) -> Result<Channel, AppError> {
    let driver = gateway.drivers.of(entry.kind);
    for _ in 0..TRIES {
        let channel = get(gateway, entry).await?;
        let now = gateway.clock.now();
        let next = match driver.as_ref().filter(|_| channel.state == ChannelState::Connecting) {
            Some(driver) if !driver.is_linked(&entry.via).await => after_linking(&channel, action),
            _ => after(&channel, action, driver.as_deref(), now),
        };
        let (next, reason) = next.ok_or(AppError::ChannelNotConnected)?;
        // A person's pause replaces a pause by the network or because of a missing key, so that it does not end by itself.
        if next == channel.state && (reason.is_none() || reason == channel.state_reason) {
            // A caller who repeats the action expects that waiting messages are sent.
            gateway.dispatcher.wake(entry.via.key);
            return Ok(channel);
        }
        let to = ChannelMove { from: channel.state, to: next, reason, by, at: now };
        if gateway.store.move_channel(entry.via.key, to).await? {
            tracing::info!(channel.id = %entry.via.id, from = channel.state.name(), to = next.name(), "channel moved");
            return get(gateway, entry).await;
        }
    }
    Err(AppError::Unavailable)
}

/// The state after an action while a phone is to link the channel: the linking can be aborted, and there is nothing to hold.
fn after_linking(channel: &Channel, action: ChannelAction) -> Option<(ChannelState, Option<String>)> {
    (action == ChannelAction::Disconnect).then(|| (channel.unlinked(), Some(PUT_DOWN.to_owned())))
}

/// The state after an action, and its reason.
fn after(
    channel: &Channel,
    action: ChannelAction,
    driver: Option<&dyn ChannelDriver>,
    now: Millis,
) -> Option<(ChannelState, Option<String>)> {
    let next = channel.state.after(action)?;
    let restricted = next == ChannelState::Connected && channel.restricted_until.is_some_and(|until| until > now);
    // The end of a pause opens no session.
    let down = driver.filter(|_| action == ChannelAction::Resume && channel.state == ChannelState::Paused);
    if let Some(reason) = down.and_then(|driver| driver.why_down(channel.key)) {
        return Some((ChannelState::Disconnected, Some(reason)));
    }
    Some(match action {
        ChannelAction::Disconnect => (next, Some(PUT_DOWN.to_owned())),
        ChannelAction::Pause => (next, Some("Pausado a pedido.".to_owned())),
        // A pause does not lift a restriction of the network.
        ChannelAction::Connect | ChannelAction::Resume if restricted => {
            (ChannelState::Restricted, Some(RESTRICTED.to_owned()))
        }
        ChannelAction::Connect | ChannelAction::Resume => (next, None),
    })
}

/// How long a deletion waits for the device to be unlinked on the phone.
const UNLINK_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(800);

/// Deletes a channel: queued messages are cancelled, messages in flight are settled, and the history stays readable.
pub async fn delete(gateway: &Gateway, entry: &Arc<ChannelEntry>, by: Actor) -> Result<(), AppError> {
    if entry.via.id.as_str() == SANDBOX {
        return Err(AppError::ChannelReserved);
    }
    session_is_here(gateway, entry).await?;
    let (key, now) = (entry.via.key, gateway.clock.now());
    let mut one_at_a_time = gateway.changes.lock().await;
    of_server(gateway.store.delete_channel(key, by, now)).await?;
    // Before a caller can create the channel again on this node.
    let forgotten = gateway.drivers.of(entry.kind).and_then(|driver| driver.forget(key));
    // If this is interrupted, as when the server stops, the dispatcher cancels the rest at its next claim. A channel that is
    // created again meanwhile has none of these messages.
    let cancel = || of_server(gateway.store.cancel_former(key, CANCEL_AT_ONCE, now));
    while !gateway.stop.is_cancelled() && cancel().await? > 0 {
        // Release the lock during a long cancellation: the revocations of other nodes are applied under it, too.
        drop(one_at_a_time);
        one_at_a_time = gateway.changes.lock().await;
    }
    gateway.dispatcher.wake(key);
    // Also release it while the phone is being notified.
    drop(one_at_a_time);
    for _ in 0..CLOSINGS {
        // The channel is deleted, whatever comes of this.
        if !gateway.store.close_of_deleted(key, now).await.is_ok_and(|closed| closed > 0) {
            break;
        }
    }
    if let Some(forgotten) = forgotten {
        // The notification continues if the network is slow.
        drop(tokio::time::timeout(UNLINK_TIMEOUT, forgotten).await);
    }
    Ok(())
}
