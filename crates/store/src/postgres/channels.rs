//! Channels.

use async_trait::async_trait;
use recado_domain::api_key::Environment;
use recado_domain::channel::{
    Actor, Channel, ChannelEventPage, ChannelEventQuery, ChannelKey, ChannelMove, ChannelSettings, ChannelState,
    ChannelType, Held, NewChannel, Recorded,
};
use recado_domain::clock::Millis;
use recado_domain::ids::InstitutionId;
use recado_domain::message::Seq;
use tokio_postgres::Row;

use super::lock::Locked;
use super::{PgStore, chats, events, links, queue, recipients, sessions, tenants};
use crate::commits::Change;
use crate::sqlkit::postgres::db::{Db, Done, Failure, args, not_understood, plainly, transaction};
use crate::{Channels, Result};

#[async_trait]
impl Channels for PgStore {
    async fn channels(&self) -> Result<Vec<Channel>> {
        plainly!(self.pool, db => all(db))
    }

    async fn channels_of(
        &self,
        owner: (InstitutionId, Environment),
        after: ChannelKey,
        limit: usize,
    ) -> Result<Vec<Channel>> {
        plainly!(self.pool, db => page(db, owner, after, limit))
    }

    async fn channel(&self, key: ChannelKey) -> Result<Option<Channel>> {
        plainly!(self.pool, db => one(db, key))
    }

    async fn create_channel(&self, channel: NewChannel) -> Result<Option<Channel>> {
        let created: Result<Option<Channel>> = transaction!(self.pool, db => create(db, &channel).await);
        created.inspect(|channel| {
            self.follower.tell(channel.iter().map(|channel| Change::Channel(Box::new(channel.clone()))).collect());
        })
    }

    async fn move_channel(&self, key: ChannelKey, to: ChannelMove) -> Result<bool> {
        let moved: Result<bool> = transaction!(self.pool, db => move_to(db, key, &to).await);
        moved.inspect(|_| self.follower.tell(vec![Change::Work(key)]))
    }

    async fn move_held_channel(&self, held: Held, to: ChannelMove) -> Result<bool> {
        transaction!(self.pool, db => move_held(db, held, &to).await)
    }

    async fn update_channel(&self, key: ChannelKey, name: String, settings: ChannelSettings) -> Result<bool> {
        let updated: bool = transaction!(self.pool, db => update(db, key, &name, settings).await)?;
        self.tell_channel(key).await;
        Ok(updated)
    }

    async fn restrict_channel(&self, key: ChannelKey, until: Millis, reason: String, now: Millis) -> Result<bool> {
        transaction!(self.pool, db => match super::lock::lock(db, key).await? {
            Some(mut locked) => restrict(db, &mut locked, until, &reason, now).await,
            None => Ok(false),
        })
    }

    async fn hold_channel(&self, channel: ChannelKey, until: Millis) -> Result<()> {
        plainly!(self.pool, db => queue::hold(db, channel, until))
    }

    async fn delete_channel(&self, key: ChannelKey, by: Actor, now: Millis) -> Result<()> {
        let () = transaction!(self.pool, db => delete(db, key, by, now).await)?;
        self.tell_channel(key).await;
        Ok(())
    }

    async fn channel_events(&self, query: ChannelEventQuery) -> Result<ChannelEventPage> {
        plainly!(self.pool, db => events::of_channel(db, query))
    }
}

const COLUMNS: &str = "key, institution_id, environment, id, name, type, state, state_reason, connected_at, created_at, \
                       deleted_at, settings, (select details from links where channel_key = key), restricted_until, session, \
                       next_send_at";

/// The highest number that any message was given, also one that is not visible yet.
const LAST_SEQ: &str = "(select case when is_called then last_value else 0 end from messages_seq_seq)";

/// Messages that wait for the gate take their places in the line again.
pub(super) const LOOK_AGAIN: &str = "front_before = 0, front_until = null, front_latest = 0, front_per_day = null";

fn channel(row: &Row) -> Done<Channel> {
    Ok(Channel {
        key: row.get(0),
        institution: InstitutionId::from_bytes(tenants::bytes(row, 1)?),
        environment: tenants::environment(row.get(2))?,
        id: row.get::<_, &str>(3).parse().map_err(|_| not_understood("channel id"))?,
        name: row.get(4),
        kind: ChannelType::from_name(row.get(5)).ok_or_else(|| not_understood("channel type"))?,
        state: state(row.get(6))?,
        state_reason: row.get(7),
        connected_at: row.get(8),
        created_at: row.get(9),
        deleted_at: row.get(10),
        settings: serde_json::from_str(row.get(11)).map_err(|_| not_understood("channel setting"))?,
        link: row.get(12),
        restricted_until: row.get(13),
        session: row.get(14),
        next_send_at: row.get(15),
    })
}

/// Reads a state's name.
pub(super) fn state(name: &str) -> Done<ChannelState> {
    ChannelState::from_name(name).ok_or_else(|| not_understood("channel state"))
}

pub(super) async fn all(db: Db<'_>) -> Done<Vec<Channel>> {
    let sql = format!("select {COLUMNS} from channels order by key");
    Ok(known(&db.rows(&sql, &[]).await?))
}

