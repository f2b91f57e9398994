//! Stored secrets: loaded at a start, and encrypted again after a key rotation.

use futures_util::{Stream, StreamExt, stream};
use recado_domain::channel::{ChannelKey, Link, SessionRow};
use recado_domain::ids::WebhookId;
use recado_domain::incoming::{RefusedArrival, SealedIncoming};
use recado_domain::message::Seq;
use recado_domain::webhook::SealedWebhook;
use recado_providers::log_foreign_key;
use recado_store::StoreError;
use recado_store::sealed::{self, KeyId, ReceivedPart, SealError};

use crate::gateway::Gateway;
use recado_domain::error::AppError;

/// Rows that are written concurrently, so that they share commits.
const AT_ONCE: usize = 64;
/// The most session rows, or messages, that are held in memory.
const PAGE: usize = 1_000;
/// The most refused arrivals that are held in memory.
const REFUSED_PAGE: usize = 100;
/// Times that a webhook is read again because a call was changing it.
const TRIES: usize = 10;

/// The result of a rotation.
pub struct Rotation {
    /// The key that encrypts everything that could be decrypted.
    pub key: KeyId,
    pub reencrypted: usize,
    pub already: usize,
    /// The secrets that could not be decrypted, and were not changed.
    pub failed: Vec<(Place, SealError)>,
}

/// Whose secret it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Channel(ChannelKey),
    Webhook(WebhookId),
}

enum Outcome {
    Reencrypted,
    Already,
    Failed(SealError),
}

/// Loads the credentials of all channels when a server starts. Returns whether this node could do so, and has the key that
/// its channels need.
pub async fn load(gateway: &Gateway) -> Result<bool, StoreError> {
    let mut all = opens_sessions(gateway).await?;
    let channels = gateway.directory.channels();
    for (kind, driver) in gateway.drivers.all() {
        let own: Vec<_> = channels.iter().filter(|entry| entry.kind == kind).map(|entry| entry.via.clone()).collect();
        all &= driver.load(&own).await?;
    }
    Ok(all)
}

/// Whether this node's key decrypts the session rows of linked phones, as far as one row shows.
async fn opens_sessions(gateway: &Gateway) -> Result<bool, StoreError> {
    let Some(row) = gateway.store.session_rows(None, 1).await?.pop() else { return Ok(true) };
    let opened = gateway.secrets.open((&row.of).into(), &row.sealed);
    if let (Err(error), Some(entry)) = (&opened, gateway.directory.channel(row.of.channel)) {
        log_foreign_key(&entry.via.id, error);
    }
    Ok(opened.is_ok())
}

/// Encrypts with the first key what older keys encrypted. It may be interrupted at any point: the next run does the rest.
pub async fn rotate(gateway: &Gateway) -> Result<Rotation, AppError> {
    let key = gateway.secrets.first().map_err(|_| AppError::SecretKeyMissing)?;
    let mut done = Rotation { key, reencrypted: 0, already: 0, failed: Vec::new() };
    let links = gateway.store.links().await?;
    let links = links.into_iter().map(|link| async move { (of(link.channel), rotate_link(gateway, link).await) });
    done.note(stream::iter(links).buffer_unordered(AT_ONCE)).await?;
    let mut page = gateway.store.session_rows(None, PAGE).await?;
    while let Some(last) = page.last().map(|row| row.of.clone()) {
        let rows = page.into_iter().map(|row| async move { (of(row.of.channel), rotate_row(gateway, row).await) });
        done.note(stream::iter(rows).buffer_unordered(AT_ONCE)).await?;
        page = gateway.store.session_rows(Some(last), PAGE).await?;
    }
    let mut page = gateway.store.sealed_incoming(Seq::MIN, PAGE).await?;
    while let Some(last) = page.last().map(|message| message.seq) {
        let messages = page.into_iter();
        let messages =
            messages.map(|sealed| async move { (of(sealed.channel), rotate_message(gateway, sealed).await) });
        done.note(stream::iter(messages).buffer_unordered(AT_ONCE)).await?;
        page = gateway.store.sealed_incoming(last, PAGE).await?;
    }
    let mut page = gateway.store.sealed_refused(None, REFUSED_PAGE).await?;
    while let Some(last) = page.last().map(|refused| refused.key.clone()) {
        let refused = page.into_iter();
        let refused = refused.map(|one| async move { (of(one.key.channel), rotate_refused(gateway, one).await) });
        done.note(stream::iter(refused).buffer_unordered(AT_ONCE)).await?;
        page = gateway.store.sealed_refused(Some(last), REFUSED_PAGE).await?;
    }
    let mut page = gateway.store.sealed_webhooks(0, PAGE).await?;
    while let Some(last) = page.last().map(|webhook| webhook.key) {
        let webhooks = page.into_iter();
        let webhooks =
            webhooks.map(|sealed| async move { (Place::Webhook(sealed.id), rotate_webhook(gateway, sealed).await) });
        done.note(stream::iter(webhooks).buffer_unordered(AT_ONCE)).await?;
        page = gateway.store.sealed_webhooks(last, PAGE).await?;
    }
    done.failed.sort_unstable_by_key(|(place, _)| *place);
    gateway.check_secrets.notify_one();
    Ok(done)
}

impl Rotation {
    async fn note(
        &mut self,
        mut rotated: impl Stream<Item = (Place, Result<Outcome, StoreError>)> + Unpin,
    ) -> Result<(), StoreError> {
        while let Some((place, outcome)) = rotated.next().await {
            match outcome? {
                Outcome::Reencrypted => self.reencrypted += 1,
                Outcome::Already => self.already += 1,
                // A session with many unreadable rows is reported once.
                Outcome::Failed(error) if self.failed.last() == Some(&(place, error)) => {}
                Outcome::Failed(error) => self.failed.push((place, error)),
            }
        }
        Ok(())
    }
}

