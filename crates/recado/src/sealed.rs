//! The sealed secrets in a store.

use std::collections::BTreeSet;

use recado_domain::message::Seq;
use recado_gateway::sealed::{of_message, of_refused, of_webhook};
use recado_store::postgres::PgStore;
use recado_store::sealed::{KeyId, Place};
use recado_store::sqlite::copy::{links, sealed_incoming, sealed_refused, sealed_webhooks, session_rows};
use recado_store::{Inbox, Links, Refusals, Sessions, StoreError, Webhooks};
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
        page.iter().for_each(|message| of_message(message, &mut see));
        page = sealed_incoming(connection, last.seq, PAGE)?;
    }
    let mut page = sealed_refused(connection, None, PAGE)?;
    while let Some(last) = page.last().map(|refused| refused.key.clone()) {
        page.iter().for_each(|refused| of_refused(refused, &mut see));
        page = sealed_refused(connection, Some(&last), PAGE)?;
    }
    sealed_webhooks(connection)?.iter().for_each(|webhook| of_webhook(webhook, &mut see));
    Ok(())
}

/// The same for a store in a database.
pub async fn each_in_database(store: &PgStore, mut see: impl FnMut(Place<'_>, &[u8])) -> Result<(), StoreError> {
    store.links().await?.iter().for_each(|link| see(Place::Link(link.channel), &link.sealed));
    let mut page = store.session_rows(None, PAGE).await?;
    while let Some(last) = page.last().map(|row| row.of.clone()) {
        page.iter().for_each(|row| see((&row.of).into(), &row.sealed));
        page = store.session_rows(Some(last), PAGE).await?;
    }
    let mut page = store.sealed_incoming(Seq::MIN, PAGE).await?;
    while let Some(last) = page.last().map(|message| message.seq) {
        page.iter().for_each(|message| of_message(message, &mut see));
        page = store.sealed_incoming(last, PAGE).await?;
    }
    let mut page = store.sealed_refused(None, PAGE).await?;
    while let Some(last) = page.last().map(|refused| refused.key.clone()) {
        page.iter().for_each(|refused| of_refused(refused, &mut see));
        page = store.sealed_refused(Some(last), PAGE).await?;
    }
    let mut page = store.sealed_webhooks(0, PAGE).await?;
    while let Some(last) = page.last().map(|webhook| webhook.key) {
        page.iter().for_each(|webhook| of_webhook(webhook, &mut see));
        page = store.sealed_webhooks(last, PAGE).await?;
    }
    Ok(())
}

/// The ids of the keys that sealed the secrets of a store.
pub fn key_ids(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    each(connection, |_, sealed| ids.extend(KeyId::of(sealed).map(|id| id.to_string())))?;
    Ok(ids)
}
