//! What a transaction leaves to be done later, because it would change too many rows while the inbox of its owner is locked. Each
//! [`step`] is short, so that arrivals go on between steps. After a crash the steps go on.

use recado_domain::api_key::Environment;
use recado_domain::clock::Millis;
use recado_domain::conversation::Conversation;
use recado_domain::event::Owner;
use recado_domain::ids::{ConversationId, InstitutionId};
use recado_domain::message::Seq;

use super::{lock, moves};
use crate::sqlkit::both::{Executor, Read, Row, values};

/// The most rows of each kind that the transaction of a call or of an arrival changes.
pub(super) const AT_ONCE: i64 = if cfg!(test) { 20 } else { 1_000 };
/// The most rows of each kind that a step changes.
pub(super) const OF_STEP: i64 = if cfg!(test) { 7 } else { 500 };
/// The most unread messages that are counted.
const COUNTED: i64 = 100_000;

/// Up to which number the received messages of a conversation will be marked, and are shown as read.
pub(super) async fn read_until<E: Executor>(db: &E, id: ConversationId) -> Result<Seq, E::Error> {
    let sql = "SELECT until_seq FROM unfinished_reads WHERE conversation_id = ?1";
    let found = db.row(sql, values![&id.as_bytes()[..]], |row| row.get::<Seq>("until_seq")).await?;
    Ok(found.unwrap_or(Seq::MIN))
}

/// Marks the unread messages of a conversation behind the first number, up to the second one: the newest now, and the others
/// later. Returns how many were marked now. The caller stores the count of the conversation, which is changed.
pub(super) async fn mark<E: Executor>(
    db: &E,
    conversation: &mut Conversation,
    (after, until): (Seq, Option<Seq>),
    now: Millis,
) -> Result<u64, E::Error> {
    let id = conversation.id;
    let marked = mark_some(db, id, (after, until.unwrap_or(Seq::MAX)), (now, AT_ONCE)).await?;
    let are_all = marked < AT_ONCE.unsigned_abs();
    conversation.unread = match until {
        None => 0,
        Some(_) if are_all => conversation.unread.saturating_sub(u32::try_from(marked).unwrap_or(u32::MAX)),
        Some(until) => conversation.unread.min(unread_behind(db, id, until).await?),
    };
    // Messages that a merge has not moved into this conversation yet are read as well.
    let mut left = moves::into(db, id).await?;
    left.extend((!are_all).then_some(id));
    if left.is_empty() {
        return Ok(marked);
    }
    let until = match until {
        Some(until) => until,
        None => last(db).await?,
    };
    for id in left {
        leave_reads(db, id, until, now).await?;
    }
    Ok(marked)
}

async fn mark_some<E: Executor>(
    db: &E,
    id: ConversationId,
    (after, until): (Seq, Seq),
    (now, limit): (Millis, i64),
) -> Result<u64, E::Error> {
    db.run(include_str!("unfinished/mark.sql"), values![&id.as_bytes()[..], after, until, now, limit]).await
}

/// How many messages of a conversation behind a number are unread.
async fn unread_behind<E: Executor>(db: &E, id: ConversationId, seq: Seq) -> Result<u32, E::Error> {
    let sql = "SELECT count(*) AS found FROM (SELECT 1 FROM incoming
                   WHERE conversation_id = ?1 AND seq > ?2 AND read_at IS NULL AND direction = 'INBOUND' LIMIT ?3) AS counted";
    let found = db.row(sql, values![&id.as_bytes()[..], seq, COUNTED], |row| row.number("found")).await?;
    Ok(found.unwrap_or_default())
}

/// The number of the newest message. Those that arrive later in this inbox, which is locked, have higher ones.
async fn last<E: Executor>(db: &E) -> Result<Seq, E::Error> {
    let sql = "SELECT seq FROM incoming ORDER BY seq DESC LIMIT 1";
    Ok(db.row(sql, values![], |row| row.get("seq")).await?.unwrap_or_default())
}

async fn leave_reads<E: Executor>(db: &E, id: ConversationId, until: Seq, now: Millis) -> Result<(), E::Error> {
    let sql = format!(
        "INSERT INTO unfinished_reads (conversation_id, until_seq, read_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (conversation_id) DO UPDATE SET until_seq = {}(unfinished_reads.until_seq, excluded.until_seq)",
        E::GREATEST
    );
    db.run(&sql, values![&id.as_bytes()[..], until, now]).await.map(drop)
}

/// Does a step of what was left. Returns whether there may be more.
pub(crate) async fn step<E: Executor>(db: &E) -> Result<bool, E::Error> {
    let sql = "SELECT conversation_id FROM unfinished_reads ORDER BY conversation_id LIMIT 1";
    let read = |row: &Row<'_>| Ok(ConversationId::from_bytes(row.bytes("conversation_id")?));
    match db.row(sql, values![], read).await? {
        Some(id) => finish_reads(db, id).await.map(|()| true),
        // A message is marked before it moves.
        None => moves::step(db).await,
    }
}

async fn finish_reads<E: Executor>(db: &E, id: ConversationId) -> Result<(), E::Error> {
    let id_bytes = &id.as_bytes()[..];
    let sql = "SELECT institution_id, environment FROM conversations WHERE id = ?1";
    if let Some(owner) = db.row(sql, values![id_bytes], owner).await? {
        lock(db, owner).await?;
        let sql = "SELECT until_seq, read_at FROM unfinished_reads WHERE conversation_id = ?1";
        let left = |row: &Row<'_>| Ok((row.get::<Seq>("until_seq")?, row.get::<Millis>("read_at")?));
        // Another node may have ended this.
        let Some((until, at)) = db.row(sql, values![id_bytes], left).await? else { return Ok(()) };
        if mark_some(db, id, (Seq::MIN, until), (at, OF_STEP)).await? == OF_STEP.unsigned_abs() {
            return Ok(());
        }
    }
    db.run("DELETE FROM unfinished_reads WHERE conversation_id = ?1", values![id_bytes]).await.map(drop)
}

/// The owner of a row.
pub(super) fn owner(row: &Row<'_>) -> Read<Owner> {
    let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
    Ok((institution, row.named("environment", Environment::from_name)?))
}
