//! Deletes delivered messages: old ones, and all of an owner.

use recado_domain::clock::Millis;
use recado_domain::event::Owner;
use recado_domain::ids::{ConversationId, MediaId, MessageId};
use recado_domain::message::Seq;

use super::lock;
use crate::common::age::Dated;
use crate::common::events;
use crate::common::purge::{self, ALL, Deleted};
use crate::sqlkit::both::{Executor, List, Row, values};

/// How long changes are stored, to recognise repetitions. Networks repeat deliveries for some days.
const CHANGES_KEPT: Millis = 8 * DAY;
/// How long changes wait for their message: longer than a refused message is kept, so that what its sender has deleted does not come
/// back.
const HELD_KEPT: Millis = 32 * DAY;
const DAY: Millis = 24 * 60 * 60 * 1_000;

/// Deletes a batch of delivered messages from before `before`, and old changes.
pub(crate) async fn purge<E: Executor>(db: &E, (before, now): (Millis, Millis)) -> Result<Deleted, E::Error> {
    let messages = Dated { table: "incoming", number: "seq", time: "received_at", which: ALL };
    let oldest = messages.head(db, E::PURGED_AT_ONCE).await?;
    let mut deleted = Deleted::default();
    if let Some(last) = messages.last_old(db, &oldest, (before, now)).await? {
        let is_old = |(seq, at): &&(Seq, Millis)| *seq <= last && !(before..=now).contains(at);
        let gone = List(oldest.iter().filter(is_old).map(|(seq, _)| *seq).collect());
        count_down(db, &gone).await?;
        hide(db, &gone, now).await?;
        deleted = Deleted { rows: delete(db, &gone).await?, full: Deleted::may_leave_more::<E>(&oldest) };
    }
    // A conversation is as old as its newest message, whose text it shows. A conversation without messages is deleted:
    // the next message of the chat begins another conversation.
    let conversations = format!(
        "DELETE FROM conversations WHERE id IN ({})
         AND active_at < ?2 AND NOT EXISTS (SELECT 1 FROM incoming m WHERE m.conversation_id = conversations.id)",
        E::OLD_CONVERSATIONS
    );
    let votes = "DELETE FROM poll_votes WHERE (channel_key, poll, voter) IN
             (SELECT channel_key, poll, voter FROM poll_votes WHERE at < ?2 ORDER BY at LIMIT ?1) AND at < ?2";
    for sql in [&*conversations, votes] {
        deleted.add(Deleted::of::<E>(db.run(sql, values![E::PURGED_AT_ONCE, before]).await?));
    }
    let made = Dated { table: "incoming_changes", number: "n", time: "at", which: "held IS NULL" };
    let held = format!("incoming_changes{}", E::index("changes_held"));
    let held = Dated { table: &held, which: "held IS NOT NULL", ..made };
    for (changes, kept) in [(made, CHANGES_KEPT), (held, HELD_KEPT)] {
        deleted.add(purge::delete_old(db, &changes, (now - kept, now)).await?);
    }
    Ok(deleted)
}

/// Subtracts unread messages that will be deleted from the counts of their conversations.
async fn count_down<E: Executor>(db: &E, gone: &List<Seq>) -> Result<(), E::Error> {
    let unread = format!(
        "{} AND read_at IS NULL AND direction = 'INBOUND'
         AND NOT EXISTS (SELECT 1 FROM unfinished_reads r
                         WHERE r.conversation_id = incoming.conversation_id AND incoming.seq <= r.until_seq)",
        E::any("seq", 1)
    );
    let sql = format!(
        "UPDATE conversations SET unread = {}(0, unread - (SELECT count(*) FROM incoming
             WHERE conversation_id = conversations.id AND {unread}))
         WHERE unread > 0 AND id IN (SELECT conversation_id FROM incoming WHERE {unread})",
        E::GREATEST
    );
    db.run(&sql, values![*gone]).await.map(drop)
}

/// Removes the text of messages that will be deleted from conversations that are not: their time is from the future as well.
async fn hide<E: Executor>(db: &E, gone: &List<Seq>, now: Millis) -> Result<(), E::Error> {
    let any = E::any("seq", 1);
    let sql = format!(
        "UPDATE conversations SET last_id = NULL, last_content = NULL
         WHERE active_at > ?2 AND id IN (SELECT conversation_id FROM incoming WHERE {any})
             AND last_id IN (SELECT id FROM incoming WHERE {any})"
    );
    db.run(&sql, values![*gone, now]).await.map(drop)
}

