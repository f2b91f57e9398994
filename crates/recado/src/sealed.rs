//! The sealed secrets in a store's file.

use std::collections::BTreeSet;

use recado_domain::incoming::SealedIncoming;
use recado_domain::message::Seq;
use recado_domain::webhook::SealedWebhook;
use recado_store::sealed::{KeyId, Place, ReceivedPart};
use recado_store::sqlite::copy::{links, sealed_incoming, sealed_webhooks, session_rows};
use rusqlite::Connection;

/// The most session rows, or messages, that are held in memory.
const PAGE: usize = 1_000;

/// Shows each sealed secret, and its place.
pub fn each(connection: &Connection, mut see: impl FnMut(Place<'_>, &[u8])) -> rusqlite::Result<()> {
    links(connection)?.iter().for_each(|link| see(Place::Link(link.channel), &link.sealed));
    let mut page = session_rows(connection, None, PAGE)?;
    while let Some(last) = page.last() {
        page.iter().for_each(|row| see((&row.of).into(), &row.sealed));
        page = session_rows(connection, Some(&last.of), PAGE)?;
    }
    let mut page = sealed_incoming(connection, Seq::MIN, PAGE)?;
    while let Some(last) = page.last() {
        for SealedIncoming { channel, network_id, raw, file, .. } in &page {
            let place = |part| Place::Received { channel: *channel, network_id, part };
            raw.iter().for_each(|raw| see(place(ReceivedPart::Message), raw));
            file.iter().for_each(|(_, file)| see(place(ReceivedPart::File), file));
        }
        page = sealed_incoming(connection, last.seq, PAGE)?;
    }
    for webhook in sealed_webhooks(connection)? {
        let SealedWebhook { id, secret, previous_secret, headers, .. } = &webhook;
        for secret in [Some(secret), previous_secret.as_ref()].into_iter().flatten() {
            see(Place::WebhookSecret(*id), secret);
        }
        headers.iter().for_each(|headers| see(Place::WebhookHeaders(*id), headers));
    }
    Ok(())
}

/// The ids of the keys that sealed the secrets of a store.
pub fn key_ids(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    each(connection, |_, sealed| ids.extend(KeyId::of(sealed).map(|id| id.to_string())))?;
    Ok(ids)
}
