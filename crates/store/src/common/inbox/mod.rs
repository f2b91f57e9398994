//! Receiving: messages of networks, their changes, their conversations and contacts.
//!
//! The inbox of an owner (an institution and environment) has the received messages, conversations and contacts of all its
//! channels. Only one transaction at a time changes it ([`lock`]): two channels can report the same new person at the same
//! time, and the lock prevents a second contact, and deadlocks.

mod announce;
mod book;
mod call;
mod changed;
mod changes;
pub(crate) mod clear;
pub(crate) mod closing;
pub(crate) mod contacts;
pub(crate) mod contents;
pub(crate) mod conversations;
mod deliver;
mod group;
mod identify;
pub(crate) mod latest;
pub(crate) mod media;
mod merge;
mod moves;
pub(crate) mod outgoing;
pub(crate) mod person;
pub(crate) mod reactions;
mod readdress;
pub(crate) mod refused;
mod rows;
pub(crate) mod sealed;
pub(crate) mod signals;
mod targets;
mod threads;
pub(crate) mod unfinished;

use recado_domain::api_key::Environment;
use recado_domain::channel::{AutoRead, ChannelKey, ChannelSettings, ChannelType, CommonSettings, Held};
use recado_domain::clock::{Millis, random};
use recado_domain::event::Owner;
use recado_domain::ids::{ContactId, ConversationId, InstitutionId};
use recado_domain::incoming::{ARRIVALS_AT_ONCE, Arrival, Arrivals, Group, Ignored, Outcome, Received, What, clean};
use sha2::{Digest, Sha256};

use super::{PageScan, Transaction};
use crate::clock::SystemEntropy;
use crate::commits::Change;
use crate::sqlkit::both::{Executor, Read, Row, Unreadable, values};

#[cfg(test)]
pub(crate) use book::by_user_id;
pub(crate) use book::one as contact;
#[cfg(test)]
pub(crate) use rows::author_statements;
pub(crate) use rows::{message, of_network, page, raw};
#[cfg(test)]
pub(crate) use targets::by_remote_id;

/// What all arrivals of one call share.
struct Receiving<'a, E> {
    db: &'a E,
    batch: &'a Arrivals,
    owner: Owner,
    channel: ChannelKey,
    settings: CommonSettings,
    now: Millis,
    /// Whether the owner has a reader of events. Without a reader no event is recorded.
    announces: bool,
}

/// The most characters of the name and of the address of a group.
const GROUP_LIMIT: usize = 200;

/// Locks the inbox of the owner for this transaction.
pub(crate) async fn lock<E: Executor>(db: &E, owner: Owner) -> Result<(), E::Error> {
    let hash = Sha256::new()
        .chain_update(b"recado inbox\0")
        .chain_update(owner.0.as_bytes())
        .chain_update(owner.1.name())
        .finalize();
    let mut number = [0; 8];
    number.copy_from_slice(&hash[..8]);
    db.row(E::LOCK_NUMBER, values![i64::from_be_bytes(number)], |_| Ok(())).await.map(drop)
}

/// Whether the owner has a reader of events.
async fn has_readers<E: Executor>(db: &E, owner: Owner) -> Result<bool, E::Error> {
    let sql = "SELECT 1 AS found FROM event_consumers WHERE institution_id = ?1 AND environment = ?2";
    let (institution, environment) = (&owner.0.as_bytes()[..], owner.1.name());
    Ok(db.row(sql, values![institution, environment], |_| Ok(())).await?.is_some())
}

/// The owner of a channel; `None` if it is deleted.
pub(crate) async fn owner_of<E: Executor>(db: &E, channel: ChannelKey) -> Result<Option<Owner>, E::Error> {
    let sql = "SELECT institution_id, environment FROM channels WHERE key = ?1 AND deleted_at IS NULL";
    let owner = |row: &Row<'_>| {
        let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
        Ok((institution, row.named("environment", Environment::from_name)?))
    };
    db.row(sql, values![channel], owner).await
}

/// The settings of every type, read from the columns `type` and `settings` of a channel. Settings that only a newer version
/// can read count as the defaults.
fn common_settings(row: &Row<'_>) -> Read<CommonSettings> {
    let (kind, stored): (String, String) = (row.get("type")?, row.get("settings")?);
    let settings = ChannelType::from_name(&kind).and_then(|kind| ChannelSettings::read(kind, &stored).ok());
    Ok(settings.map(|settings| settings.common().clone()).unwrap_or_default())
}

