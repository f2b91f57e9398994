//! Changes of groups. Their events are recorded, and names of groups are kept. Nothing else of groups is stored.

use recado_domain::event::{ChatKind, EventSubject};
use recado_domain::incoming::{Arrival, Group, GroupChange, Ignored, Outcome, Received, SenderIds};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::changes::{NO_TARGET, is_known, note};
use super::identify::identify;
use super::threads::{self, group_chat};
use super::{Receiving, conversations};
use crate::common::PageScan;
use crate::views;

/// Records a change of a group once.
pub(super) async fn changed<E: PageScan>(
    of: &Receiving<'_, E>,
    arrival: &Arrival,
    (change, members): (GroupChange, &[SenderIds]),
) -> Result<Received, E::Error> {
    let Some(group) = arrival.group.as_ref().filter(|group| !group.address.is_empty()) else {
        return Ok(Received::ignored(Ignored::Stale));
    };
    if is_known(of, arrival, NO_TARGET, None).await? {
        return Ok(Received::of(Outcome::Repeated, None, None));
    }
    note(of, arrival, NO_TARGET, (None, None)).await?;
    if let Some(name) = group.name.as_deref().filter(|_| change == GroupChange::Subject) {
        conversations::name_group(of.db, of.channel, (&group.address, name)).await?;
    }
    if of.announces {
        record(of, (group, &arrival.person), (change, members)).await?;
    }
    Ok(Received::of(Outcome::Applied, None, None))
}

async fn record<E: PageScan>(
    of: &Receiving<'_, E>,
    (group, by): (&Group, &SenderIds),
    (change, members): (GroupChange, &[SenderIds]),
) -> Result<(), E::Error> {
    let conversation = threads::active(of.db, of.channel, &group_chat(&group.address)).await?;
    let by = if by.is_nobody() { Value::Null } else { person(of, by).await? };
    let mut participants = Vec::with_capacity(members.len());
    for member in members {
        participants.push(person(of, member).await?);
    }
    let known = conversation.as_ref().and_then(|conversation| conversation.chat_name.clone());
    let name = group.name.clone().or(known);
    let data = json!({
        "chat": {"kind": ChatKind::Group.name(), "address": group.address, "name": name},
        "action": change.name(), "participants": participants, "by": by,
    });
    let conversation = conversation.map(|conversation| *conversation.id.as_bytes());
    let subject = conversation.unwrap_or_else(|| subject_of(of.channel, &group.address));
    of.announce("group.updated", (subject, conversation), ChatKind::Group, data.to_string()).await
}

/// The subject of a group without a conversation: the same for all its changes, so that they are delivered one after another.
fn subject_of(channel: i64, address: &str) -> EventSubject {
    let hash = Sha256::new().chain_update(b"recado group\0").chain_update(channel.to_be_bytes()).chain_update(address);
    let mut subject = [0; 16];
    subject.copy_from_slice(&hash.finalize()[..16]);
    subject
}

/// A member as events show a person.
async fn person<E: PageScan>(of: &Receiving<'_, E>, ids: &SenderIds) -> Result<Value, E::Error> {
    let ids = ids.cleaned();
    let is_me = ids.phone.is_some() && ids.phone == of.batch.number;
    let contact = if is_me { None } else { identify(of, &ids, None).await?.map(|known| known.contact) };
    let account = contact.as_ref().and_then(|contact| contact.account.clone());
    let ids = SenderIds { phone: ids.phone.clone().or(account), ..ids };
    let view = views::sender(&ids, contact.map(|contact| contact.id.to_string()), is_me);
    Ok(serde_json::to_value(view).unwrap_or_default())
}
