//! Closes conversations that no caller closes: idle ones, and those of deleted channels.

use recado_domain::api_key::Environment;
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::conversation::{ClosedBy, Conversation, Status, Transition};
use recado_domain::ids::InstitutionId;

use super::announce::{self, Place};
use super::conversations::write;
use super::threads::{ALL, conversation, select};
use super::{lock, owner_of};
use crate::sqlkit::both::{Executor, Row, values};

/// Conversations that one call closes.
const CLOSED_AT_ONCE: i64 = 100;

/// Closes a batch of a channel's conversations without a message since this time. Returns their number.
pub(crate) async fn close_idle<E: Executor>(
    db: &E,
    channel: ChannelKey,
    before: Millis,
    now: Millis,
) -> Result<usize, E::Error> {
    let Some(owner) = owner_of(db, channel).await? else { return Ok(0) };
    lock(db, owner).await?;
    let sql = format!(
        "{} WHERE v.channel_key = ?1 AND v.closed_at IS NULL AND v.active_at < ?2 ORDER BY v.active_at LIMIT ?3",
        select(ALL)
    );
    let idle = db.rows(&sql, values![channel, before, CLOSED_AT_ONCE], conversation).await?;
    close_all(&Place { db, owner, now }, &idle, ClosedBy::Idle).await
}

/// Finds a deleted channel with a conversation that goes on. The order keeps the planner to the index of such conversations.
pub(crate) const DELETED_CHANNEL: &str = "SELECT c.key FROM channels c
     WHERE c.deleted_at IS NOT NULL
       AND (SELECT v.active_at FROM conversations v WHERE v.channel_key = c.key AND v.closed_at IS NULL
            ORDER BY v.active_at, v.id LIMIT 1) IS NOT NULL
     ORDER BY c.key LIMIT 1";

/// A deleted channel with a conversation that goes on.
pub(crate) async fn deleted_channel_with_conversations<E: Executor>(db: &E) -> Result<Option<ChannelKey>, E::Error> {
    db.row(DELETED_CHANNEL, values![], |row| row.get("key")).await
}

/// Closes a batch of the conversations of a deleted channel. Returns their number.
pub(crate) async fn close_of_deleted<E: Executor>(db: &E, channel: ChannelKey, now: Millis) -> Result<usize, E::Error> {
    let sql = "SELECT institution_id, environment FROM channels WHERE key = ?1";
    let owner = |row: &Row<'_>| {
        let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
        Ok((institution, row.named("environment", Environment::from_name)?))
    };
    let Some(owner) = db.row(sql, values![channel], owner).await? else { return Ok(0) };
    lock(db, owner).await?;
    // Under the lock: a channel that was created again may have new conversations.
    if owner_of(db, channel).await?.is_some() {
        return Ok(0);
    }
    let sql =
        format!("{} WHERE v.channel_key = ?1 AND v.closed_at IS NULL ORDER BY v.active_at, v.id LIMIT ?2", select(ALL));
    let open = db.rows(&sql, values![channel, CLOSED_AT_ONCE], conversation).await?;
    close_all(&Place { db, owner, now }, &open, ClosedBy::Channel).await
}

/// Closes conversations. Returns their number.
async fn close_all<E: Executor>(
    place: &Place<'_, E>,
    conversations: &[Conversation],
    by: ClosedBy,
) -> Result<usize, E::Error> {
    for before in conversations {
        let after = Transition {
            status: Status::Closed,
            assigned_to: before.assigned_to.clone(),
            department: before.department.clone(),
            note: before.note.clone(),
            reason: None,
        };
        let conversation = write(place.db, before, after, place.now).await?;
        announce::closed(place, &conversation, by, None).await?;
    }
    Ok(conversations.len())
}