/// The owner of a channel, and the settings that decide what an arrival changes; `None` if it is deleted.
async fn receiving_channel<E: Executor>(
    db: &E,
    channel: ChannelKey,
) -> Result<Option<(Owner, CommonSettings)>, E::Error> {
    let sql = "SELECT institution_id, environment, type, settings FROM channels WHERE key = ?1 AND deleted_at IS NULL";
    let read = |row: &Row<'_>| {
        let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
        let owner = (institution, row.named("environment", Environment::from_name)?);
        Ok((owner, common_settings(row)?))
    };
    db.row(sql, values![channel], read).await
}

/// Stores what a network delivered to a channel, and reports the messages that have files.
pub(crate) async fn receive_and_report<T: Transaction>(
    tx: &mut T,
    batch: &Arrivals,
    now: Millis,
) -> Result<Vec<Received>, T::Error>
where
    T::Db: PageScan,
{
    let (received, may_be_read) = receive(tx.db(), batch, now).await?;
    media::report(tx, batch, &received);
    if may_be_read {
        tx.notify(Change::Read);
    }
    Ok(received)
}

/// Stores what a network delivered to a linked channel. `None`: the session that received it does not hold the channel any
/// more, and nothing was stored.
pub(crate) async fn receive_held<T: Transaction>(
    tx: &mut T,
    held: Held,
    batch: &Arrivals,
    now: Millis,
) -> Result<Option<Vec<Received>>, T::Error>
where
    T::Db: PageScan,
{
    // The deletion of a channel locks the channel before the inbox. The same order here prevents a deadlock.
    if held.channel != batch.channel || !tx.holds_shared(held).await? {
        return Ok(None);
    }
    receive_and_report(tx, batch, now).await.map(Some)
}

/// Stores what a network delivered to a channel. Also returns whether messages may have been marked as read.
async fn receive<E: PageScan>(db: &E, batch: &Arrivals, now: Millis) -> Result<(Vec<Received>, bool), E::Error> {
    if batch.arrivals.len() > ARRIVALS_AT_ONCE {
        return Err(Unreadable::Unknown("batch of arrivals that is longer than the limit").into());
    }
    let Some((owner, settings)) = receiving_channel(db, batch.channel).await? else {
        return Ok((vec![Received::ignored(Ignored::ChannelGone); batch.arrivals.len()], false));
    };
    lock(db, owner).await?;
    let announces = has_readers(db, owner).await?;
    let receiving = Receiving { db, batch, owner, channel: batch.channel, settings, now, announces };
    let mut received = Vec::with_capacity(batch.arrivals.len());
    for arrival in &batch.arrivals {
        // A network time in the future would keep a window open too long, or hide a later change.
        let (sent_at, person) = (arrival.sent_at.min(now), arrival.person.cleaned());
        let group = arrival.group.as_ref().map(|group| Group {
            address: clean(&group.address, GROUP_LIMIT).unwrap_or_default(),
            name: group.name.as_deref().and_then(|name| clean(name, GROUP_LIMIT)),
        });
        let dated = Arrival { sent_at, person, group, ..arrival.clone() };
        received.push(match &dated.what {
            What::Message(new) => {
                let received = deliver::receive(&receiving, &dated, new).await?;
                if received.outcome == Outcome::Stored {
                    changes::apply_held(&receiving, &dated.network_id).await?;
                }
                received
            }
            _ => changes::receive(&receiving, &dated).await?,
        });
    }
    let is_new = |received: &Received| matches!(received.outcome, Outcome::Stored | Outcome::Recovered);
    let may_be_read = receiving.settings.auto_read != AutoRead::Off && received.iter().any(is_new);
    Ok((received, may_be_read))
}

fn new_contact_id(now: Millis) -> ContactId {
    ContactId::new(now, random(&SystemEntropy))
}

fn new_conversation_id(now: Millis) -> ConversationId {
    ConversationId::new(now, random(&SystemEntropy))
}

/// The id in a column; `None` if the column is null.
fn optional_id(row: &Row<'_>, column: &'static str) -> Read<Option<[u8; 16]>> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    bytes.map(|bytes| bytes.try_into().map_err(|_| Unreadable::Unknown(column))).transpose()
}

/// Reads a value that is stored as JSON.
fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &'static str) -> Read<T> {
    serde_json::from_str(&row.get::<String>(column)?).map_err(|_| Unreadable::Unknown(column))
}

/// The JSON of a value that can always be serialized.
fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The `LIMIT` of a statement that reads a page. The row beyond the page shows whether another page follows.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1
}
