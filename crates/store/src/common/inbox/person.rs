//! Reads, in pages, and erases, in batches, what networks delivered of one person.

use std::collections::BTreeSet;

use recado_domain::address::LID;
use recado_domain::channel::ChannelKey;
use recado_domain::conversation::Conversation;
use recado_domain::event::Owner;
use recado_domain::ids::ContactId;
use recado_domain::incoming::{IdentityKey, IdentityKind, Incoming};
use recado_domain::message::Seq;
use recado_domain::phone::forms;

use super::clear::Gone;
use super::latest::with_address;
use super::rows::{INCOMING, incoming};
use super::threads::{ALL, conversation, select};
use super::{book, clear, lock, moves, refused, to_json};
use crate::common::events;
use crate::person::{Erased, Person, PersonPage, PersonRow};
use crate::sqlkit::both::{Executor, List, Row, values};

/// Messages on a page, and those that are erased at once.
const AT_ONCE: i64 = 200;

/// Messages, or events, whose texts are searched at once.
const TRACED: i64 = 2_000;

/// The identity of a name of a person: digits, `900@lid`, or a user id.
fn key(name: &str) -> IdentityKey {
    match name.strip_suffix(LID) {
        Some(lid) => IdentityKey::lid(lid),
        None if name.bytes().all(|byte| byte.is_ascii_digit()) => IdentityKey::phone(name),
        None => IdentityKey::user_id(name),
    }
}

/// The name of an identity.
fn name(key: &IdentityKey) -> String {
    match key.kind {
        IdentityKind::Lid => format!("{}{LID}", key.value),
        IdentityKind::Phone | IdentityKind::UserId => key.value.clone(),
    }
}

/// The contacts of a person, also those that were merged into them while not all of their rows have moved.
async fn contacts<E: Executor>(db: &E, person: &Person) -> Result<Vec<ContactId>, E::Error> {
    let keys: Vec<_> = person.numbers.iter().map(|name| key(name)).collect();
    let sql = format!(
        "SELECT i.kind, i.value, i.contact_id FROM identities i
         WHERE {} AND (?2 IS NULL OR i.institution_id = ?2) AND (?3 IS NULL OR i.environment = ?3)",
        E::any("i.value", 1)
    );
    let (institution, environment) = person.owner();
    let named = List(keys.iter().map(|key| key.value.clone()).collect::<Vec<_>>());
    let read = |row: &Row<'_>| {
        let key = IdentityKey { kind: row.named("kind", IdentityKind::from_name)?, value: row.get("value")? };
        Ok((key, ContactId::from_bytes(row.bytes("contact_id")?)))
    };
    let found = db.rows(&sql, values![named, institution, environment], read).await?;
    let own: BTreeSet<_> = found.into_iter().filter(|(key, _)| keys.contains(key)).map(|(_, id)| id).collect();
    let mut all: Vec<_> = own.iter().copied().collect();
    for id in own {
        all.extend(moves::merged_into(db, id).await?);
    }
    Ok(all)
}

/// Every name of the person that the contacts know.
pub(crate) async fn names<E: Executor>(db: &E, person: &Person) -> Result<Vec<String>, E::Error> {
    let mut names = Vec::new();
    for id in contacts(db, person).await? {
        let sql = "SELECT kind, value FROM identities WHERE contact_id = ?1";
        let read = |row: &Row<'_>| {
            Ok(name(&IdentityKey { kind: row.named("kind", IdentityKind::from_name)?, value: row.get("value")? }))
        };
        names.extend(db.rows(sql, values![&id.as_bytes()[..]], read).await?);
        let sql = "SELECT phone, account FROM contacts WHERE id = ?1";
        let read = |row: &Row<'_>| Ok([row.get::<Option<String>>("phone")?, row.get("account")?]);
        names.extend(db.row(sql, values![&id.as_bytes()[..]], read).await?.into_iter().flatten().flatten());
    }
    Ok(names)
}

/// The direct conversations with a person.
async fn conversations<E: Executor>(
    db: &E,
    person: &Person,
    contacts: &[ContactId],
) -> Result<Vec<Conversation>, E::Error> {
    let of_owner = "(?2 IS NULL OR v.institution_id = ?2) AND (?3 IS NULL OR v.environment = ?3)";
    let (institution, environment) = person.owner();
    let mut found: Vec<Conversation> = Vec::new();
    for id in contacts {
        let sql = format!("{} WHERE v.contact_id = ?1 AND {of_owner} ORDER BY v.active_at, v.id", select(ALL));
        found.extend(db.rows(&sql, values![&id.as_bytes()[..], institution, environment], conversation).await?);
    }
    // Conversations that began before the person had a contact.
    for address in &person.numbers {
        let sql = format!("{} {} AND v.contact_id IS NULL ORDER BY v.active_at", select(ALL), with_address::<E>());
        found.extend(db.rows(&sql, values![*address, institution, environment], conversation).await?);
    }
    Ok(found)
}