/// Deletes messages with their files.
async fn delete<E: Executor>(db: &E, seqs: &List<Seq>) -> Result<u64, E::Error> {
    let any = E::any("seq", 1);
    let sql = format!("DELETE FROM incoming_media WHERE id IN (SELECT media_id FROM incoming WHERE {any})");
    db.run(&sql, values![*seqs]).await?;
    db.run(&format!("DELETE FROM incoming WHERE {any}"), values![*seqs]).await
}

/// A message to erase, and its conversation.
pub(super) struct Gone {
    pub seq: Seq,
    pub id: MessageId,
    pub conversation: ConversationId,
}

/// Deletes messages with their files and events, and removes their text from their conversations. The files are added to
/// a list, because their bytes are no rows.
pub(super) async fn erase<E: Executor>(db: &E, messages: &[Gone], files: &mut Vec<MediaId>) -> Result<u64, E::Error> {
    let subjects: Vec<_> = messages.iter().map(|gone| *gone.id.as_bytes()).collect();
    events::forget_subjects(db, &subjects).await?;
    for Gone { id, conversation, .. } in messages {
        let (id_bytes, conversation) = (&id.as_bytes()[..], &conversation.as_bytes()[..]);
        let sql = "UPDATE conversations SET last_id = NULL, last_content = NULL WHERE id = ?2 AND last_id = ?1";
        db.run(sql, values![id_bytes, conversation]).await?;
        let sql = "SELECT seq FROM events WHERE subject = ?1 AND data LIKE ?2";
        let shown = db.rows(sql, values![conversation, format!("%\"{id}\"%")], |row| row.get("seq")).await?;
        events::forget_numbers(db, shown).await?;
    }
    let seqs = List(messages.iter().map(|gone| gone.seq).collect());
    let sql = format!("SELECT media_id FROM incoming WHERE media_id IS NOT NULL AND {}", E::any("seq", 1));
    files.extend(db.rows(&sql, values![seqs], |row| Ok(MediaId::from_bytes(row.bytes("media_id")?))).await?);
    delete(db, &seqs).await
}

/// Rows that one call deletes.
const AT_ONCE: i64 = 500;

/// Deletes a batch of everything that networks delivered to an owner, and returns its files; `None` when nothing is left.
pub(crate) async fn all<E: Executor>(db: &E, owner: Owner) -> Result<Option<Vec<MediaId>>, E::Error> {
    let (institution, environment) = (&owner.0.as_bytes()[..], owner.1.name());
    // Before the lock, which a try to store one of these takes after it.
    let refused = "DELETE FROM refused_arrivals WHERE channel_key IN
                       (SELECT key FROM channels WHERE institution_id = ?1 AND environment = ?2)";
    db.run(refused, values![institution, environment]).await?;
    lock(db, owner).await?;
    let sql = "SELECT m.seq, m.id, m.conversation_id FROM channels c JOIN incoming m ON m.channel_key = c.key
               WHERE c.institution_id = ?1 AND c.environment = ?2 LIMIT ?3";
    let read = |row: &Row<'_>| {
        let conversation = ConversationId::from_bytes(row.bytes("conversation_id")?);
        Ok(Gone { seq: row.get("seq")?, id: MessageId::from_bytes(row.bytes("id")?), conversation })
    };
    let messages = db.rows(sql, values![institution, environment, AT_ONCE], read).await?;
    if !messages.is_empty() {
        let mut files = Vec::new();
        erase(db, &messages, &mut files).await?;
        return Ok(Some(files));
    }
    let moves = "DELETE FROM unfinished_moves WHERE institution_id = ?1 AND environment = ?2";
    db.run(moves, values![institution, environment]).await?;
    for table in ["incoming_changes", "poll_votes"] {
        let sql = format!(
            "DELETE FROM {table} WHERE channel_key IN
                 (SELECT key FROM channels WHERE institution_id = ?1 AND environment = ?2)"
        );
        db.run(&sql, values![institution, environment]).await?;
    }
    for table in ["conversations", "contacts"] {
        let sql = format!("SELECT id FROM {table} WHERE institution_id = ?1 AND environment = ?2 LIMIT ?3");
        let ids = db.rows(&sql, values![institution, environment, AT_ONCE], |row| row.bytes::<16>("id")).await?;
        events::forget_subjects(db, &ids).await?;
        for id in &ids {
            let id = &id[..];
            if table == "contacts" {
                for of in ["contact_grams", "identities"] {
                    db.run(&format!("DELETE FROM {of} WHERE contact_id = ?1"), values![id]).await?;
                }
            }
            db.run(&format!("DELETE FROM {table} WHERE id = ?1"), values![id]).await?;
        }
        if !ids.is_empty() {
            return Ok(Some(Vec::new()));
        }
    }
    Ok(None)
}
