//! Moves the rows of a contact or a conversation that was merged into another: some in the transaction of the merge, the others
//! in steps. Until then they have the former id, and whoever looks for all of a person looks for both ids.

use recado_domain::conversation::Conversation;
use recado_domain::event::Owner;
use recado_domain::ids::{ContactId, ConversationId};
use recado_domain::message::Seq;

use super::threads::chat_of;
use super::unfinished::{AT_ONCE, OF_STEP, owner, read_until};
use super::{conversations, lock};
use crate::sql::PAST;
use crate::sqlkit::both::{Executor, List, Read, Row, values};

/// What is merged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Contact,
    Conversation,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Contact => "CONTACT",
            Self::Conversation => "CONVERSATION",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Contact, Self::Conversation].into_iter().find(|kind| kind.name() == name)
    }
}

/// A merge that has rows left.
struct Left {
    kind: Kind,
    from: [u8; 16],
    to: [u8; 16],
    /// The messages with lower numbers that calls sent were not looked at yet.
    sent: Seq,
}

fn left(row: &Row<'_>) -> Read<Left> {
    Ok(Left {
        kind: row.named("kind", Kind::from_name)?,
        from: row.bytes("from_id")?,
        to: row.bytes("to_id")?,
        sent: row.get("sent_seq")?,
    })
}

/// Moves rows of the contact `from` to the contact `to`.
pub(super) async fn contact<E: Executor>(
    db: &E,
    owner: Owner,
    (from, to): (ContactId, ContactId),
) -> Result<(), E::Error> {
    let are_all = of_contact(db, (from, to), AT_ONCE).await?;
    let left = Left { kind: Kind::Contact, from: *from.as_bytes(), to: *to.as_bytes(), sent: Seq::MIN };
    follow(db, &left).await?;
    if are_all { Ok(()) } else { leave(db, owner, &left).await }
}

/// Moves messages of the conversation `from` to the conversation `to`. The identities of its person are still there.
pub(super) async fn conversation<E: Executor>(db: &E, from: &Conversation, to: ConversationId) -> Result<(), E::Error> {
    // A message that is shown as read has to be marked before it moves, and one that is not must not be.
    let waits = is_being_read(db, (from.id, to)).await?;
    let mut left = Left { kind: Kind::Conversation, from: *from.id.as_bytes(), to: *to.as_bytes(), sent: Seq::MAX };
    let are_all = received(db, &left, if waits { 0 } else { AT_ONCE }).await?;
    left.sent = sent(db, from, &left, AT_ONCE).await?;
    follow(db, &left).await?;
    if are_all && left.sent == Seq::MIN { Ok(()) } else { leave(db, from.owner, &left).await }
}

/// Whether messages of a conversation are still to move into another.
pub(super) async fn is_moving<E: Executor>(db: &E, from: ConversationId) -> Result<bool, E::Error> {
    let sql = "SELECT 1 AS found FROM unfinished_moves WHERE from_id = ?1";
    Ok(db.row(sql, values![&from.as_bytes()[..]], |_| Ok(())).await?.is_some())
}

/// Whether received messages of one of these conversations are still to be marked.
async fn is_being_read<E: Executor>(db: &E, (from, to): (ConversationId, ConversationId)) -> Result<bool, E::Error> {
    Ok(read_until(db, from).await? > Seq::MIN || read_until(db, to).await? > Seq::MIN)
}

/// What was to move to a contact or a conversation that is merged itself goes on to the other.
async fn follow<E: Executor>(db: &E, merged: &Left) -> Result<(), E::Error> {
    let (from, to) = (&merged.from[..], &merged.to[..]);
    db.run("DELETE FROM unfinished_moves WHERE from_id = ?2 AND to_id = ?1", values![from, to]).await?;
    db.run("UPDATE unfinished_moves SET to_id = ?2 WHERE to_id = ?1", values![from, to]).await.map(drop)
}

