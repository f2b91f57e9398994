//! Content that a channel does not keep: it is deleted after the events of its message were delivered. Ids, states, times and
//! the sender stay.

use recado_domain::api_key::Environment;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::event::Owner;
use recado_domain::ids::{InstitutionId, MediaId, MessageId};
use recado_domain::incoming::{CONTENT_FETCHED, ContentsDeleted, Incoming};
use serde_json::{Value, json};

use super::{Receiving, conversations, deliver, lock, rows, threads};
use crate::sqlkit::both::{Executor, Row, separately, values};
use crate::views;

/// Messages whose content one call deletes.
const AT_ONCE: i64 = 20;
/// The wait until the next look at a message whose events are not delivered yet.
const NEXT_LOOK: Millis = 5 * 60 * 1_000;

/// Records that the content of a message is to be deleted, if its channel does not keep it.
pub(super) async fn note<E: Executor>(of: &Receiving<'_, E>, message: MessageId) -> Result<(), E::Error> {
    if of.settings.keep_text {
        return Ok(());
    }
    insert(of, *message.as_bytes()).await
}

/// Records that the text of a change that waits for its message is to be deleted, if its channel does not keep it.
pub(super) async fn note_held<E: Executor>(of: &Receiving<'_, E>, change: i64) -> Result<(), E::Error> {
    if of.settings.keep_text {
        return Ok(());
    }
    insert(of, id_of_held(change)).await
}

/// The number of a change in the place of the id of a message, which begins with a time and so with other bytes.
fn id_of_held(change: i64) -> [u8; 16] {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&change.to_be_bytes());
    id
}

fn held_of_id(id: MessageId) -> Option<i64> {
    let (head, number) = id.as_bytes().split_last_chunk()?;
    head.iter().all(|byte| *byte == 0).then(|| i64::from_be_bytes(*number))
}

async fn insert<E: Executor>(of: &Receiving<'_, E>, id: [u8; 16]) -> Result<(), E::Error> {
    let sql = "INSERT INTO content_to_delete (message_id, channel_key, next_at) VALUES (?1, ?2, ?3)
               ON CONFLICT (message_id) DO UPDATE SET next_at = excluded.next_at";
    let next_at = of.now + CONTENT_FETCHED;
    of.db.run(sql, values![&id[..], of.channel, next_at]).await.map(drop)
}

/// Looks at a batch of messages whose content is not kept, and deletes the content of those whose events have ended.
pub(crate) async fn delete_due<E: Executor>(db: &E, now: Millis) -> Result<ContentsDeleted, E::Error> {
    let sql = "SELECT channel_key FROM content_to_delete WHERE next_at <= ?1 ORDER BY next_at LIMIT 1";
    // Only the inbox of one owner is locked in a transaction.
    let channel: Option<ChannelKey> = db.row(sql, values![now], |row| row.get("channel_key")).await?;
    let Some(channel) = channel else { return Ok(ContentsDeleted::default()) };
    let owner = owner(db, channel).await?;
    if let Some(owner) = owner {
        lock(db, owner).await?;
    }
    let sql =
        "SELECT message_id FROM content_to_delete WHERE channel_key = ?1 AND next_at <= ?2 ORDER BY next_at LIMIT ?3";
    let read = |row: &Row<'_>| Ok(MessageId::from_bytes(row.bytes("message_id")?));
    let due = db.rows(sql, values![channel, now, AT_ONCE], read).await?;
    let mut files = Vec::new();
    for id in &due {
        let known = files.len();
        let work = async {
            match (owner, held_of_id(*id)) {
                (_, Some(change)) => forget_held(db, channel, change, now).await.map(|()| true),
                (Some(owner), None) => ends(db, (owner, channel), *id, (now, &mut files)).await,
                (None, None) => Ok(true),
            }
        };
        // On PostgreSQL a failed statement would end the transaction, and with it the turn of all others.
        let has_ended = separately(db, work).await?;
        if has_ended.is_err() {
            files.truncate(known);
        }
        let id = &id.as_bytes()[..];
        if has_ended.unwrap_or(false) {
            db.run("DELETE FROM content_to_delete WHERE message_id = ?1", values![id]).await?;
        } else {
            // A message that cannot be read must not keep the others from their turn.
            let sql = "UPDATE content_to_delete SET next_at = ?2 WHERE message_id = ?1";
            db.run(sql, values![id, now + NEXT_LOOK]).await?;
        }
    }
    Ok(ContentsDeleted { looked: due.len(), files })
}

