//! Finds the message that an arrival repeats, answers or changes.

use recado_domain::address::LID;
use recado_domain::contact_book::Contact;
use recado_domain::event::ChatKind;
use recado_domain::ids::ContactId;
use recado_domain::incoming::{Arrival, Choice, Direction, Incoming, QUOTE_LIMIT, Quoted, SenderIds, truncate};
use recado_domain::message::{Message, Stored};
use recado_domain::phone::forms;

use super::Receiving;
use super::rows::{self, Found};
use crate::common::{PageScan, messages};
use crate::sql::IN_NETWORK;
use crate::sqlkit::both::values;

/// The names of the person of a direct chat that a stored message has.
pub(super) fn chat_person(message: &Incoming) -> SenderIds {
    let address = message.address.as_str();
    let by_address = match address.strip_suffix(LID) {
        Some(lid) => SenderIds::of_lid(lid),
        None if address.is_empty() || message.chat == ChatKind::Group => SenderIds::default(),
        None if address.bytes().all(|byte| byte.is_ascii_digit()) => SenderIds::of_phone(address),
        None => SenderIds::of_user_id(address),
    };
    match message.direction {
        Direction::Inbound => message.body.sender.clone().or(&by_address),
        Direction::Outbound => by_address,
    }
}

/// Whether two sets of names have an identity in common.
pub(super) fn share(one: &SenderIds, other: &SenderIds) -> bool {
    let keys = other.keys();
    one.keys().iter().any(|key| keys.contains(key))
}

/// Whether two sets of names cannot be compared, because they have no kind of identity in common.
fn complement(one: &SenderIds, other: &SenderIds) -> bool {
    let kinds: Vec<_> = other.keys().iter().map(|key| key.kind).collect();
    !one.is_nobody() && !kinds.is_empty() && one.keys().iter().all(|key| !kinds.contains(&key.kind))
}

/// Whether a message belongs to the chat of an arrival.
pub(super) fn in_chat_of(found: &Found, arrival: &Arrival, contact: Option<ContactId>) -> bool {
    let message = &found.message;
    match &arrival.group {
        Some(group) => message.chat == ChatKind::Group && message.address == group.address,
        None => {
            message.chat == ChatKind::Direct
                && ((contact.is_some() && found.peer == contact)
                    || share(&chat_person(message), &arrival.person)
                    || (message.address.is_empty() && arrival.person.is_nobody()))
        }
    }
}

/// Whether an arrival is a repetition of this message: the same id from the same sender in the same chat. A network can
/// name the sender by the number in one delivery and by the hidden id in the other. Then the names cannot be compared,
/// and an equal time of the network decides. (Devices draw ids at random, so two people do not draw the same id in one
/// second.)
pub(super) fn is_repetition(found: &Found, arrival: &Arrival, contact: Option<ContactId>) -> bool {
    let message = &found.message;
    if (message.direction == Direction::Outbound) != arrival.from_me {
        return false;
    }
    let known = if arrival.group.is_some() { message.body.sender.clone() } else { chat_person(message) };
    let one_message = message.sent_at == arrival.sent_at && complement(&known, &arrival.person);
    if arrival.group.is_none() {
        return in_chat_of(found, arrival, contact) || (message.chat == ChatKind::Direct && one_message);
    }
    let same_author = arrival.from_me
        || (contact.is_some() && message.contact == contact)
        || share(&known, &arrival.person)
        || (known.is_nobody() && arrival.person.is_nobody());
    in_chat_of(found, arrival, contact) && (same_author || one_message)
}

/// The message of a chat with this network id, if the network delivered it.
pub(super) async fn delivered<E: PageScan>(
    of: &Receiving<'_, E>,
    network_id: &str,
    (arrival, contact): (&Arrival, Option<ContactId>),
) -> Result<Option<Found>, E::Error> {
    let found = rows::found(of.db, of.channel, network_id).await?;
    Ok(found.into_iter().find(|found| in_chat_of(found, arrival, contact)))
}