async fn leave<E: Executor>(db: &E, owner: Owner, left: &Left) -> Result<(), E::Error> {
    let sql = "INSERT INTO unfinished_moves (from_id, to_id, kind, institution_id, environment, sent_seq)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (from_id) DO UPDATE SET to_id = excluded.to_id, sent_seq = excluded.sent_seq";
    let (institution, environment) = (&owner.0.as_bytes()[..], owner.1.name());
    let (from, to, kind) = (&left.from[..], &left.to[..], left.kind.name());
    db.run(sql, values![from, to, kind, institution, environment, left.sent]).await.map(drop)
}

/// The statements that move rows of the contact `?1` to the contact `?2`, at most `?3` each. Erasing a contact finds its events
/// by their subject.
const OF_CONTACT: [&str; 3] = [
    "UPDATE incoming SET contact_id = ?2
     WHERE seq IN (SELECT seq FROM incoming WHERE contact_id = ?1 ORDER BY seq DESC LIMIT ?3)",
    "UPDATE incoming_changes SET contact_id = ?2
     WHERE n IN (SELECT n FROM incoming_changes WHERE contact_id = ?1 LIMIT ?3)",
    "UPDATE events SET subject = ?2
     WHERE seq IN (SELECT seq FROM events WHERE subject = ?1 LIMIT ?3)",
];

/// Moves at most so many rows of each kind. Returns whether none is left.
async fn of_contact<E: Executor>(db: &E, (from, to): (ContactId, ContactId), limit: i64) -> Result<bool, E::Error> {
    let mut are_all = true;
    for sql in OF_CONTACT {
        let moved = db.run(sql, values![&from.as_bytes()[..], &to.as_bytes()[..], limit]).await?;
        are_all &= moved < limit.unsigned_abs();
    }
    // The vote that the contact which stays has in the same poll is the one that counts.
    let mut votes = 0;
    for sql in [include_str!("moves/drop_votes.sql"), include_str!("moves/votes.sql")] {
        votes += db.run(sql, values![chat_of(from), chat_of(to), limit]).await?;
    }
    Ok(are_all && votes < limit.unsigned_abs())
}

/// Moves at most so many received messages of a conversation, the newest ones. Returns whether none is left.
async fn received<E: Executor>(db: &E, of: &Left, limit: i64) -> Result<bool, E::Error> {
    let sql = "UPDATE incoming SET conversation_id = ?2
               WHERE seq IN (SELECT seq FROM incoming WHERE conversation_id = ?1 ORDER BY seq DESC LIMIT ?3)";
    Ok(db.run(sql, values![&of.from[..], &of.to[..], limit]).await? < limit.unsigned_abs())
}

/// Looks at so many of the next messages that calls sent to the person of a conversation, the newest ones, and moves those of the
/// conversation. Returns the number from which on all were looked at.
async fn sent<E: Executor>(db: &E, from: &Conversation, of: &Left, limit: i64) -> Result<Seq, E::Error> {
    let sql = format!(
        "SELECT seq, conversation_id FROM messages{}
         WHERE channel_key = ?1 AND recipient = ?2 AND {PAST} AND seq < ?3 ORDER BY seq DESC LIMIT ?4",
        E::index("messages_past_by_recipient")
    );
    let read = |row: &Row<'_>| Ok((row.get::<Seq>("seq")?, row.get::<Option<Vec<u8>>>("conversation_id")?));
    let mut found = Vec::new();
    for recipient in conversations::recipients(db, from).await? {
        found.extend(db.rows(&sql, values![from.channel, recipient, of.sent, limit], read).await?);
    }
    found.sort_unstable_by(|(one, _), (other, _)| other.cmp(one));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let until = found.get(limit.saturating_sub(1)).map_or(Seq::MIN, |(seq, _)| *seq);
    found.truncate(limit);
    let theirs = found.into_iter().filter(|(_, id)| id.as_deref() == Some(&of.from[..])).map(|(seq, _)| seq);
    let theirs: Vec<_> = theirs.collect();
    if !theirs.is_empty() {
        let sql =
            format!("UPDATE messages SET conversation_id = ?2 WHERE {} AND conversation_id = ?1", E::any("seq", 3));
        db.run(&sql, values![&of.from[..], &of.to[..], List(theirs)]).await?;
    }
    Ok(until)
}

