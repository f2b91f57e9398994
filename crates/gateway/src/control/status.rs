//! The state of everything at a glance, for `recado status`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use recado_domain::channel::{Channel, ChannelKey, ChannelState};
use recado_domain::clock::Millis;
use recado_domain::message::Backlog;
use recado_domain::webhook::WebhookBacklog;
use recado_store::Health;
use recado_store::nodes::Member;
use serde_json::{Value, json};

use crate::WHATSAPP_WEB;
use crate::api::error::ApiError;
use crate::gateway::Gateway;

/// Channels with waiting messages that are listed, those with the oldest first.
const QUEUES: usize = 20;

pub(super) async fn show(gateway: &Gateway) -> Result<Value, ApiError> {
    let store = &gateway.store;
    let now = gateway.clock.now();
    let channels: Vec<_> = store.channels().await?.into_iter().filter(|one| one.deleted_at.is_none()).collect();
    let backlogs = store.backlogs().await?;
    let webhooks = store.webhook_backlogs().await?;
    let members = gateway.nodes.members().await?;
    let engine = if gateway.nodes.are_shared() { "postgresql" } else { "sqlite" };
    let up = *store.health().borrow() == Health::Up;
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "whatsappWeb": WHATSAPP_WEB,
        "engine": engine,
        "ready": up && !gateway.draining.is_cancelled(),
        "secretKeyOk": gateway.opens_secrets.load(Ordering::Relaxed),
        "channels": states(&channels),
        "sessions": sessions(gateway, &channels),
        "waiting": waiting(backlogs.iter().map(|one| (one.waiting, Some(one.oldest))), now),
        "queues": queues(gateway, &channels, backlogs, now),
        "webhooks": of_webhooks(&webhooks, now),
        "nodes": members.iter().map(member).collect::<Vec<_>>(),
    }))
}

/// How many channels are in each state.
fn states(channels: &[Channel]) -> Value {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for channel in channels {
        *states.entry(channel.state.name()).or_default() += 1;
    }
    json!(states)
}

/// The linked phones, and how many sessions this process has open.
fn sessions(gateway: &Gateway, channels: &[Channel]) -> Value {
    let linked = channels.iter().filter(|one| one.kind.descriptor().holds_session && one.link.is_some());
    let linked: Vec<_> = linked.collect();
    let open = |one: &&&Channel| {
        let is_up = |driver: std::sync::Arc<dyn recado_providers::ChannelDriver>| driver.why_down(one.key).is_none();
        gateway.drivers.of(one.kind).is_some_and(is_up)
    };
    json!({ "linked": linked.len(), "openHere": linked.iter().filter(open).count() })
}

/// How many wait, and the age of the oldest.
fn waiting(backlogs: impl Iterator<Item = (u64, Option<Millis>)> + Clone, now: Millis) -> Value {
    let oldest = backlogs.clone().filter_map(|(_, oldest)| oldest).min();
    let all: u64 = backlogs.map(|(waiting, _)| waiting).sum();
    json!({ "count": all, "oldestAgeSeconds": oldest.map(|oldest| age(oldest, now)) })
}

fn age(oldest: Millis, now: Millis) -> Millis {
    (now - oldest).max(0) / 1_000
}

/// The channels with the oldest waiting messages.
fn queues(gateway: &Gateway, channels: &[Channel], mut backlogs: Vec<Backlog>, now: Millis) -> Vec<Value> {
    let channels: HashMap<ChannelKey, &Channel> = channels.iter().map(|channel| (channel.key, channel)).collect();
    backlogs.sort_by_key(|backlog| backlog.oldest);
    let shown = backlogs.into_iter().filter_map(|backlog| {
        let channel = channels.get(&backlog.channel)?;
        let unserved = channel.state == ChannelState::Connected && gateway.nodes.leaves_unserved(channel.kind);
        Some(json!({
            "institutionId": channel.institution, "channel": channel.id, "type": channel.kind.name(),
            "state": channel.state.name(), "waiting": backlog.waiting,
            "oldestAgeSeconds": age(backlog.oldest, now), "served": !unserved,
        }))
    });
    shown.take(QUEUES).collect()
}

fn of_webhooks(webhooks: &[WebhookBacklog], now: Millis) -> Value {
    let mut shown = waiting(webhooks.iter().map(|one| (one.waiting, one.oldest)), now);
    shown["disabled"] = json!(webhooks.iter().filter(|one| one.disabled).count());
    shown
}

fn member(member: &Member) -> Value {
    json!({
        "id": member.id, "name": member.name, "address": member.address, "sendsFor": member.types,
        "channels": member.channels, "leaseLeftSeconds": member.lease_left / 1_000,
    })
}
