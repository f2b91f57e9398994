//! Translates the library's events into this crate's events.

use recado_domain::transient::{TransientState, Typing};
use whatsapp_rust::Client;
use whatsapp_rust::types::message::MessageSource;
use whatsapp_rust::types::presence::{ChatPresence, ChatPresenceMedia, ReceiptType};
use whatsapp_rust::wacore::types::events::{self as library, ConnectFailureReason};
use whatsapp_rust::wacore_binary::{Jid, JidExt, Server};

use super::{envelopes, own_addresses};
use crate::{Event, Person};

pub async fn events(client: &Client, event: &library::Event) -> Vec<Event> {
    match event {
        library::Event::Messages(_) => wrote(client, event).await,
        library::Event::Receipt(receipt) => receipts(client, receipt).await.into_iter().collect(),
        library::Event::ChatPresence(update) => typing(client, update).await.into_iter().collect(),
        library::Event::Presence(update) => presence(client, update).await.into_iter().collect(),
        event => simple(event).into_iter().collect(),
    }
}

fn simple(event: &library::Event) -> Option<Event> {
    Some(match event {
        library::Event::PairingQrCode(qr) => Event::Qr { code: qr.code.clone(), valid_for: qr.timeout },
        // Otherwise the code to type is still in use, and the library continues.
        library::Event::PairingQrCodesExhausted(exhausted) if exhausted.disconnected => Event::QrExhausted,
        library::Event::PairingCode(pairing) => {
            Event::PairingCode { code: pairing.code.clone(), valid_for: pairing.timeout }
        }
        library::Event::PairSuccess(linked) => Event::Linked {
            phone: linked.id.user.to_string(),
            lid: Some(linked.lid.user.to_string()).filter(|lid| !lid.is_empty()),
        },
        library::Event::LoggedOut(out) => logged_out(out),
        library::Event::StreamReplaced(_) => Event::Replaced,
        library::Event::TemporaryBan(ban) => {
            Event::TemporarilyBanned { code: ban.code.code().unsigned_abs(), expires_in: ban.expire.to_std().ok() }
        }
        library::Event::ClientOutdated(_) => Event::Outdated,
        library::Event::ConnectFailure(failure) => refused(failure.reason),
        library::Event::StreamError(error) => trouble(format!("the network ended the stream: {}", code(&error.code))),
        library::Event::ServerAck(ack) if ack.class.as_deref() == Some("message") => match &ack.error {
            None => Event::Acked { id: ack.id.clone() },
            Some(code) => Event::Nacked { id: ack.id.clone(), code: code.clone() },
        },
        event => Event::PairingFailed { reason: pairing_failed(event)? },
    })
}

fn pairing_failed(event: &library::Event) -> Option<String> {
    Some(match event {
        library::Event::PairError(failed) => failed.error.clone(),
        library::Event::PairingCodeError(failed) => failed.error.clone(),
        library::Event::PairingCodeRefresh(_) => "the phone wants another code".into(),
        library::Event::QrScannedWithoutMultidevice(_) => "the phone's WhatsApp is too old for linked devices".into(),
        library::Event::PairPasskeyRequest(_) => "the account asks for a passkey, which is not supported".into(),
        library::Event::PairPasskeyError(failed) => failed.error.clone(),
        _ => return None,
    })
}

/// The reason comes from a stanza, or we logged out.
fn logged_out(out: &library::LoggedOut) -> Event {
    let code = u16::try_from(out.reason.code()).ok();
    match (&out.reason, code) {
        (ConnectFailureReason::AccountLocked | ConnectFailureReason::UnknownLogout, Some(code)) => {
            Event::Banned { code }
        }
        _ if is_certain(out) => Event::LoggedOut { code: code.filter(|_| out.raw.is_some()) },
        _ => Event::Expelled,
    }
}

/// Whether the device is unlinked: a login was refused, the network reports it, or we logged out. The library maps every
/// conflict that it does not know to this event.
fn is_certain(out: &library::LoggedOut) -> bool {
    let Some(report) = out.raw.as_ref().filter(|_| !out.on_connect) else { return true };
    let conflict = report.get_optional_child("conflict");
    conflict.is_some_and(|conflict| conflict.attrs().optional_string("type").as_deref() == Some("device_removed"))
}

