//! Channels.

use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelKey, ChannelMove, ChannelSettings, ChannelState, ChannelType, Held, NewChannel, Recorded,
};
use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use serde_json::{Map, Value};

use super::{Stamp, Transaction, schedule};
use crate::commits::Change;
use crate::sqlkit::both::{Executor, Read, Row, Unreadable, values};

/// The columns of a channel.
pub(crate) const COLUMNS: &str =
    "key, institution_id, environment, id, name, type, state, state_reason, connected_at, created_at, deleted_at, settings,
     (SELECT details FROM links WHERE channel_key = key) AS link, restricted_until, next_send_at, session, cancel_before,
     connections, records_messages, records_queued";

pub(crate) fn channel(row: &Row<'_>) -> Read<Channel> {
    let kind = row.named("type", ChannelType::from_name)?;
    let settings: String = row.get("settings")?;
    Ok(Channel {
        key: row.get("key")?,
        institution: InstitutionId::from_bytes(row.bytes("institution_id")?),
        environment: row.named("environment", Environment::from_name)?,
        id: row.named("id", |id| id.parse().ok())?,
        name: row.get("name")?,
        kind,
        state: row.named("state", ChannelState::from_name)?,
        state_reason: row.get("state_reason")?,
        connected_at: row.get("connected_at")?,
        created_at: row.get("created_at")?,
        deleted_at: row.get("deleted_at")?,
        settings: ChannelSettings::read(kind, &settings).map_err(|_| Unreadable::Unknown("channel setting"))?,
        link: row.get("link")?,
        restricted_until: row.get("restricted_until")?,
        next_send_at: row.get("next_send_at")?,
        session: row.get("session")?,
    })
}

/// `None` for a channel that a newer version created with values that this version does not know. It must not keep this
/// node from reading the other channels during a rolling upgrade.
pub(crate) fn if_known(row: &Row<'_>) -> Read<Option<Channel>> {
    match channel(row) {
        Err(Unreadable::Unknown(what)) => {
            let id: String = row.get("id")?;
            tracing::warn!(channel.id = id, error = what, "channel skipped: unknown to this version");
            Ok(None)
        }
        read => read.map(Some),
    }
}

pub(crate) async fn all<E: Executor>(db: &E) -> Result<Vec<Channel>, E::Error> {
    let sql = format!("SELECT {COLUMNS} FROM channels ORDER BY key");
    Ok(db.rows(&sql, values![], if_known).await?.into_iter().flatten().collect())
}

pub(crate) async fn page<E: Executor>(
    db: &E,
    (institution, environment): (InstitutionId, Environment),
    after: ChannelKey,
    limit: usize,
) -> Result<Vec<Channel>, E::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM channels
         WHERE institution_id = ?1 AND environment = ?2 AND key > ?3 AND deleted_at IS NULL
         ORDER BY key LIMIT ?4"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = db.rows(&sql, values![&institution.as_bytes()[..], environment.name(), after, limit], if_known).await?;
    Ok(found.into_iter().flatten().collect())
}

pub(crate) async fn one<E: Executor>(db: &E, key: ChannelKey) -> Result<Option<Channel>, E::Error> {
    db.row(&format!("SELECT {COLUMNS} FROM channels WHERE key = ?1"), values![key], channel).await
}

/// Creates a channel, or restores a deleted one with an empty queue: all open messages were queued before the deletion,
/// or accepted by another node a moment after it.
pub(crate) async fn create<T: Transaction>(tx: &mut T, new: &NewChannel) -> Result<Option<Channel>, T::Error> {
    let connected_at = (new.state == ChannelState::Connected).then_some(new.now);
    let (institution, environment) = (&new.institution.as_bytes()[..], new.environment.name());
    // First: what is read of the sequence must not be older than the lock.
    let sql = format!(
        "SELECT key FROM channels WHERE institution_id = ?1 AND environment = ?2 AND id = ?3{}",
        T::Db::lock_for("no key update")
    );
    tx.db().row(&sql, values![institution, environment, new.id.as_str()], |_| Ok(())).await?;
    // The lock orders this insert and a change of the recording of events: the later transaction sees the rows of the
    // earlier one.
    let sql_of_owner = format!("SELECT id FROM institutions WHERE id = ?1{}", T::Db::lock_for("key share"));
    tx.db().row(&sql_of_owner, values![institution], |_| Ok(())).await?;
    let Stamp { with, column, value, set } = T::STAMP;
    let sql = format!(
        include_str!("channels/create.sql"),
        with = with,
        column = column,
        value = value,
        set = set,
        COLUMNS = COLUMNS,
        former = T::last_seq(9),
        reset_cursor = T::RESET_CURSOR
    );
    let (id, kind, state) = (new.id.as_str(), new.kind.name(), new.state.name());
    let last_seq = tx.known_last_seq();
    let settings = new.settings.as_ref().map(serde_json::to_string).transpose();
    let settings = settings.map_err(|_| Unreadable::Unknown("channel setting"))?;
    let new_values =
        values![institution, environment, id, new.name, kind, state, connected_at, new.now, last_seq, settings];
    let Some(made) = tx.db().row(&sql, new_values, channel).await? else { return Ok(None) };
    tx.record(made.key, &Recorded::creation(made.state, new.by), new.now).await?;
    tx.channel_made(made.key).await?;
    tx.notify(Change::Channel(Box::new(made.clone())));
    Ok(Some(made))
}