/// The SQL that finds a message by the network's own id. Its condition is that of the partial index, which has no
/// messages that were read: [`sent`] searches these among the newest messages of the chat.
pub(crate) fn by_remote_id() -> String {
    format!(
        "SELECT {} FROM messages WHERE channel_key = ?1 AND remote_id = ?2 AND remote_id IS NOT NULL AND {IN_NETWORK} LIMIT 1",
        messages::columns()
    )
}

/// The message with this network id that a call of the API sent to this chat.
pub(super) async fn sent<E: PageScan>(
    of: &Receiving<'_, E>,
    network_id: &str,
    (arrival, contact): (&Arrival, Option<&Contact>),
) -> Result<Option<Message>, E::Error> {
    let numbers = [
        arrival.group.as_ref().map(|group| group.address.clone()),
        arrival.person.phone.clone(),
        contact.and_then(|contact| contact.account.clone()),
        contact.and_then(|contact| contact.phone.clone()),
    ];
    let numbers: Vec<String> = numbers.into_iter().flatten().collect();
    let found = of.db.row(&by_remote_id(), values![of.channel, network_id], messages::message).await?;
    // A person can name the id of any message, and must not see a message of another chat.
    let address = arrival.person.address();
    let is_theirs = |message: &Message| {
        let ends = [Some(&message.recipient), message.account.as_ref()];
        ends.into_iter()
            .flatten()
            .any(|end| *end == address || numbers.iter().any(|number| forms(number).any(|form| form == *end)))
    };
    if let Some(found) = found {
        return Ok(Some(found).filter(is_theirs));
    }
    let mut asked: Vec<String> = Vec::new();
    for number in numbers {
        if asked.contains(&number) {
            continue;
        }
        if let Some(found) = messages::of_network(of.db, of.channel, &number, network_id).await? {
            return Ok(Some(found));
        }
        asked.push(number);
    }
    Ok(None)
}

/// Completes a quote with the stored message that it names.
pub(super) async fn quote<E: PageScan>(
    of: &Receiving<'_, E>,
    given: &Quoted,
    arrival: &Arrival,
    contact: Option<&Contact>,
) -> Result<Quoted, E::Error> {
    let id = contact.map(|contact| contact.id);
    if let Some(Found { message, .. }) = delivered(of, &given.network_id, (arrival, id)).await? {
        let from = match message.direction {
            Direction::Inbound => message.body.sender.phone,
            Direction::Outbound => message.body.number,
        };
        return Ok(Quoted {
            message_id: Some(message.id),
            network_id: given.network_id.clone(),
            from,
            author: message.contact,
            kind: Some(message.body.content.name().to_owned()),
            content: Some(truncate(&message.body.text, QUOTE_LIMIT).0),
        });
    }
    let Some(message) = sent(of, &given.network_id, (arrival, contact)).await? else { return Ok(given.clone()) };
    let stored = serde_json::from_str::<Stored>(&message.payload).ok();
    let text = stored.as_ref().and_then(|stored| stored.content.plain_text()).unwrap_or_default();
    Ok(Quoted {
        message_id: Some(message.id),
        network_id: given.network_id.clone(),
        from: of.batch.number.clone().or_else(|| given.from.clone()),
        author: None,
        kind: Some(message.kind),
        content: Some(truncate(text, QUOTE_LIMIT).0),
    })
}

/// Completes a choice with the id of the message that offered it.
pub(super) async fn choice<E: PageScan>(
    of: &Receiving<'_, E>,
    given: &Choice,
    arrival: &Arrival,
    contact: Option<&Contact>,
) -> Result<Choice, E::Error> {
    let Some(network_id) = &given.network_id else { return Ok(given.clone()) };
    let message_id = if let Some(message) = sent(of, network_id, (arrival, contact)).await? {
        Some(message.id)
    } else {
        let id = contact.map(|contact| contact.id);
        delivered(of, network_id, (arrival, id)).await?.map(|found| found.message.id)
    };
    Ok(Choice { message_id, ..given.clone() })
}