/// Deletes a change that still waits for its message. Its row stays, so that a repetition changes nothing.
async fn forget_held<E: Executor>(db: &E, channel: ChannelKey, change: i64, now: Millis) -> Result<(), E::Error> {
    // A number may have been given again.
    let sql = "UPDATE incoming_changes SET held = NULL WHERE n = ?1 AND channel_key = ?2 AND at <= ?3";
    db.run(sql, values![change, channel, now - CONTENT_FETCHED]).await.map(drop)
}

/// Deletes the content of a message, unless its events are not delivered yet. Returns whether it has no content any more.
async fn ends<E: Executor>(
    db: &E,
    (owner, channel): (Owner, ChannelKey),
    id: MessageId,
    (now, files): (Millis, &mut Vec<MediaId>),
) -> Result<bool, E::Error> {
    let Some(mut message) = rows::message(db, channel, id).await? else { return Ok(true) };
    if is_awaited(db, owner, &message).await? {
        return Ok(false);
    }
    let file = message.media.as_ref().map(|media| media.id);
    delete(db, owner, &mut message, now).await?;
    files.extend(file);
    Ok(true)
}

/// The owner of a channel, even of a deleted one: its messages stay readable.
async fn owner<E: Executor>(db: &E, channel: ChannelKey) -> Result<Option<Owner>, E::Error> {
    let owner = |row: &Row<'_>| {
        let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
        Ok((institution, row.named("environment", Environment::from_name)?))
    };
    db.row("SELECT institution_id, environment FROM channels WHERE key = ?1", values![channel], owner).await
}

/// Whether a webhook still waits for an event of the message.
async fn is_awaited<E: Executor>(db: &E, owner: Owner, message: &Incoming) -> Result<bool, E::Error> {
    // An event behind the cursor of the fan-out has no deliveries yet.
    let sql = "SELECT 1 AS found FROM events e
               WHERE e.subject IN (?1, ?4) AND (e.subject = ?1 OR e.data LIKE ?5) AND (
                   EXISTS (SELECT 1 FROM deliveries d WHERE d.event_seq = e.seq AND d.state = 0)
                   OR EXISTS (SELECT 1 FROM webhooks w, fan_out f
                              WHERE w.institution_id = ?2 AND w.environment = ?3 AND w.active AND NOT w.deleted
                                AND f.seq < e.seq))
               LIMIT 1";
    let (institution, environment) = (&owner.0.as_bytes()[..], owner.1.name());
    let (id, conversation) = (&message.id.as_bytes()[..], &message.conversation.as_bytes()[..]);
    // The last message of the conversation, in its events.
    let names_it = format!("%\"{}\"%", message.id);
    let found = db.row(sql, values![id, institution, environment, conversation, names_it], |_| Ok(())).await?;
    Ok(found.is_some())
}

