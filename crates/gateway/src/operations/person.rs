//! The rights of a data subject: the stored data of one recipient, shown and erased. It works in pages, so that a person
//! with a hundred thousand messages neither fills the memory nor delays others.

use std::collections::BTreeSet;

use recado_domain::channel::ChannelKey;
use recado_domain::error::AppError;
use recado_domain::event::Owner;
use recado_domain::ids::InstitutionId;
use recado_domain::incoming::{Content, Incoming};
use recado_domain::message::{ContactRendition, Message};
use recado_domain::phone::{InvalidPhone, PhoneNumber};
use recado_domain::status::MessageStatus;
use recado_store::clock::rfc3339;
use recado_store::person::{Erased, Erasure, Person, PersonQuery, PersonRow, UnmatchedReceipt};
use recado_store::views;
use serde::Serialize;
use serde_json::{Value, json};

use crate::gateway::Gateway;

const BAD_NUMBER: &str = "O numero do destinatario deve estar no formato DDI+DDD+NUM.";
const SEVERAL_NUMBERS: &str =
    "O numero nao e o mesmo para todas as instituicoes: informe --institution, ou o numero com + e o codigo do pais.";

/// The number of a person. Without a named institution, all institutions must read it as the same number.
pub fn number(gateway: &Gateway, institution: Option<InstitutionId>, text: &str) -> Result<PhoneNumber, AppError> {
    let text = text.trim();
    let countries = match institution {
        Some(institution) => vec![gateway.directory.default_country(institution)],
        None => gateway.directory.default_countries(),
    };
    let servers = gateway.behaviour.default_country;
    let read: Vec<_> = countries.into_iter().map(|country| PhoneNumber::parse(text, country.or(servers))).collect();
    // With a `+`, a number is also found that was accepted by the rules of an earlier version.
    let kept = text.starts_with('+').then(|| PhoneNumber::of_stored(text).ok()).flatten();
    let numbers: BTreeSet<_> = read.iter().flatten().cloned().collect();
    match (numbers.first(), read.into_iter().find_map(Result::err)) {
        _ if numbers.len() > 1 => Err(AppError::field("recipient", SEVERAL_NUMBERS)),
        (Some(number), _) => Ok(number.clone()),
        (None, fault) => {
            kept.ok_or_else(|| AppError::field("recipient", fault.unwrap_or(InvalidPhone::Malformed).text(BAD_NUMBER)))
        }
    }
}

/// A page of the stored data.
pub async fn page(gateway: &Gateway, query: PersonQuery) -> Result<Value, AppError> {
    let page = gateway.store.person(query).await?;
    let rows: Vec<Value> = page.rows.into_iter().map(|row| view(gateway, row)).collect();
    Ok(json!({ "rows": rows, "next": page.next }))
}

/// A page of the messages in the sandbox inbox.
pub async fn on_sandbox(gateway: &Gateway, person: Person, after: i64) -> Result<Value, AppError> {
    let page = gateway.drivers.sandbox().person(person, after).await?;
    let rows = page.shown.into_iter().map(|(institution, shown)| {
        json!({
            "institutionId": institution, "channelId": shown.channel_id, "id": shown.id,
            "networkId": shown.network_id, "recipient": shown.recipient, "payload": as_json(&shown.payload),
            "card": card(shown.rendition.as_deref()).map(|card| card.text()), "receivedAt": rfc3339(shown.received_at), "arrivals": shown.arrivals,
        })
    });
    Ok(json!({ "rows": rows.collect::<Vec<_>>(), "next": page.next }))
}

/// Erases a batch of the stored data.
pub async fn erase(gateway: &Gateway, erasure: Erasure) -> Result<Value, AppError> {
    let erased = erase_batch(gateway, erasure).await?;
    let next = erased.next;
    Ok(json!({ "erased": erased, "next": next }))
}

/// The same, for another operation.
pub async fn erase_batch(gateway: &Gateway, erasure: Erasure) -> Result<Erased, AppError> {
    let channels: Vec<ChannelKey> = match &erasure {
        Erasure::Messages(places) => places.iter().map(|place| place.channel).collect(),
        _ => Vec::new(),
    };
    let mut erased = gateway.store.erase_person(erasure, gateway.clock.now()).await?;
    let files = std::mem::take(&mut erased.files);
    gateway.media.delete(files).await.map_err(|_| AppError::Unavailable)?;
    if erased.cancelled > 0 {
        // Their queues may have waited for the erased messages.
        channels.into_iter().for_each(|channel| gateway.dispatcher.wake(channel));
    }
    Ok(erased)
}

/// Erases a batch of the messages in the sandbox inbox.
pub async fn erase_on_sandbox(gateway: &Gateway, person: Person, after: i64) -> Result<Value, AppError> {
    let (shown, next) = gateway.drivers.sandbox().erase(person, after).await?;
    Ok(json!({ "erased": { "sandbox": shown }, "next": next }))
}

/// Removes erased data from the logs of the store's files. Returns whether that was possible.
pub async fn forget_erased(gateway: &Gateway) -> Result<Value, AppError> {
    let store = gateway.store.forget_erased().await?;
    // A broken sandbox must not make an erasure fail that did not concern it.
    let sandbox = gateway.drivers.sandbox().forget_erased().await.unwrap_or(false);
    Ok(json!({ "forgotten": store && sandbox }))
}

