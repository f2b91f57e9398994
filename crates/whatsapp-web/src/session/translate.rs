//! The library's events in our words.

use whatsapp_rust::Client;
use whatsapp_rust::types::message::MessageInfo;
use whatsapp_rust::types::presence::ReceiptType;
use whatsapp_rust::wacore::types::events::{self as library, ConnectFailureReason};
use whatsapp_rust::wacore_binary::Jid;

use crate::Event;

pub async fn events(client: &Client, event: &library::Event) -> Vec<Event> {
    match event {
        library::Event::Messages(_) => wrote(client, event).await,
        event => simple(event).into_iter().collect(),
    }
}

fn simple(event: &library::Event) -> Option<Event> {
    Some(match event {
        library::Event::PairingQrCode(qr) => Event::Qr { code: qr.code.clone(), valid_for: qr.timeout },
        // Otherwise a code that is typed on the phone is under way, and the library goes on.
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
        library::Event::Receipt(receipt) => {
            let (ids, at) =
                (receipt.message_ids.iter().map(ToString::to_string).collect(), receipt.timestamp.timestamp());
            match receipt.r#type {
                ReceiptType::Delivered => Event::Delivered { ids, at },
                ReceiptType::Read | ReceiptType::Played => Event::Read { ids, at },
                _ => return None,
            }
        }
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

/// A stanza said so, or nothing did and it was our own wish.
fn logged_out(out: &library::LoggedOut) -> Event {
    let code = u16::try_from(out.reason.code()).ok();
    match (&out.reason, code) {
        (ConnectFailureReason::AccountLocked | ConnectFailureReason::UnknownLogout, Some(code)) => {
            Event::Banned { code }
        }
        _ => Event::LoggedOut { code: code.filter(|_| out.raw.is_some()) },
    }
}

/// A refusal with no event of its own. The library tries again after 500 and 503 alone.
fn refused(reason: ConnectFailureReason) -> Event {
    match reason {
        // Without the code of the ban, or its end.
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

/// A code of the network: digits, or nothing.
fn code(code: &str) -> &str {
    if !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit()) { code } else { "no code" }
}

async fn wrote(client: &Client, event: &library::Event) -> Vec<Event> {
    let mut events = Vec::new();
    for message in event.messages() {
        if let Some(account) = writer(client, &message.info).await {
            events.push(Event::Wrote { account });
        }
    }
    events
}

/// Who wrote to us: a person in a chat of two. A group, a channel and a status are not addressed to us.
async fn writer(client: &Client, info: &MessageInfo) -> Option<String> {
    let source = &info.source;
    let is_person = |jid: &&Jid| jid.is_pn() || jid.is_lid();
    if source.is_from_me || source.is_group || !is_person(&&source.chat) {
        return None;
    }
    let known = [Some(&source.sender), source.sender_alt.as_ref(), Some(&source.chat)];
    if let Some(phone) = known.into_iter().flatten().find(|jid| jid.is_pn()) {
        return Some(phone.user.to_string());
    }
    let entry = client.get_lid_pn_entry(&source.sender).await.ok().flatten()?;
    Some(entry.phone_number.to_string())
}
