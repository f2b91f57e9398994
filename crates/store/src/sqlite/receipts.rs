//! The network's word on messages.

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::ids::NetworkId;
use recado_domain::message::Seq;
use recado_domain::party::Recipient;
use recado_domain::queue::{Named, Receipt};
use recado_domain::status::MessageStatus;
use rusqlite::{OptionalExtension, Row, params};

use super::queue::{Details, move_message, status};
use super::{Writing, channels, chats};

/// Receipts of a channel that wait for a message to be named. More than that come of another program's sending, on a
/// number that it shares with us.
const EARLY: i64 = 1_000;

/// What is read of a message that a receipt names.
const COLUMNS: &str = "seq, status, attempts, remote_id, resent, sending_at";

/// What a receipt has found.
struct Found {
    seq: Seq,
    status: MessageStatus,
    attempts: u32,
    remote_id: Option<String>,
    /// It was sent again by the channel's policy.
    resent: bool,
    sending_at: Option<Millis>,
}

impl Found {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            status: status(row.get(1)?)?,
            attempts: row.get(2)?,
            remote_id: row.get(3)?,
            resent: row.get(4)?,
            sending_at: row.get(5)?,
        })
    }
}

/// Applies receipts in their order. Only the channel's own messages are looked for: another's id in a receipt means
/// nothing.
pub(super) fn apply(writing: &mut Writing, receipts: &[Receipt], now: Millis) -> rusqlite::Result<()> {
    for receipt in receipts {
        match &receipt.of {
            Named::NetworkId(id) => by_network_id(writing, id, receipt, now)?,
            Named::RemoteId { remote_id, ours: None } => by_remote_id(writing, remote_id, receipt, now)?,
            Named::RemoteId { remote_id, ours: Some(id) } => {
                let sql = format!("select {COLUMNS} from messages where id = ?1 and channel_key = ?2");
                let mut statement = writing.connection.prepare_cached(&sql)?;
                let found = statement.query_row(params![id.as_bytes(), receipt.channel], Found::read).optional()?;
                drop(statement);
                if let Some(found) = found {
                    by_our_id(writing, &found, remote_id, receipt)?;
                }
            }
        }
    }
    Ok(())
}

fn by_network_id(writing: &mut Writing, id: &str, receipt: &Receipt, now: Millis) -> rusqlite::Result<()> {
    let find = |from: &str| {
        let sql = format!("select {COLUMNS} from messages {from} and channel_key = ?2");
        let mut statement = writing.connection.prepare_cached(&sql)?;
        statement.query_row(params![id, receipt.channel], Found::read).optional()
    };
    let mut found = find("indexed by messages_in_network where network_id = ?1 and status between 1 and 4")?;
    if found.is_none() && matches!(receipt.status, MessageStatus::Delivered | MessageStatus::Read) {
        // An attempt without an answer arrived all the same.
        found = find("indexed by messages_unanswered where network_id = ?1 and status = 0 and unanswered = 1")?;
    }
    let Some(found) = found else { return Ok(()) };
    if let Some(from) = &receipt.from
        && !from.is_recipient(&recipient(writing, found.seq)?)
    {
        return Ok(());
    }
    let moved = advance(writing, &found, receipt)?;
    if moved && writing.opens_chats(receipt.channel) && receipt.status != MessageStatus::Failed {
        chats::open(writing, (receipt.channel, found.seq), receipt.account.as_deref(), now)?;
    }
    Ok(())
}