fn of(channel: ChannelKey) -> Place {
    Place::Channel(channel)
}

async fn rotate_link(gateway: &Gateway, link: Link) -> Result<Outcome, StoreError> {
    match gateway.secrets.reencrypt(sealed::Place::Link(link.channel), &link.sealed, &*gateway.entropy) {
        Err(error) => Ok(Outcome::Failed(error)),
        Ok(None) => Ok(Outcome::Already),
        Ok(Some(reencrypted)) => {
            // If the row was changed meanwhile, it was written with the first key, or its channel was deleted.
            let written = gateway.store.reseal_link(link.channel, link.sealed, reencrypted).await?;
            Ok(if written { Outcome::Reencrypted } else { Outcome::Already })
        }
    }
}

async fn rotate_row(gateway: &Gateway, row: SessionRow) -> Result<Outcome, StoreError> {
    match gateway.secrets.reencrypt((&row.of).into(), &row.sealed, &*gateway.entropy) {
        Err(error) => Ok(Outcome::Failed(error)),
        Ok(None) => Ok(Outcome::Already),
        Ok(Some(reencrypted)) => {
            // If the row was changed meanwhile, it was written with the first key, or it was deleted.
            let written = gateway.store.reseal_session_row(row, reencrypted).await?;
            Ok(if written { Outcome::Reencrypted } else { Outcome::Already })
        }
    }
}

async fn rotate_message(gateway: &Gateway, old: SealedIncoming) -> Result<Outcome, StoreError> {
    let again = |part, bytes: &[u8]| {
        let place = sealed::Place::Received { channel: old.channel, network_id: &old.network_id, part };
        gateway.secrets.reencrypt(place, bytes, &*gateway.entropy)
    };
    let raw = old.raw.as_ref().map_or(Ok(None), |raw| again(ReceivedPart::Message, raw));
    let file = old.file.as_ref().map_or(Ok(None), |(_, file)| again(ReceivedPart::File, file));
    let (raw, file) = match (raw, file) {
        (Err(error), _) | (_, Err(error)) => return Ok(Outcome::Failed(error)),
        (Ok(None), Ok(None)) => return Ok(Outcome::Already),
        (Ok(raw), Ok(file)) => (raw, file),
    };
    let file = old.file.as_ref().map(|(id, _)| *id).zip(file);
    let new = SealedIncoming { raw, file, ..old.clone() };
    // If a part was changed meanwhile, it was written with the first key, or the message was revoked or erased.
    let written = gateway.store.reseal_incoming(old, new).await?;
    Ok(if written { Outcome::Reencrypted } else { Outcome::Already })
}

async fn rotate_refused(gateway: &Gateway, old: RefusedArrival) -> Result<Outcome, StoreError> {
    let place = sealed::Place::Refused { channel: old.key.channel, id: &old.key.id };
    match gateway.secrets.reencrypt(place, &old.sealed, &*gateway.entropy) {
        Err(error) => Ok(Outcome::Failed(error)),
        Ok(None) => Ok(Outcome::Already),
        Ok(Some(reencrypted)) => {
            // If it was not written, it was stored or erased meanwhile.
            let written = gateway.store.reseal_refused(old, reencrypted).await?;
            Ok(if written { Outcome::Reencrypted } else { Outcome::Already })
        }
    }
}

/// The parts of a webhook are written together, so that none of them is opened by another key than the rest for long.
async fn rotate_webhook(gateway: &Gateway, mut sealed: SealedWebhook) -> Result<Outcome, StoreError> {
    for _ in 0..TRIES {
        let key = sealed.key;
        let new = match reencrypted(gateway, &sealed) {
            Err(error) => return Ok(Outcome::Failed(error)),
            Ok(None) => return Ok(Outcome::Already),
            Ok(Some(new)) => new,
        };
        if gateway.store.reseal_webhook(sealed, new).await? {
            return Ok(Outcome::Reencrypted);
        }
        // It was changed meanwhile, perhaps in one of its parts alone.
        match gateway.store.sealed_webhooks(key - 1, 1).await?.pop().filter(|webhook| webhook.key == key) {
            Some(changed) => sealed = changed,
            None => return Ok(Outcome::Already),
        }
    }
    Err(StoreError::Overloaded)
}

/// The parts under the first key; `None` if all are already.
fn reencrypted(gateway: &Gateway, old: &SealedWebhook) -> Result<Option<SealedWebhook>, SealError> {
    let again = |place, bytes: &[u8]| gateway.secrets.reencrypt(place, bytes, &*gateway.entropy);
    let (secret, headers) = (sealed::Place::WebhookSecret(old.id), sealed::Place::WebhookHeaders(old.id));
    let optional = |place, bytes: Option<&Vec<u8>>| bytes.map_or(Ok(None), |bytes| again(place, bytes));
    let current = again(secret, &old.secret)?;
    let (previous, headers) =
        (optional(secret, old.previous_secret.as_ref())?, optional(headers, old.headers.as_ref())?);
    if current.is_none() && previous.is_none() && headers.is_none() {
        return Ok(None);
    }
    Ok(Some(SealedWebhook {
        secret: current.unwrap_or_else(|| old.secret.clone()),
        previous_secret: previous.or_else(|| old.previous_secret.clone()),
        headers: headers.or_else(|| old.headers.clone()),
        ..*old
    }))
}