pub(crate) async fn move_held<T: Transaction>(tx: &mut T, held: Held, to: &ChannelMove) -> Result<bool, T::Error> {
    Ok(tx.holds(held).await? && tx.move_channel(held.channel, to).await?)
}

pub(crate) async fn update<T: Transaction>(
    tx: &mut T,
    key: ChannelKey,
    name: &str,
    settings: &ChannelSettings,
) -> Result<bool, T::Error> {
    if tx.lock(key).await?.is_none_or(|queue| queue.deleted) {
        return Ok(false);
    }
    if settings.resend_after().is_none() {
        tx.leave_unknown(key).await?;
    }
    let settings = merged(tx.db(), key, settings).await?;
    let Stamp { with, set, .. } = T::STAMP;
    let sql = format!("WITH {with} UPDATE channels SET name = ?2, settings = ?3{set} WHERE key = ?1");
    tx.db().run(&sql, values![key, name, settings]).await?;
    report(tx, key).await?;
    Ok(true)
}

/// The stored form of the settings. What a newer version stored stays, because nodes of both versions change channels during an
/// upgrade.
async fn merged<E: Executor>(db: &E, key: ChannelKey, settings: &ChannelSettings) -> Result<String, E::Error> {
    let sql = "SELECT settings FROM channels WHERE key = ?1";
    let stored: Option<String> = db.row(sql, values![key], |row| row.get("settings")).await?;
    let mut all: Map<String, Value> = stored.and_then(|all| serde_json::from_str(&all).ok()).unwrap_or_default();
    let Ok(Value::Object(known)) = serde_json::to_value(settings) else {
        return Err(Unreadable::Unknown("channel setting").into());
    };
    all.extend(known);
    Ok(Value::Object(all).to_string())
}

pub(crate) async fn delete<T: Transaction>(
    tx: &mut T,
    key: ChannelKey,
    by: Actor,
    now: Millis,
) -> Result<(), T::Error> {
    // First: what is read of the sequence must not be older than the lock.
    let Some(queue) = tx.lock(key).await? else { return Ok(()) };
    if !queue.deleted {
        tx.record(key, &Recorded::deletion(queue.state, by), now).await?;
    }
    let Stamp { with, set, .. } = T::STAMP;
    let sql = format!(
        "WITH {with} UPDATE channels SET deleted_at = coalesce(deleted_at, ?2), cancel_before = {}{}{set} WHERE key = ?1",
        T::last_seq(3),
        T::RESET_CURSOR
    );
    tx.db().run(&sql, values![key, now, tx.known_last_seq()]).await?;
    for table in ["links", "session_rows", "accounts", "chats", "recipient_pace", "early_receipts"] {
        tx.db().run(&format!("DELETE FROM {table} WHERE channel_key = ?1"), values![key]).await?;
    }
    schedule::bring_forward(tx.db(), key, now).await?;
    // Also where there was nothing: another node may be storing a message now.
    tx.notify(Change::Scheduled);
    tx.leave_unknown(key).await?;
    tx.channel_deleted(key);
    report(tx, key).await
}

/// Reports the present state of a channel to the follower.
async fn report<T: Transaction>(tx: &mut T, key: ChannelKey) -> Result<(), T::Error> {
    let channel = one(tx.db(), key).await?;
    channel.into_iter().for_each(|channel| tx.notify(Change::Channel(Box::new(channel))));
    Ok(())
}