fn view(gateway: &Gateway, row: PersonRow) -> Value {
    match row {
        PersonRow::Name(number) => number.into(),
        PersonRow::Received(message) => received(gateway, &message),
        PersonRow::Contact(contact) => of_owner("CONTACT", contact.owner, &views::contact(&contact)),
        PersonRow::Conversation(conversation) => {
            let shown = views::conversation(&conversation, gateway.clock.now());
            of_owner("CONVERSATION", conversation.owner, &shown)
        }
        PersonRow::Place(place) => json!(place),
        PersonRow::Channel(key) => json!({ "channelKey": key }),
        PersonRow::Message { message, scenario, early } => show(gateway, &message, scenario.as_deref(), &early),
        PersonRow::Key { n, message, route, key, used_at } => {
            json!({ "n": n, "messageId": message, "route": route, "key": key, "usedAt": rfc3339(used_at) })
        }
        PersonRow::Account { channel, phone, account, lid, checked_at } => {
            let known = json!({ "phone": phone, "account": account, "lid": lid, "checkedAt": rfc3339(checked_at) });
            with_channel(gateway, channel, "ACCOUNT", known)
        }
        PersonRow::Chat { channel, account, opened_at } => {
            with_channel(gateway, channel, "CHAT", json!({ "account": account, "openedAt": opened_at.map(rfc3339) }))
        }
        PersonRow::Pace { channel, recipient, used_until } => {
            let pace = json!({ "recipient": recipient, "usedUntil": rfc3339(used_until) });
            with_channel(gateway, channel, "RECIPIENT_PACE", pace)
        }
    }
}

/// A received message, with its cards.
fn received(gateway: &Gateway, message: &Incoming) -> Value {
    let entry = gateway.directory.channel(message.channel);
    let mut shown = json!({
        "institutionId": entry.as_ref().map(|entry| entry.via.institution),
        "environment": entry.as_ref().map(|entry| entry.environment.name()),
    });
    add(&mut shown, serde_json::to_value(views::message(message)).unwrap_or_default());
    if let Content::Contact { vcards, .. } = &message.body.content {
        shown["vcards"] = json!(vcards);
    }
    shown
}

/// A row with its kind and its owner.
fn of_owner(kind: &str, (institution, environment): Owner, row: &impl Serialize) -> Value {
    let mut shown = json!({ "type": kind, "institutionId": institution, "environment": environment.name() });
    add(&mut shown, serde_json::to_value(row).unwrap_or_default());
    shown
}

/// Adds the fields of an object to another one.
fn add(shown: &mut Value, row: Value) {
    if let (Value::Object(shown), Value::Object(row)) = (shown, row) {
        shown.extend(row);
    }
}

/// A row with its kind and its channel.
fn with_channel(gateway: &Gateway, channel: ChannelKey, kind: &str, row: Value) -> Value {
    let entry = gateway.directory.channel(channel);
    let mut shown = json!({
        "type": kind,
        "institutionId": entry.as_ref().map(|entry| entry.via.institution),
        "environment": entry.as_ref().map(|entry| entry.environment.name()),
        "channelId": entry.as_ref().map(|entry| &entry.via.id),
    });
    add(&mut shown, row);
    shown
}

fn show(gateway: &Gateway, message: &Message, scenario: Option<&str>, early: &[UnmatchedReceipt]) -> Value {
    let error = |error: &Option<(String, String)>| {
        error.as_ref().map(|(code, message)| json!({ "code": code, "message": message }))
    };
    let early: Vec<Value> = early
        .iter()
        .map(|receipt| {
            let status = MessageStatus::from_number(receipt.status).map(MessageStatus::name);
            json!({ "status": status, "at": rfc3339(receipt.at), "error": error(&receipt.error) })
        })
        .collect();
    let card = card(message.rendition.as_deref());
    let mut shown = json!({
        "id": message.id, "status": message.status, "recipient": message.recipient, "account": message.account,
        "payload": as_json(&message.payload), "card": card.as_ref().map(ContactRendition::text),
        "cardAccount": card.as_ref().and_then(ContactRendition::first_account).map(|account| {
            json!({ "digits": account.digits, "source": if account.known { "NETWORK" } else { "TYPED" } })
        }),
        "networkId": message.network_id, "remoteId": message.remote_id, "scenario": scenario,
        "attempts": message.attempts, "error": error(&message.error), "expiresAt": rfc3339(message.expires_at),
        "receiptsOfItsRemoteId": early,
    });
    for (status, at) in MessageStatus::ALL.into_iter().zip(message.reached) {
        shown[format!("{}At", status.name().to_lowercase())] = at.map(rfc3339).into();
    }
    with_channel(gateway, message.channel, "MESSAGE", shown)
}

/// The rendition of a contact.
fn card(rendition: Option<&str>) -> Option<ContactRendition> {
    rendition.and_then(ContactRendition::from_json)
}

/// Stored JSON, or a string if it is not JSON.
fn as_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