/// A page of the messages from and to a person, after this message.
pub(crate) async fn received<E: Executor>(db: &E, person: &Person, after: Seq) -> Result<PersonPage, E::Error> {
    let messages = messages(db, person, after).await?;
    let next = messages.last().map(|last| last.seq);
    let rows = messages.into_iter().map(|message| PersonRow::Received(Box::new(message))).collect();
    Ok(PersonPage { rows, next })
}

/// The next messages from and to a person, after this message.
async fn messages<E: Executor>(db: &E, person: &Person, after: Seq) -> Result<Vec<Incoming>, E::Error> {
    let contacts = contacts(db, person).await?;
    let mut found: Vec<Incoming> = Vec::new();
    let behind = "m.seq > ?2 ORDER BY m.seq LIMIT ?3";
    for conversation in conversations(db, person, &contacts).await? {
        let sql = format!("{INCOMING} WHERE m.conversation_id = ?1 AND {behind}");
        found.extend(db.rows(&sql, values![&conversation.id.as_bytes()[..], after, AT_ONCE], incoming).await?);
    }
    for contact in contacts {
        let sql = format!("{INCOMING} WHERE m.contact_id = ?1 AND {behind}");
        found.extend(db.rows(&sql, values![&contact.as_bytes()[..], after, AT_ONCE], incoming).await?);
    }
    found.sort_by_key(|message| message.seq);
    found.dedup_by_key(|message| message.seq);
    found.truncate(usize::try_from(AT_ONCE).unwrap_or(usize::MAX));
    Ok(found)
}

/// The contacts of a person, and the conversations with them.
pub(crate) async fn book<E: Executor>(db: &E, person: &Person) -> Result<PersonPage, E::Error> {
    let ids = contacts(db, person).await?;
    let mut rows = Vec::new();
    for id in &ids {
        let sql = format!("{} WHERE k.id = ?1", book::CONTACT);
        if let Some(mut contact) = db.row(&sql, values![&id.as_bytes()[..]], book::contact).await? {
            contact.identities = book::identities(db, *id).await?;
            rows.push(PersonRow::Contact(Box::new(contact)));
        }
    }
    let conversations = conversations(db, person, &ids).await?;
    rows.extend(conversations.into_iter().map(|conversation| PersonRow::Conversation(Box::new(conversation))));
    Ok(PersonPage { rows, next: None })
}

/// Erases a batch of the messages from and to a person. The last batch also erases the conversations and the contacts,
/// and its result has no `next`.
pub(crate) async fn erase<E: Executor>(db: &E, person: &Person, keeps_contacts: bool) -> Result<Erased, E::Error> {
    // Before the locks, which a try to store one of these takes after it.
    let refused = refused::erase(db, person).await?;
    lock_owners(db, person).await?;
    let found = messages(db, person, Seq::MIN).await?;
    let gone = |message: &Incoming| Gone { seq: message.seq, id: message.id, conversation: message.conversation };
    let batch: Vec<_> = found.iter().map(gone).collect();
    if !batch.is_empty() {
        let mut erased = Erased { next: Some(0), ..Erased::default() };
        erased.received = refused + clear::erase(db, &batch, &mut erased.files).await?;
        return Ok(erased);
    }
    let contacts = contacts(db, person).await?;
    let mut erased = Erased { received: refused, ..Erased::default() };
    for conversation in conversations(db, person, &contacts).await? {
        events::forget_subjects(db, &[*conversation.id.as_bytes()]).await?;
        moves::forget(db, conversation.id.as_bytes()).await?;
        let sql = "DELETE FROM conversations WHERE id = ?1";
        erased.conversations += db.run(sql, values![&conversation.id.as_bytes()[..]]).await?;
    }
    for id in contacts.into_iter().filter(|_| !keeps_contacts) {
        events::forget_subjects(db, &[*id.as_bytes()]).await?;
        db.run("DELETE FROM incoming_changes WHERE contact_id = ?1", values![&id.as_bytes()[..]]).await?;
        // A contact belongs to one owner.
        db.run("DELETE FROM poll_votes WHERE voter = ?1", values![id.to_string()]).await?;
        moves::forget(db, id.as_bytes()).await?;
        let sql = "SELECT 1 AS found FROM contacts WHERE id = ?1";
        let is_there = db.row(sql, values![&id.as_bytes()[..]], |_| Ok(())).await?.is_some();
        book::delete(db, id).await?;
        erased.people += u64::from(is_there);
    }
    for name in &person.numbers {
        for (table, has) in [("poll_votes", "voter = ?1"), ("incoming_changes", "held IS NOT NULL AND held LIKE ?1")] {
            let (institution, environment) = person.owner();
            let of_owner = match &institution {
                Some(_) => {
                    "IN (SELECT key FROM channels WHERE institution_id = ?2 AND (?3 IS NULL OR environment = ?3))"
                }
                None => "IS NOT NULL AND ?2 IS NULL AND ?3 IS NULL",
            };
            let sql = format!("DELETE FROM {table} WHERE {has} AND channel_key {of_owner}");
            let name = if table == "poll_votes" { name.clone() } else { quoted(name) };
            db.run(&sql, values![name, institution, environment]).await?;
        }
        forget_former(db, person, name).await?;
    }
    Ok(erased)
}

