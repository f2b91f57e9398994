//! Webhooks: reading and changing them. Their deliveries are in the files below.
//!
//! A transaction that changes which deliveries of a webhook can be claimed first locks the row of the webhook in
//! `webhook_queues` ([`queues`]). So these transactions run one after another. Locks are taken in this order: channels,
//! the institution, the cursor of the fan-out, the queues of webhooks in the order of their keys.

pub(crate) mod claim;
pub(crate) mod fan_out;
pub(crate) mod log;
pub(super) mod queues;
pub(crate) mod replay;
pub(crate) mod settle;
pub(crate) mod tidy;

use recado_domain::api_key::{Environment, Scope};
use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::event::{ChatKind, EventSeq, NewEvent, Owner, Patterns};
use recado_domain::ids::{InstitutionId, WebhookId};
use recado_domain::webhook::{
    DeliveryOrder, EVENT_VERSION, NewWebhook, PreviousSecret, RetryPolicy, SealedWebhook, WEBHOOKS, Webhook,
    WebhookCreated, WebhookKey, WebhookSettings, WebhookUpdate, WebhookUpdated,
};
use serde_json::json;

use super::{Transaction, events};
use crate::clock::rfc3339;
use crate::sqlkit::both::{Executor, List, Read, Row, Unreadable, Value, value, values};

/// Selects webhooks that are not deleted.
const WEBHOOK: &str = include_str!("webhooks/webhook.sql");