pub(super) async fn page(
    db: Db<'_>,
    (institution, environment): (InstitutionId, Environment),
    after: ChannelKey,
    limit: usize,
) -> Done<Vec<Channel>> {
    let sql = format!(
        "select {COLUMNS} from channels
         where institution_id = $1 and environment = $2 and key > $3 and deleted_at is null
         order by key limit $4"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = db.rows(&sql, args![&institution.as_bytes()[..], environment.name(), after, limit]).await?;
    Ok(known(&rows))
}

pub(super) async fn one(db: Db<'_>, key: ChannelKey) -> Done<Option<Channel>> {
    let sql = format!("select {COLUMNS} from channels where key = $1");
    db.row(&sql, args![key]).await?.as_ref().map(channel).transpose()
}

/// Locks the row; when the channel was deleted, and its state. Where the two matter, this comes first.
pub(super) async fn lock(db: Db<'_>, key: ChannelKey) -> Done<Option<(Option<Millis>, ChannelState)>> {
    let sql = "select deleted_at, state from channels where key = $1 for no key update";
    let Some(row) = db.row(sql, args![key]).await? else { return Ok(None) };
    Ok(Some((row.get(0), state(row.get(1))?)))
}

/// Tells the other nodes that they know the channel as it was. The lock of the channel is held, so that everybody takes
/// the two in one order.
pub(super) async fn stamp(db: Db<'_>, key: ChannelKey) -> Done<()> {
    let sql = "with changed as (update directory set version = version + 1 returning version)
               update channels set version = changed.version from changed where key = $1";
    db.run(sql, args![key]).await?;
    Ok(())
}

/// Adds a channel, or takes up a deleted one. That starts empty: what is still open was queued before, also what another
/// node has accepted a moment after the deletion.
pub(super) async fn create(db: Db<'_>, new: &NewChannel) -> Done<Option<Channel>> {
    let connected_at = (new.state == ChannelState::Connected).then_some(new.now);
    let (institution, environment) = (&new.institution.as_bytes()[..], new.environment.name());
    let lock = "select from channels where institution_id = $1 and environment = $2 and id = $3 for no key update";
    db.row(lock, args![institution, environment, new.id.as_str()]).await?;
    // Whoever begins or ends the recording of its messages' events sees the channel, or is seen here.
    db.row("select from institutions where id = $1 for key share", args![institution]).await?;
    let sql = format!(
        "with changed as (update directory set version = version + 1 returning version)
         insert into channels (institution_id, environment, id, name, type, state, connected_at, created_at, version,
                               records_messages)
         select $1, $2, $3, $4, $5, $6, $7, $8, version,
                exists (select 1 from event_consumers where institution_id = $1 and environment = $2)
         from changed
         on conflict (institution_id, environment, id) do update
             set name = excluded.name, state = excluded.state, state_reason = null,
                 connected_at = excluded.connected_at, next_send_at = 0, created_at = excluded.created_at,
                 settings = excluded.settings, restricted_until = null, deleted_at = null, version = excluded.version,
                 cancel_before = {LAST_SEQ}, connections = channels.connections + 1,
                 session = channels.session + 1, {LOOK_AGAIN}
             -- Another type would find the former one's messages in its history.
             where channels.deleted_at is not null and channels.type = excluded.type
         returning {COLUMNS}"
    );
    let row = db
        .row(
            &sql,
            args![
                institution,
                environment,
                new.id.as_str(),
                new.name.as_str(),
                new.kind.name(),
                new.state.name(),
                connected_at,
                new.now,
            ],
        )
        .await?;
    let created = row.as_ref().map(channel).transpose()?;
    if let Some(created) = &created {
        events::record(db, created.key, &Recorded::creation(created.state, new.by), new.now).await?;
    }
    Ok(created)
}

/// Whether events of the messages of these channels are recorded, of those that are made later as well; `false` when there is
/// no such institution.
pub(super) async fn record_messages(
    db: Db<'_>,
    (institution, environment): (InstitutionId, Environment),
    on: bool,
) -> Done<bool> {
    let (institution, environment) = (&institution.as_bytes()[..], environment.name());
    let owner = args![institution, environment];
    let lock = "select key from channels where institution_id = $1 and environment = $2 order by key for no key update";
    db.rows(lock, owner).await?;
    if db.row("select from institutions where id = $1 for update", &owner[..1]).await?.is_none() {
        return Ok(false);
    }
    let sql = if on {
        "insert into event_consumers (institution_id, environment) values ($1, $2) on conflict do nothing"
    } else {
        "delete from event_consumers where institution_id = $1 and environment = $2"
    };
    db.run(sql, owner).await?;
    let sql = "update channels set records_messages = $3 where institution_id = $1 and environment = $2";
    db.run(sql, args![institution, environment, on]).await?;
    Ok(true)
}

/// Moves a channel from the expected state; `false` when it was in another, or is deleted.
pub(super) async fn move_to(db: Db<'_>, key: ChannelKey, to: &ChannelMove) -> Done<bool> {
    let connected_at = (to.to == ChannelState::Connected).then_some(to.at);
    let sql = format!(
        "update channels
         set state = $3, state_reason = $4, connected_at = coalesce(connected_at, $5),
             -- For nodes of the version before.
             up_since = coalesce($5, up_since),
             connections = connections + ($5::bigint is not null)::integer,
             restricted_until = case when $6 then restricted_until end, {LOOK_AGAIN}
         where key = $1 and state = $2 and deleted_at is null"
    );
    let (from, next, keeps) = (to.from.name(), to.to.name(), to.to.keeps_restriction());
    if db.run(&sql, args![key, from, next, to.reason.as_deref(), connected_at, keeps]).await? == 0 {
        return Ok(false);
    }
    events::record(db, key, &to.into(), to.at).await?;
    Ok(true)
}

/// The same where the channel is held under this epoch.
pub(super) async fn move_held(db: Db<'_>, held: Held, to: &ChannelMove) -> Done<bool> {
    let Some(locked) = super::lock::lock(db, held.channel).await? else { return Ok(false) };
    Ok(locked.has(held)? && move_to(db, held.channel, to).await?)
}

/// Lets a channel open no chats until then, unless a later time stands.
pub(super) async fn restrict(db: Db<'_>, locked: &mut Locked, until: Millis, reason: &str, now: Millis) -> Done<bool> {
    if !locked.queue.can_be_restricted() {
        return Ok(false);
    }
    if locked.queue.dispatches() {
        let (from, to, reason) = (locked.queue.state, ChannelState::Restricted, Some(reason.to_owned()));
        move_to(db, locked.key, &ChannelMove { from, to, reason, by: Actor::Network, at: now }).await?;
    }
    let sql =
        format!("update channels set restricted_until = greatest(restricted_until, $2), {LOOK_AGAIN} where key = $1");
    db.run(&sql, args![locked.key, until]).await?;
    locked.read_again(db).await?;
    Ok(true)
}

/// Pauses a channel that sends, because its network refused this message; not one that a person has brought up since
/// the message was sent.
pub(super) async fn pause(db: Db<'_>, locked: &mut Locked, reason: &str, seq: Seq, now: Millis) -> Done<()> {
    let sent = db.row("select connection from messages where seq = $1", args![seq]).await?;
    if !locked.queue.is_paused_by(seq, sent.and_then(|row| row.get(0))) {
        return Ok(());
    }
    let (from, to, reason) = (locked.queue.state, ChannelState::Paused, Some(reason.to_owned()));
    move_to(db, locked.key, &ChannelMove { from, to, reason, by: Actor::Network, at: now }).await?;
    locked.read_again(db).await
}

/// Ends a hold of the channel: what its network said before it was linked anew holds no more.
pub(super) async fn let_go(db: Db<'_>, key: ChannelKey) -> Done<()> {
    db.run("update channels set next_send_at = 0 where key = $1", args![key]).await?;
    Ok(())
}

pub(super) async fn update(db: Db<'_>, key: ChannelKey, name: &str, settings: ChannelSettings) -> Done<bool> {
    let Some((None, _)) = lock(db, key).await? else { return Ok(false) };
    if settings.resend_after().is_none() {
        recipients::leave_unknown(db, key).await?;
    }
    let settings = serde_json::to_string(&settings).map_err(|_| not_understood("channel setting"))?;
    db.run("update channels set name = $2, settings = $3 where key = $1", args![key, name, settings]).await?;
    stamp(db, key).await?;
    Ok(true)
}

pub(super) async fn delete(db: Db<'_>, key: ChannelKey, by: Actor, now: Millis) -> Done<()> {
    // First: what is read of the sequence must not be older than the lock.
    if let Some((None, state)) = lock(db, key).await? {
        events::record(db, key, &Recorded::deletion(state, by), now).await?;
    }
    let sql = format!(
        "update channels set deleted_at = coalesce(deleted_at, $2), cancel_before = {LAST_SEQ}, {LOOK_AGAIN}
         where key = $1"
    );
    db.run(&sql, args![key, now]).await?;
    links::delete(db, key).await?;
    sessions::delete(db, key).await?;
    chats::forget_all(db, key).await?;
    recipients::leave_unknown(db, key).await?;
    for table in ["recipient_pace", "early_receipts"] {
        db.run(&format!("delete from {table} where channel_key = $1"), args![key]).await?;
    }
    stamp(db, key).await
}

/// Those that were changed behind this version of the directory.
pub(super) async fn since(db: Db<'_>, version: i64) -> Done<Vec<Channel>> {
    let sql = format!("select {COLUMNS} from channels where version > $1 order by key");
    Ok(known(&db.rows(&sql, args![version]).await?))
}

/// What a newer version has made, while nodes are upgraded one after another, is no matter of this node; and it must not
/// keep it from the rest.
fn known(rows: &[Row]) -> Vec<Channel> {
    let one = |row: &Row| {
        let read = channel(row);
        if let Err(Failure::Refused(what)) = &read {
            let channel: ChannelKey = row.get(0);
            tracing::warn!(channel, what, "a channel is passed over: this version does not know its kind");
        }
        read.ok()
    };
    rows.iter().filter_map(one).collect()
}