/// Removes a number from conversations of others, who had it before.
async fn forget_former<E: Executor>(db: &E, person: &Person, name: &str) -> Result<(), E::Error> {
    let sql = "UPDATE conversations
               SET former_addresses = nullif(trim(replace(' ' || former_addresses || ' ', ?1, ' ')), '')
               WHERE former_addresses IS NOT NULL AND ' ' || former_addresses || ' ' LIKE '%' || ?1 || '%'
                 AND (?2 IS NULL OR institution_id = ?2) AND (?3 IS NULL OR environment = ?3)";
    let (institution, environment) = person.owner();
    // There are spaces between the addresses.
    let name = format!(" {name} ");
    db.run(sql, values![name, institution, environment]).await.map(drop)
}

/// A conversation of a person, and the addresses that the person had before.
pub(crate) struct Former {
    pub channel: ChannelKey,
    pub conversation: Vec<u8>,
    pub addresses: Vec<String>,
}

/// The conversations of a person whose address has changed.
pub(crate) async fn former<E: Executor>(db: &E, person: &Person) -> Result<Vec<Former>, E::Error> {
    let mut found = Vec::new();
    for id in contacts(db, person).await? {
        let sql = "SELECT channel_key, id, former_addresses FROM conversations
                   WHERE contact_id = ?1 AND former_addresses IS NOT NULL";
        let read = |row: &Row<'_>| {
            let (channel, conversation) = (row.get("channel_key")?, row.get("id")?);
            let addresses: String = row.get("former_addresses")?;
            Ok(Former { channel, conversation, addresses: addresses.split(' ').flat_map(forms).collect() })
        };
        found.extend(db.rows(sql, values![&id.as_bytes()[..]], read).await?);
    }
    Ok(found)
}

/// Locks the inboxes of all owners that have contacts or conversations of the person, so that nothing is received
/// meanwhile.
async fn lock_owners<E: Executor>(db: &E, person: &Person) -> Result<(), E::Error> {
    let contacts = contacts(db, person).await?;
    let mut owners: Vec<Owner> = Vec::new();
    owners.extend(conversations(db, person, &contacts).await?.iter().map(|conversation| conversation.owner));
    for id in contacts {
        let sql = format!("{} WHERE k.id = ?1", book::CONTACT);
        let contact = db.row(&sql, values![&id.as_bytes()[..]], book::contact).await?;
        owners.extend(contact.map(|contact| contact.owner));
    }
    // The order is fixed, so that two erasures do not deadlock.
    owners.sort_by_key(|(institution, environment)| (*institution.as_bytes(), environment.name()));
    owners.dedup();
    for owner in owners {
        lock(db, owner).await?;
    }
    Ok(())
}

/// A `LIKE` pattern that finds a name as a value in JSON. Names contain no wildcards of `LIKE`.
fn quoted(name: &str) -> String {
    format!("%\"{}\"%", name.strip_suffix(LID).unwrap_or(name).replace(['%', '_'], ""))
}