/// The conversations whose messages are still to be moved into this one.
pub(super) async fn into<E: Executor>(db: &E, id: ConversationId) -> Result<Vec<ConversationId>, E::Error> {
    let sql = "SELECT from_id FROM unfinished_moves WHERE to_id = ?1";
    let read = |row: &Row<'_>| Ok(ConversationId::from_bytes(row.bytes("from_id")?));
    db.rows(sql, values![&id.as_bytes()[..]], read).await
}

/// The contacts whose rows are still to be moved to this one.
pub(super) async fn merged_into<E: Executor>(db: &E, id: ContactId) -> Result<Vec<ContactId>, E::Error> {
    let sql = "SELECT from_id FROM unfinished_moves WHERE to_id = ?1";
    let read = |row: &Row<'_>| Ok(ContactId::from_bytes(row.bytes("from_id")?));
    db.rows(sql, values![&id.as_bytes()[..]], read).await
}

/// Forgets the moves from and to a contact or a conversation that is erased.
pub(super) async fn forget<E: Executor>(db: &E, id: &[u8; 16]) -> Result<(), E::Error> {
    db.run("DELETE FROM unfinished_moves WHERE from_id = ?1 OR to_id = ?1", values![&id[..]]).await.map(drop)
}

/// Does a step of one merge. Returns whether there may be more.
pub(super) async fn step<E: Executor>(db: &E) -> Result<bool, E::Error> {
    let sql = "SELECT from_id, institution_id, environment FROM unfinished_moves ORDER BY from_id LIMIT 1";
    let first = |row: &Row<'_>| Ok((row.bytes::<16>("from_id")?, owner(row)?));
    let Some((from, owner)) = db.row(sql, values![], first).await? else { return Ok(false) };
    lock(db, owner).await?;
    let sql = "SELECT from_id, to_id, kind, sent_seq FROM unfinished_moves WHERE from_id = ?1";
    // Another node may have ended this.
    let Some(found) = db.row(sql, values![&from[..]], left).await? else { return Ok(true) };
    let is_done = match found.kind {
        Kind::Contact => {
            let ids = (ContactId::from_bytes(found.from), ContactId::from_bytes(found.to));
            of_contact(db, ids, OF_STEP).await?
        }
        Kind::Conversation => of_conversation(db, owner, found).await?,
    };
    if is_done {
        db.run("DELETE FROM unfinished_moves WHERE from_id = ?1", values![&from[..]]).await?;
    }
    Ok(true)
}

/// Moves some messages of a conversation. Returns whether none is left.
async fn of_conversation<E: Executor>(db: &E, owner: Owner, mut of: Left) -> Result<bool, E::Error> {
    let (from, to) = (ConversationId::from_bytes(of.from), ConversationId::from_bytes(of.to));
    if is_being_read(db, (from, to)).await? {
        return Ok(false);
    }
    // One of them was erased, or was deleted because it is old. No message may belong to a conversation that is not there.
    let Some(from) = conversations::one(db, owner, from).await? else { return Ok(true) };
    if conversations::one(db, owner, to).await?.is_none() {
        return Ok(true);
    }
    let are_all = received(db, &of, OF_STEP).await?;
    of.sent = sent(db, &from, &of, OF_STEP).await?;
    let sql = "UPDATE unfinished_moves SET sent_seq = ?2 WHERE from_id = ?1";
    db.run(sql, values![&of.from[..], of.sent]).await?;
    Ok(are_all && of.sent == Seq::MIN)
}