/// Whom a message was sent to.
fn recipient(writing: &Writing, seq: Seq) -> rusqlite::Result<Recipient> {
    let mut statement = writing.connection.prepare_cached(
        "select m.recipient, m.account, a.account, a.lid from messages m
         left join accounts a on a.channel_key = m.channel_key and a.phone = m.recipient
         where m.seq = ?1",
    )?;
    statement.query_row([seq], |row| {
        let numbers: [Option<String>; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        Ok(Recipient { numbers: numbers.into_iter().flatten().collect(), lid: row.get(3)? })
    })
}

fn by_our_id(writing: &mut Writing, found: &Found, remote_id: &NetworkId, receipt: &Receipt) -> rusqlite::Result<()> {
    let another = found.remote_id.as_deref().is_some_and(|known| known != remote_id.as_str());
    // That another sending of it failed says nothing of the one that was acknowledged.
    if !(another && receipt.status == MessageStatus::Failed) {
        advance(writing, found, receipt)?;
    }
    if found.remote_id.is_none() {
        name(writing, (receipt.channel, found.seq), remote_id)?;
    }
    Ok(())
}

fn by_remote_id(writing: &mut Writing, remote_id: &str, receipt: &Receipt, now: Millis) -> rusqlite::Result<()> {
    let sql = format!(
        "select {COLUMNS} from messages indexed by messages_by_remote_id
         where channel_key = ?1 and remote_id = ?2 and status between 1 and 4"
    );
    let mut statement = writing.connection.prepare_cached(&sql)?;
    let found = statement.query_row(params![receipt.channel, remote_id], Found::read).optional()?;
    drop(statement);
    match found {
        Some(found) => advance(writing, &found, receipt).map(drop),
        None => keep(writing, remote_id, receipt, now),
    }
}

/// Moves a message on; whether it did.
fn advance(writing: &mut Writing, found: &Found, receipt: &Receipt) -> rusqlite::Result<bool> {
    // The network may have one that was sent again twice. That one sending failed says nothing of the other, and a card
    // that is there must not be told as failed: it stays where it is until more is known.
    if found.resent && receipt.status == MessageStatus::Failed {
        return Ok(false);
    }
    let place = (receipt.channel, found.seq);
    let at = receipt.at.max(found.sending_at.unwrap_or(receipt.at));
    let mut from = found.status;
    if from == MessageStatus::Queued && found.attempts > 0 && MessageStatus::Sending.may_become(receipt.status) {
        // It waits for its next attempt, and the network has it already. There is no step from QUEUED, so it is taken
        // by way of SENDING.
        move_message(writing, place, (from, MessageStatus::Sending), &Details::default(), at)?;
        from = MessageStatus::Sending;
    }
    let error = receipt.error.as_ref().map(|(code, message)| (&**code, &**message));
    let details = Details { account: receipt.account.as_deref(), error, ..Details::default() };
    let moved = move_message(writing, place, (from, receipt.status), &details, at)?;
    if let Some(reason) = receipt.pauses.as_ref().filter(|_| moved) {
        channels::pause(writing, receipt.channel, reason, found.seq)?;
    }
    Ok(moved)
}

/// Notes the network's own id of a message, and applies the receipts that came under it before.
pub(super) fn name(writing: &mut Writing, place: (ChannelKey, Seq), remote_id: &NetworkId) -> rusqlite::Result<()> {
    let (channel, seq) = place;
    writing
        .connection
        .prepare_cached("update messages set remote_id = ?2 where seq = ?1")?
        .execute(params![seq, remote_id.as_str()])?;
    let mut statement = writing.connection.prepare_cached(
        "delete from early_receipts where channel_key = ?1 and remote_id = ?2
         returning status, at, error_code, error_message, n, pauses",
    )?;
    let early = statement.query_map(params![channel, remote_id.as_str()], |row| {
        let code: Option<String> = row.get(2)?;
        let (number, of) = (row.get(0)?, Named::RemoteId { remote_id: remote_id.clone(), ours: None });
        let error = code.zip(row.get(3)?);
        let receipt = Receipt {
            channel,
            of,
            status: status(number)?,
            at: row.get(1)?,
            from: None,
            account: None,
            error,
            pauses: row.get(5)?,
        };
        Ok((row.get::<_, i64>(4)?, receipt))
    })?;
    let mut early = early.collect::<rusqlite::Result<Vec<_>>>()?;
    drop(statement);
    early.sort_unstable_by_key(|(n, _)| *n);
    for (_, receipt) in early {
        let sql = format!("select {COLUMNS} from messages where seq = ?1");
        let found = writing.connection.prepare_cached(&sql)?.query_row([seq], Found::read).optional()?;
        if let Some(found) = found {
            advance(writing, &found, &receipt)?;
        }
    }
    Ok(())
}

/// Keeps a receipt until the answer comes that says whose it is.
fn keep(writing: &Writing, remote_id: &str, receipt: &Receipt, now: Millis) -> rusqlite::Result<()> {
    let (code, message) = receipt.error.as_ref().map(|(code, message)| (code, message)).unzip();
    let mut statement = writing.connection.prepare_cached(
        "insert into early_receipts (channel_key, remote_id, status, at, error_code, error_message, received_at, pauses)
         select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9
         where (select count(*) from early_receipts where channel_key = ?1) < ?8
           and exists (select 1 from channels where key = ?1)
           -- A repeated one is one.
           and not exists (select 1 from early_receipts where channel_key = ?1 and remote_id = ?2 and status = ?3)",
    )?;
    statement.execute(params![
        receipt.channel,
        remote_id,
        receipt.status.number(),
        receipt.at,
        code,
        message,
        now,
        EARLY,
        receipt.pauses
    ])?;
    Ok(())
}