/// Erases quotes of, mentions of and reactions by a person from a range of other people's messages, after this message.
pub(crate) async fn erase_traces<E: Executor>(
    db: &E,
    person: &Person,
    channel: Option<ChannelKey>,
    after: Seq,
) -> Result<Erased, E::Error> {
    if let (Some(_), Some(institution), Some(environment)) = (channel, person.institution, person.environment) {
        lock(db, (institution, environment)).await?;
    }
    let last = |row: &Row<'_>| row.get::<Option<Seq>>("last");
    let last = if let Some(channel) = channel {
        let sql = "SELECT max(seq) AS last
                   FROM (SELECT seq FROM incoming WHERE channel_key = ?3 AND seq > ?1 ORDER BY seq LIMIT ?2) AS scanned";
        db.row(sql, values![after, TRACED, channel], last).await?
    } else {
        let sql =
            "SELECT max(seq) AS last FROM (SELECT seq FROM incoming WHERE seq > ?1 ORDER BY seq LIMIT ?2) AS scanned";
        db.row(sql, values![after, TRACED], last).await?
    };
    let last = last.flatten();
    let of_one = if channel.is_some() { "m.channel_key = ?6" } else { "?6 IS NULL" };
    let Some(last) = last else { return Ok(Erased::default()) };
    let mut erased = Erased { next: Some(last), ..Erased::default() };
    // A quote of a person without a number names the contact by its id.
    let contacts = contacts(db, person).await?;
    for name in person.numbers.iter().cloned().chain(contacts.iter().map(ToString::to_string)) {
        let sql = format!(
            "{INCOMING} WHERE m.seq > ?1 AND m.seq <= ?2 AND {of_one} AND (m.body LIKE ?3 OR m.reactions LIKE ?3)
               AND (?4 IS NULL OR c.institution_id = ?4) AND (?5 IS NULL OR c.environment = ?5) ORDER BY m.seq{}",
            // The row may have been changed since it was read. That change must not be lost.
            E::lock_for("update of m")
        );
        let (institution, environment) = person.owner();
        let pattern = quoted(&name);
        let asked = values![after, last, pattern, institution, environment, channel];
        for message in db.rows(&sql, asked, incoming).await? {
            // Their contact was removed, so no identity leads to what they wrote in a group.
            if is_by(&message, &person.numbers) {
                let gone = Gone { seq: message.seq, id: message.id, conversation: message.conversation };
                erased.received += clear::erase(db, &[gone], &mut erased.files).await?;
                continue;
            }
            erased.traces += forget(db, message, (&person.numbers, &contacts)).await?;
        }
    }
    Ok(erased)
}

/// Whether a person with one of these names wrote the message.
fn is_by(message: &Incoming, names: &[String]) -> bool {
    let sender = &message.body.sender;
    let lid = sender.lid.as_ref().map(|lid| format!("{lid}{LID}"));
    [&sender.phone, &lid, &sender.user_id].into_iter().flatten().any(|name| names.contains(name))
}

async fn forget<E: Executor>(
    db: &E,
    mut message: Incoming,
    (names, contacts): (&[String], &[ContactId]),
) -> Result<u64, E::Error> {
    let theirs = |digits: &String| names.contains(digits);
    let is_one = |contact: &ContactId| contacts.contains(contact);
    message.reactions.retain(|reaction| {
        !reaction.from.as_ref().is_some_and(theirs) && !reaction.contact.as_ref().is_some_and(is_one)
    });
    message.body.mentions.retain(|digits| !theirs(digits));
    let quoted = message
        .body
        .reply_to
        .as_mut()
        .filter(|quoted| quoted.from.as_ref().is_some_and(theirs) || quoted.author.as_ref().is_some_and(is_one));
    if let Some(quoted) = quoted {
        (quoted.from, quoted.author, quoted.content) = (None, None, None);
        // The events of the message contain the quote, too.
        events::forget_subjects(db, &[*message.id.as_bytes()]).await?;
    }
    let reactions = (!message.reactions.is_empty()).then(|| to_json(&message.reactions));
    let sql = "UPDATE incoming SET body = ?2, reactions = ?3 WHERE seq = ?1";
    db.run(sql, values![message.seq, to_json(&message.body), reactions]).await
}

/// Erases events that name a person in a range after this event: events of other people's messages to which the person
/// reacted, and of merged contacts.
pub(crate) async fn erase_event_traces<E: Executor>(db: &E, person: &Person, after: i64) -> Result<Erased, E::Error> {
    let (institution, environment) = person.owner();
    let is_of_one = institution.is_some() && environment.is_some();
    let index = if is_of_one { E::index("events_of_owner") } else { String::new() };
    let last = |row: &Row<'_>| row.get::<Option<i64>>("last");
    let last = if is_of_one {
        let sql = format!(
            "SELECT max(seq) AS last
             FROM (SELECT seq FROM events{index}
                   WHERE complete AND institution_id = ?3 AND environment = ?4 AND seq > ?1 ORDER BY seq LIMIT ?2) AS scanned"
        );
        db.row(&sql, values![after, TRACED, institution, environment], last).await?
    } else {
        let sql =
            "SELECT max(seq) AS last FROM (SELECT seq FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2) AS scanned";
        db.row(sql, values![after, TRACED], last).await?
    };
    let Some(last) = last.flatten() else { return Ok(Erased::default()) };
    let of_one = if is_of_one { "institution_id = ?4 AND environment = ?5 AND" } else { "" };
    let sql = format!(
        "SELECT seq FROM events{index} WHERE {of_one} seq > ?1 AND seq <= ?2 AND complete AND data LIKE ?3
           AND (?4 IS NULL OR institution_id = ?4) AND (?5 IS NULL OR environment = ?5)"
    );
    let mut erased = Erased { next: Some(last), ..Erased::default() };
    for name in &person.numbers {
        let pattern = quoted(name);
        let asked = values![after, last, pattern, institution, environment];
        let named = db.rows(&sql, asked, |row| row.get("seq")).await?;
        erased.events += events::forget_numbers(db, named).await?;
    }
    Ok(erased)
}
