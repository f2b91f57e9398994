//! Who sent a message, by everything that the session knows of the accounts. Nothing is asked of the network.

use recado_domain::clock::Millis;
use recado_domain::incoming::{SenderIds, clean};
use whatsapp_rust::Client;
use whatsapp_rust::types::message::{EditAttribute, MessageCategory, MessageInfo};
use whatsapp_rust::wacore_binary::{Jid, JidExt, Server};
use whatsapp_rust::waproto::whatsapp as wa;

use super::own_addresses;
use crate::incoming::{Envelope, named};

/// The most characters of a name.
const NAME_LIMIT: usize = 200;

/// The envelope of a message; `None` for traffic that is no chat of people: statuses, newsletters, bots, the account's own
/// devices among each other.
pub async fn of(client: &Client, info: &MessageInfo, message: Option<&wa::Message>) -> Option<Envelope> {
    let source = &info.source;
    let chat = &source.chat;
    if info.category == MessageCategory::Peer || is_no_chat(chat) || source.sender.is_bot() {
        return None;
    }
    // A broadcast list reaches each recipient in the chat with its sender. Its owner has no single chat for it.
    if chat.server == Server::Broadcast && source.is_from_me {
        return None;
    }
    let group = chat.is_group().then(|| chat.to_non_ad_string());
    let is_direct_echo = source.is_from_me && group.is_none();
    let mut person = if is_direct_echo {
        let accounts = [Some(chat), source.recipient_alt.as_ref(), info.peer_recipient_pn.as_ref()];
        names(client, accounts.into_iter().flatten()).await
    } else {
        names(client, [Some(&source.sender), source.sender_alt.as_ref()].into_iter().flatten()).await
    };
    if !source.is_from_me {
        let verified = info.verified_name.as_ref().and_then(|verified| verified.name.as_deref());
        person.name = clean(&info.push_name, NAME_LIMIT).or_else(|| clean(verified?, NAME_LIMIT));
    }
    let mut envelope = Envelope {
        id: info.id.clone(),
        group,
        person,
        own: own(client),
        from_me: source.is_from_me,
        sent_at: millis(info.timestamp.timestamp()),
        expires_in_seconds: info.ephemeral_expiration,
        by_admin: info.edit == EditAttribute::AdminRevoke,
        ..Envelope::default()
    };
    for account in message.map(named).unwrap_or_default() {
        if account.server.is_lid_family() && envelope.number_of(&account).is_none() {
            let known = names(client, [&account].into_iter()).await;
            envelope.numbers.extend(known.lid.zip(known.phone));
        }
    }
    Some(envelope)
}

/// Whether an address is no chat of people.
pub fn is_no_chat(chat: &Jid) -> bool {
    chat.is_status_broadcast()
        || chat.is_newsletter()
        || chat.is_bot()
        || matches!(chat.server, Server::Call)
        // WhatsApp's own announcements.
        || (chat.server.is_pn_family() && &*chat.user == "0")
}

fn millis(seconds: i64) -> Millis {
    seconds.saturating_mul(1_000)
}

/// The names of the linked account.
pub fn own(client: &Client) -> SenderIds {
    own_addresses(client).iter().fold(SenderIds::default(), with)
}

/// The names of one account. What its addresses do not say, the session may know.
pub async fn names(client: &Client, addresses: impl Iterator<Item = &Jid>) -> SenderIds {
    let mut ids = addresses.fold(SenderIds::default(), with);
    let one_sided = match (&ids.phone, &ids.lid) {
        (Some(phone), None) => Some(Jid::pn(phone)),
        (None, Some(lid)) => Some(Jid::lid(lid)),
        _ => None,
    };
    if let Some(address) = one_sided
        && let Ok(Some(entry)) = client.get_lid_pn_entry(&address).await
    {
        ids.phone.get_or_insert_with(|| entry.phone_number.to_string());
        ids.lid.get_or_insert_with(|| entry.lid.to_string());
    }
    ids
}

fn with(mut ids: SenderIds, address: &Jid) -> SenderIds {
    let server = address.server;
    if server.is_pn_family() || server == Server::Legacy {
        ids.phone.get_or_insert_with(|| address.user.to_string());
    } else if server.is_lid_family() {
        ids.lid.get_or_insert_with(|| address.user.to_string());
    } else if matches!(server, Server::Interop | Server::Messenger) {
        // People of other networks have neither.
        ids.user_id.get_or_insert_with(|| address.to_non_ad_string());
    }
    ids
}
