//! Receipts.

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::NetworkId;
use recado_domain::message::Seq;
use recado_domain::party::Recipient;
use recado_domain::queue::{Found, MAX_UNMATCHED_RECEIPTS, MessageRef, Position, Receipt};
use rusqlite::{OptionalExtension, Params, Row, params};

use super::apply::apply;
use super::queue::status;
use super::{SqliteStore, Writing, channels, chats};
use crate::common::messages::{pricing_json, pricing_of};
use crate::sql::{IN_NETWORK, QUEUED};
use crate::{Receipts, Result};

#[async_trait]
impl Receipts for SqliteStore {
    async fn apply_receipts(&self, receipts: Vec<Receipt>, now: Millis) -> Result<()> {
        self.write(move |writing| apply_receipts(writing, &receipts, now)).await
    }
}

/// The columns of a message that a receipt needs.
const COLUMNS: &str = "seq, status, attempts, remote_id, resent, sending_at, channel_key";

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let attempted = row.get::<_, u32>(2)? > 0;
    let position = Position { seq: row.get(0)?, channel: row.get(6)?, status: status(row.get(1)?)?, attempted };
    Ok(Found { position, remote_id: row.get(3)?, resent: row.get(4)?, sending_at: row.get(5)? })
}

/// Applies receipts in their order. Only messages of the receipt's channel count.
fn apply_receipts(writing: &mut Writing, receipts: &[Receipt], now: Millis) -> rusqlite::Result<()> {
    for receipt in receipts {
        match (find(writing, receipt)?, &receipt.of) {
            (Some(found), _) => {
                let moved = advance(writing, &found, receipt)?;
                let seq = found.position.seq;
                if moved && writing.opens_chats(receipt.channel) && receipt.opens_chat() {
                    chats::open(writing, (receipt.channel, seq), receipt.account.as_deref(), now)?;
                }
                if let Some(remote_id) = found.named_by(receipt) {
                    name(writing, (receipt.channel, seq), remote_id)?;
                }
            }
            (None, MessageRef::RemoteId { remote_id, ours: None }) => keep(writing, remote_id, receipt, now)?,
            (None, _) => {}
        }
    }
    Ok(())
}

/// The message that a receipt names, where it is the receipt's.
fn find(writing: &Writing, receipt: &Receipt) -> rusqlite::Result<Option<Found>> {
    let channel = receipt.channel;
    match &receipt.of {
        MessageRef::NetworkId(id) => {
            let by_id = params![channel, id.as_str()];
            let sent =
                format!("INDEXED BY messages_in_network WHERE channel_key = ?1 AND network_id = ?2 AND {IN_NETWORK}");
            let mut message = one(writing, &sent, by_id)?;
            if message.is_none() && receipt.proves_arrival() {
                // An attempt without an answer arrived all the same.
                let waits = format!(
                    "INDEXED BY messages_unanswered
                     WHERE channel_key = ?1 AND network_id = ?2 AND {QUEUED} AND unanswered = 1"
                );
                message = one(writing, &waits, by_id)?;
            }
            let (Some(message), Some(from)) = (&message, &receipt.from) else { return Ok(message) };
            let theirs = from.is_recipient(&recipient(writing, message.position.seq)?);
            Ok(theirs.then(|| message.clone()))
        }
        MessageRef::RemoteId { remote_id, ours: None } => {
            let sent =
                format!("INDEXED BY messages_by_remote_id WHERE channel_key = ?1 AND remote_id = ?2 AND {IN_NETWORK}");
            one(writing, &sent, params![channel, remote_id.as_str()])
        }
        MessageRef::RemoteId { ours: Some(id), .. } => {
            one(writing, "WHERE channel_key = ?1 AND id = ?2", params![channel, id.as_bytes()])
        }
    }
}

fn one(writing: &Writing, which: &str, values: impl Params) -> rusqlite::Result<Option<Found>> {
    let sql = format!("SELECT {COLUMNS} FROM messages {which}");
    writing.connection.prepare_cached(&sql)?.query_row(values, found).optional()
}

/// Whom a message was sent to.
fn recipient(writing: &Writing, seq: Seq) -> rusqlite::Result<Recipient> {
    let mut statement = writing.connection.prepare_cached(
        "SELECT m.recipient, m.account, a.account, a.lid FROM messages m
         LEFT JOIN accounts a ON a.channel_key = m.channel_key AND a.phone = m.recipient
         WHERE m.seq = ?1",
    )?;
    statement.query_row([seq], |row| {
        let numbers: [Option<String>; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        Ok(Recipient::new(numbers.into_iter().flatten().collect(), row.get(3)?))
    })
}

/// Moves a message. Returns whether it moved.
fn advance(writing: &mut Writing, found: &Found, receipt: &Receipt) -> rusqlite::Result<bool> {
    let moved = match found.on_receipt(receipt) {
        Some(transition) => apply(writing, &transition)?,
        None => false,
    };
    if let Some(reason) = receipt.pauses.as_ref().filter(|_| moved) {
        channels::pause(writing, receipt.channel, reason, found.position.seq, receipt.at)?;
    }
    Ok(moved)
}

/// Stores the network's own id of a message, and applies the unmatched receipts with this id.
fn name(writing: &mut Writing, place: (ChannelKey, Seq), remote_id: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE messages SET remote_id = ?2 WHERE seq = ?1";
    writing.connection.prepare_cached(sql)?.execute(params![place.1, remote_id])?;
    apply_unmatched(writing, place, remote_id)
}

/// Applies the receipts that came before a message had its name.
pub(super) fn apply_unmatched(
    writing: &mut Writing,
    (channel, seq): (ChannelKey, Seq),
    remote_id: &str,
) -> rusqlite::Result<()> {
    let mut statement = writing.connection.prepare_cached(
        "DELETE FROM early_receipts WHERE channel_key = ?1 AND remote_id = ?2
         RETURNING status, at, error_code, error_message, n, pauses, pricing",
    )?;
    let unmatched = statement.query_map(params![channel, remote_id], |row| {
        let code: Option<String> = row.get(2)?;
        let receipt = Receipt {
            channel,
            of: MessageRef::RemoteId { remote_id: NetworkId::from_stored(remote_id.to_owned()), ours: None },
            status: status(row.get(0)?)?,
            at: row.get(1)?,
            from: None,
            account: None,
            error: code.zip(row.get(3)?),
            pauses: row.get(5)?,
            pricing: pricing_of(row.get(6)?),
        };
        Ok((row.get::<_, i64>(4)?, receipt))
    })?;
    let mut unmatched = unmatched.collect::<rusqlite::Result<Vec<_>>>()?;
    drop(statement);
    unmatched.sort_unstable_by_key(|(n, _)| *n);
    for (_, receipt) in unmatched {
        if let Some(found) = one(writing, "WHERE seq = ?1", [seq])? {
            advance(writing, &found, &receipt)?;
        }
    }
    Ok(())
}

/// Stores an unmatched receipt until the answer with the network id arrives.
fn keep(writing: &Writing, remote_id: &str, receipt: &Receipt, now: Millis) -> rusqlite::Result<()> {
    let (code, message) = receipt.error.as_ref().map(|(code, message)| (code, message)).unzip();
    let mut statement = writing.connection.prepare_cached(include_str!("receipts/keep.sql"))?;
    statement.execute(params![
        receipt.channel,
        remote_id,
        receipt.status.number(),
        receipt.at,
        code,
        message,
        now,
        MAX_UNMATCHED_RECEIPTS,
        receipt.pauses,
        pricing_json(receipt)
    ])?;
    Ok(())
}