fn webhook(row: &Row<'_>) -> Read<Webhook> {
    let institution = InstitutionId::from_bytes(row.bytes("institution_id")?);
    Ok(Webhook {
        key: row.get("key")?,
        id: WebhookId::from_bytes(row.bytes("id")?),
        owner: (institution, row.named("environment", Environment::from_name)?),
        settings: settings(row)?,
        version: row.number("version")?,
        revision: row.get("revision")?,
        failing_since: row.get("failing_since")?,
        disabled_at: row.get("disabled_at")?,
        last_delivered_at: row.get("last_delivered_at")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn settings(row: &Row<'_>) -> Read<WebhookSettings> {
    let words = |column| Ok(row.get::<String>(column)?.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let channels: Option<String> = row.get("channels")?;
    let channels = channels.map(|keys| keys.split_whitespace().map(str::parse).collect::<Result<_, _>>());
    let (sealed, until): (Option<Vec<u8>>, Option<Millis>) = (row.get("previous_secret")?, row.get("previous_until")?);
    Ok(WebhookSettings {
        name: row.get("name")?,
        url: row.get("url")?,
        events: Patterns::from_stored(&row.get::<String>("patterns")?),
        // A scope that only a newer version knows permits nothing here.
        scopes: words("scopes")?.iter().filter_map(|name| Scope::from_name(name)).collect(),
        channels: channels.transpose().map_err(|_| Unreadable::Unknown("channels of a webhook"))?,
        chats: words("chat_kinds")?.iter().filter_map(|name| ChatKind::from_name(name)).collect(),
        content: row.get("content")?,
        order: row.named("ordering", DeliveryOrder::from_name)?,
        retry: retry(row)?,
        active: row.get("active")?,
        secret: row.get("secret")?,
        previous_secret: sealed.zip(until).map(|(sealed, until)| PreviousSecret { sealed, until }),
        header_names: words("header_names")?,
        headers: row.get("headers")?,
    })
}

fn retry(row: &Row<'_>) -> Read<Option<RetryPolicy>> {
    let (retries, delay): (Option<i64>, Option<Millis>) = (row.get("max_retries")?, row.get("retry_delay")?);
    let Some((retries, delay)) = retries.zip(delay) else { return Ok(None) };
    let max_retries = u32::try_from(retries).map_err(|_| Unreadable::Unknown("retry policy"))?;
    Ok(Some(RetryPolicy { max_retries, delay }))
}

/// The settings as the store has them.
struct Stored<'a> {
    of: &'a WebhookSettings,
    patterns: String,
    scopes: String,
    channels: Option<String>,
    chats: String,
    order: &'static str,
    retries: Option<i64>,
    delay: Option<Millis>,
    previous: Option<Vec<u8>>,
    previous_until: Option<Millis>,
    header_names: String,
}

impl<'a> Stored<'a> {
    fn new(of: &'a WebhookSettings) -> Self {
        let keys = |keys: &Vec<ChannelKey>| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        Self {
            of,
            patterns: of.events.stored(),
            scopes: of.scopes.names().join(" "),
            channels: of.channels.as_ref().map(keys),
            chats: of.chats.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" "),
            order: of.order.name(),
            retries: of.retry.map(|policy| i64::from(policy.max_retries)),
            delay: of.retry.map(|policy| policy.delay),
            previous: of.previous_secret.as_ref().map(|previous| previous.sealed.clone()),
            previous_until: of.previous_secret.as_ref().map(|previous| previous.until),
            header_names: of.header_names.join(" "),
        }
    }

    /// The settings, as values `?1` to `?16` of the statements that write them, and then the other values.
    fn values(&'a self, others: impl IntoIterator<Item = Value<'a>>) -> Vec<Value<'a>> {
        let of = self.of;
        let settings = [
            value(&of.name),
            value(&of.url),
            value(&self.patterns),
            value(&self.scopes),
            value(&self.channels),
            value(&self.chats),
            value(&of.content),
            value(&self.order),
            value(&self.retries),
            value(&self.delay),
            value(&of.active),
            value(&of.secret),
            value(&self.previous),
            value(&self.previous_until),
            value(&self.header_names),
            value(&of.headers),
        ];
        settings.into_iter().chain(others).collect()
    }
}

pub(crate) async fn all<E: Executor>(db: &E, owner: Owner) -> Result<Vec<Webhook>, E::Error> {
    let sql = format!("{WEBHOOK} AND w.institution_id = ?1 AND w.environment = ?2 ORDER BY w.key");
    db.rows(&sql, values![&owner.0.as_bytes()[..], owner.1.name()], webhook).await
}

pub(crate) async fn one<E: Executor>(db: &E, owner: Owner, id: WebhookId) -> Result<Option<Webhook>, E::Error> {
    let found = db.row(&format!("{WEBHOOK} AND w.id = ?1"), values![&id.as_bytes()[..]], webhook).await?;
    Ok(found.filter(|webhook| webhook.owner == owner))
}

/// The webhooks with these keys.
async fn many<E: Executor>(db: &E, keys: Vec<WebhookKey>) -> Result<Vec<Webhook>, E::Error> {
    let sql = format!("{WEBHOOK} AND {} ORDER BY w.key", E::any("w.key", 1));
    db.rows(&sql, values![List(keys)], webhook).await
}

/// What the active webhooks of an owner want to receive.
pub(super) async fn patterns<E: Executor>(db: &E, owner: Owner) -> Result<Vec<Patterns>, E::Error> {
    let sql = "SELECT patterns FROM webhooks
               WHERE institution_id = ?1 AND environment = ?2 AND active AND NOT deleted ORDER BY key";
    let read = |row: &Row<'_>| Ok(Patterns::from_stored(&row.get::<String>("patterns")?));
    db.rows(sql, values![&owner.0.as_bytes()[..], owner.1.name()], read).await
}

pub(crate) async fn create<T: Transaction>(tx: &mut T, new: &NewWebhook) -> Result<WebhookCreated, T::Error> {
    if !tx.lock_owner(new.owner).await? {
        return Ok(WebhookCreated::NoInstitution);
    }
    if all(tx.db(), new.owner).await?.len() >= WEBHOOKS {
        return Ok(WebhookCreated::LimitReached);
    }
    if new.settings.active {
        fan_out::begin(tx.db(), new.after).await?;
    }
    let (institution, environment, id) = (&new.owner.0.as_bytes()[..], new.owner.1.name(), &new.id.as_bytes()[..]);
    let stored = Stored::new(&new.settings);
    let version = i64::from(EVENT_VERSION);
    let others = values![new.now, new.after, id, institution, environment, version];
    let insert = include_str!("webhooks/insert.sql");
    let values = stored.values(others.iter().cloned());
    let key = tx.db().row(insert, &values, |row| row.get::<WebhookKey>("key")).await?;
    let key = key.ok_or(Unreadable::Unknown("webhook without a key"))?;
    let queue = "INSERT INTO webhook_queues (webhook_key, failures, gone) VALUES (?1, 0, 1 = 0)";
    tx.db().run(queue, values![key]).await?;
    events::update_recording(tx, new.owner).await?;
    let created = one(tx.db(), new.owner, new.id).await?.ok_or(Unreadable::Unknown("webhook without a row"))?;
    Ok(WebhookCreated::Created(Box::new(created)))
}

pub(crate) async fn update<T: Transaction>(tx: &mut T, update: &WebhookUpdate) -> Result<WebhookUpdated, T::Error> {
    let WebhookUpdate { id, owner, settings, revision, after, now } = update;
    tx.lock_owner(*owner).await?;
    let Some(before) = one(tx.db(), *owner, *id).await? else { return Ok(WebhookUpdated::NotFound) };
    if before.revision != *revision {
        return Ok(WebhookUpdated::Changed);
    }
    let (key, was_active) = (before.key, before.settings.active);
    let begins = settings.active && !was_active;
    if begins {
        fan_out::begin(tx.db(), *after).await?;
    }
    queues::lock(tx.db(), &[key]).await?;
    if begins {
        let sql = "UPDATE webhook_queues SET failures = 0, failing_since = NULL, gone = (1 = 0) WHERE webhook_key = ?1";
        tx.db().run(sql, values![key]).await?;
    }
    if was_active && !settings.active {
        queues::end_waiting(tx.db(), key).await?;
    }
    let stored = Stored::new(settings);
    let others = values![*now, *after, begins, key];
    tx.db().run(include_str!("webhooks/update.sql"), &stored.values(others.iter().cloned())).await?;
    queues::refresh(tx.db(), &[key], *now, None).await?;
    events::update_recording(tx, *owner).await?;
    let updated = one(tx.db(), *owner, *id).await?.ok_or(Unreadable::Unknown("webhook without a row"))?;
    Ok(WebhookUpdated::Updated(Box::new(updated)))
}

pub(crate) async fn delete<T: Transaction>(tx: &mut T, owner: Owner, id: WebhookId) -> Result<bool, T::Error> {
    tx.lock_owner(owner).await?;
    let Some(webhook) = one(tx.db(), owner, id).await? else { return Ok(false) };
    queues::lock(tx.db(), &[webhook.key]).await?;
    // The secrets are deleted at once. The row is deleted after its deliveries, so that its key is not given to another
    // webhook.
    let sql =
        "UPDATE webhooks SET deleted = (1 = 1), active = (1 = 0), secret = ?2, previous_secret = NULL, headers = NULL,
                      url = '', name = '', header_names = ''
               WHERE key = ?1";
    tx.db().run(sql, values![webhook.key, &b""[..]]).await?;
    queues::close(tx.db(), webhook.key).await?;
    events::update_recording(tx, owner).await?;
    Ok(true)
}

/// Disables a webhook that has failed for too long, or whose address is gone.
pub(crate) async fn disable<T: Transaction>(tx: &mut T, key: WebhookKey, now: Millis) -> Result<bool, T::Error> {
    let Some(found) = many(tx.db(), vec![key]).await?.pop() else { return Ok(false) };
    // The institution is locked before the queue, because the recording of events changes.
    tx.lock_owner(found.owner).await?;
    queues::lock(tx.db(), &[key]).await?;
    let Some(webhook) = many(tx.db(), vec![key]).await?.pop() else { return Ok(false) };
    if !webhook.settings.active || !queues::streak(tx.db(), key).await?.is_some_and(|streak| streak.must_end(now)) {
        return Ok(false);
    }
    queues::end_waiting(tx.db(), key).await?;
    let sql = "UPDATE webhooks SET active = (1 = 0), disabled_at = ?2, updated_at = ?2, revision = revision + 1
               WHERE key = ?1";
    tx.db().run(sql, values![key, now]).await?;
    queues::refresh(tx.db(), &[key], now, None).await?;
    events::update_recording(tx, webhook.owner).await?;
    events::record(tx.db(), &disabled(&webhook, now)).await?;
    Ok(true)
}

/// The event that informs the other webhooks.
fn disabled(webhook: &Webhook, now: Millis) -> NewEvent {
    let WebhookSettings { name, url, .. } = &webhook.settings;
    let failing_since = rfc3339(webhook.failing_since.unwrap_or(now));
    // Written by hand, because the keys keep the contract's order.
    let data = format!(
        r#"{{"webhook":{{"id":{},"name":{},"url":{}}},"failingSince":{}}}"#,
        json!(webhook.id.to_string()),
        json!(name),
        json!(url),
        json!(failing_since)
    );
    NewEvent {
        owner: webhook.owner,
        channel: None,
        name: "webhook.disabled",
        subject: *webhook.id.as_bytes(),
        conversation: None,
        chat: ChatKind::Direct,
        at: now,
        data,
    }
}

pub(crate) async fn sealed<E: Executor>(
    db: &E,
    after: WebhookKey,
    limit: usize,
) -> Result<Vec<SealedWebhook>, E::Error> {
    let sql = "SELECT key, id, secret, previous_secret, headers FROM webhooks
               WHERE key > ?1 AND NOT deleted ORDER BY key LIMIT ?2";
    let read = |row: &Row<'_>| {
        Ok(SealedWebhook {
            key: row.get("key")?,
            id: WebhookId::from_bytes(row.bytes("id")?),
            secret: row.get("secret")?,
            previous_secret: row.get("previous_secret")?,
            headers: row.get("headers")?,
        })
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.rows(sql, values![after, limit], read).await
}

pub(crate) async fn reseal<E: Executor>(db: &E, old: &SealedWebhook, new: &SealedWebhook) -> Result<bool, E::Error> {
    let sql = "UPDATE webhooks SET secret = ?2, previous_secret = ?3, headers = ?4, revision = revision + 1
               WHERE key = ?1 AND NOT deleted AND secret = ?5
                 AND previous_secret IS NOT DISTINCT FROM ?6 AND headers IS NOT DISTINCT FROM ?7";
    let values =
        values![old.key, new.secret, new.previous_secret, new.headers, old.secret, old.previous_secret, old.headers];
    Ok(db.run(sql, values).await? == 1)
}

/// The key of a webhook of this owner.
async fn key_of<E: Executor>(db: &E, owner: Owner, id: WebhookId) -> Result<Option<WebhookKey>, E::Error> {
    let sql = "SELECT key FROM webhooks WHERE id = ?1 AND institution_id = ?2 AND environment = ?3 AND NOT deleted";
    let (id, institution, environment) = (&id.as_bytes()[..], &owner.0.as_bytes()[..], owner.1.name());
    db.row(sql, values![id, institution, environment], |row| row.get("key")).await
}

/// The cursor of the fan-out: events up to it have their deliveries. It is 0 before the first webhook.
async fn cursor<E: Executor>(db: &E) -> Result<EventSeq, E::Error> {
    Ok(db.row("SELECT seq FROM fan_out", values![], |row| row.get("seq")).await?.unwrap_or(0))
}