/// Deletes the content of a message, where it is stored, shown and reported.
async fn delete<E: Executor>(db: &E, owner: Owner, message: &mut Incoming, now: Millis) -> Result<(), E::Error> {
    message.body.forget();
    (message.media, message.updated_at) = (None, now);
    rows::save(db, message, true).await?;
    let sql = "DELETE FROM poll_votes WHERE channel_key = ?1 AND poll = ?2";
    db.run(sql, values![message.channel, message.network_id]).await?;
    let conversation = conversations::one(db, owner, message.conversation).await?;
    if let Some(mut conversation) = conversation
        && let Some(last) = conversation.last.as_mut().filter(|last| last.id == message.id)
    {
        *last = deliver::last_message(message);
        threads::save(db, &conversation).await?;
    }
    let shown = serde_json::to_value(views::message(message)).unwrap_or_default();
    let (id, conversation) = (&message.id.as_bytes()[..], &message.conversation.as_bytes()[..]);
    let sql = "SELECT seq, data FROM events WHERE subject = ?1 AND complete
               UNION ALL SELECT seq, data FROM events WHERE subject = ?2 AND complete AND data LIKE ?3";
    let event = |row: &Row<'_>| Ok((row.get::<i64>("seq")?, row.get::<String>("data")?));
    let names_it = format!("%\"{}\"%", message.id);
    for (seq, data) in db.rows(sql, values![id, conversation, names_it], event).await? {
        let Ok(mut data) = serde_json::from_str(&data) else { continue };
        redact(&mut data, &shown);
        db.run("UPDATE events SET data = ?2 WHERE seq = ?1", values![seq, data.to_string()]).await?;
    }
    Ok(())
}

/// The fields of a message that hold content, beside the object of its type.
const CONTENT: [&str; 7] = ["content", "mediaUrl", "replyTo", "mentions", "choice", "referral", "media"];

/// Removes the content of a message from the data of an event. `shown` is the message without its content.
fn redact(data: &mut Value, shown: &Value) {
    if let Some(Value::Object(message)) = data.get_mut("message") {
        let kind = message.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let of_kind = (shown["type"] == *kind).then_some(&*kind);
        for field in CONTENT.into_iter().chain(of_kind) {
            if let Some(value) = message.get_mut(field) {
                *value = shown[field].clone();
            }
        }
    }
    for field in ["content", "previousContent"] {
        if let Some(content) = data.get_mut(field).filter(|content| content.is_string()) {
            *content = json!("");
        }
    }
    for field in ["options", "results"] {
        if let Some(votes) = data.get_mut(field) {
            *votes = json!([]);
        }
    }
    if let Some(last) = data.pointer_mut("/conversation/lastMessage").filter(|last| last["id"] == shown["id"]) {
        last["content"] = json!("");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_ids_and_lose_content() {
        let shown = json!({"id": "1", "type": "image", "content": "", "media": null, "image": {"caption": null},
            "replyTo": {"messageId": "0", "content": null}});
        let mut data = json!({"message": {"id": "1", "type": "image", "content": "Oi", "from": "55", "media": {"id": "9"},
            "image": {"caption": "Oi"}, "replyTo": {"messageId": "0", "content": "Ola"}}, "contact": {"name": "Ana"}});
        redact(&mut data, &shown);
        let expected = json!({"message": {"id": "1", "type": "image", "content": "", "from": "55", "media": null,
            "image": {"caption": null}, "replyTo": {"messageId": "0", "content": null}}, "contact": {"name": "Ana"}});
        assert_eq!(data, expected);
        let mut edited = json!({"messageId": "1", "content": "Ola", "previousContent": null});
        redact(&mut edited, &shown);
        assert_eq!(edited, json!({"messageId": "1", "content": "", "previousContent": null}));
        let mut vote = json!({"messageId": "1", "options": ["Sim"], "results": [{"option": "Sim", "votes": 1}]});
        redact(&mut vote, &shown);
        assert_eq!(vote, json!({"messageId": "1", "options": [], "results": []}));
        for (id, content) in [("1", ""), ("2", "Oi")] {
            let mut of = json!({"conversation": {"lastMessage": {"id": id, "content": "Oi"}}});
            redact(&mut of, &shown);
            assert_eq!(of["conversation"]["lastMessage"]["content"], content);
        }
    }
}