/// A refusal without its own event. The library retries only after 500 and 503.
fn refused(reason: ConnectFailureReason) -> Event {
    match reason {
        // A ban without its code, or without its end.
        ConnectFailureReason::TempBanned => Event::TemporarilyBanned { code: 0, expires_in: None },
        reason => match u16::try_from(reason.code()) {
            Ok(code) if !matches!(code, 500 | 503) => Event::Refused { code },
            _ => trouble(format!("the network refused the connection: {}", reason.code())),
        },
    }
}

fn trouble(text: String) -> Event {
    Event::Trouble { text }
}

/// A code of the network: digits, or an empty string.
fn code(code: &str) -> &str {
    if !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit()) { code } else { "no code" }
}

/// What a person reports about messages to them. Receipts of our own other devices and of group members say nothing about
/// that.
async fn receipts(client: &Client, receipt: &library::Receipt) -> Option<Event> {
    let report = |ids, at, from| match receipt.r#type {
        ReceiptType::Delivered => Some(Event::Delivered { ids, at, from }),
        ReceiptType::Read | ReceiptType::Played => Some(Event::Read { ids, at, from }),
        _ => None,
    };
    let from = other_side(client, &receipt.source).await?;
    let ids = receipt.message_ids.iter().map(ToString::to_string).collect();
    report(ids, receipt.timestamp.timestamp(), from)
}

async fn wrote(client: &Client, event: &library::Event) -> Vec<Event> {
    let mut events = Vec::new();
    for message in event.messages() {
        if let Some(who) = other_side(client, &message.info.source).await {
            events.push(Event::Wrote { who });
        }
    }
    events
}

/// A person types in a chat. What our own other devices do says nothing of a person.
async fn typing(client: &Client, update: &library::ChatPresenceUpdate) -> Option<Event> {
    let MessageSource { chat, sender, is_group, .. } = &update.source;
    if envelopes::is_no_chat(chat) || is_own(client, sender) {
        return None;
    }
    let state = match (update.state, update.media) {
        (ChatPresence::Paused, _) => Typing::Paused,
        (ChatPresence::Composing, ChatPresenceMedia::Audio) => Typing::Recording,
        (ChatPresence::Composing, ChatPresenceMedia::Text) => Typing::Composing,
    };
    let group = is_group.then(|| chat.to_non_ad_string());
    let who = envelopes::names(client, [sender].into_iter()).await;
    Some(Event::Seen { who, group, state: TransientState::Typing(state) })
}

/// A person is online, or not any more. The session asks for nobody's presence.
async fn presence(client: &Client, update: &library::PresenceUpdate) -> Option<Event> {
    if envelopes::is_no_chat(&update.from) || update.from.is_group() || is_own(client, &update.from) {
        return None;
    }
    let last_seen_at = update.last_seen.map(|at| at.timestamp().saturating_mul(1_000));
    let state = if update.unavailable { TransientState::Offline { last_seen_at } } else { TransientState::Online };
    let who = envelopes::names(client, [&update.from].into_iter()).await;
    Some(Event::Seen { who, group: None, state })
}

pub fn is_own(client: &Client, address: &Jid) -> bool {
    own_addresses(client).iter().any(|own| is_same(own, address))
}

fn is_same(own: &Jid, address: &Jid) -> bool {
    own.user == address.user && own.server.is_lid_family() == address.server.is_lid_family()
}

/// The other person of a chat of two, if that person is the author. Groups, channels and statuses are no such chats.
async fn other_side(client: &Client, source: &MessageSource) -> Option<Person> {
    let is_person = |jid: &Jid| jid.server.is_pn_family() || jid.server.is_lid_family();
    if source.is_from_me || source.is_group || !is_person(&source.chat) || !is_person(&source.sender) {
        return None;
    }
    let own = own_addresses(client);
    let report = [Some(&source.sender), source.sender_alt.as_ref(), Some(&source.chat)];
    if report.into_iter().flatten().any(|jid| own.iter().any(|own| is_same(own, jid))) {
        return None;
    }
    let digits = |is: fn(Server) -> bool| {
        report.into_iter().flatten().find(|jid| is(jid.server)).map(|jid| jid.user.to_string())
    };
    let (mut number, lid) = (digits(Server::is_pn_family), digits(Server::is_lid_family));
    if number.is_none() {
        let entry = client.get_lid_pn_entry(&source.sender.to_non_ad()).await.ok().flatten();
        number = entry.map(|entry| entry.phone_number.to_string());
    }
    Some(Person { number, lid })
}
