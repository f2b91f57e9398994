//! The stored credentials of channels: decrypted with the key ring, and loaded.

use std::collections::HashMap;
use std::sync::Arc;

use recado_domain::channel::{self, Actor, ChannelKey, ChannelMove, ChannelRef, ChannelState};
use recado_store::StoreError;
use recado_store::sealed::{Place, SealError};
use secrecy::{ExposeSecret, SecretString};

use crate::cloud_api::link::{UNUSABLE, UnreadableLink};
use crate::cloud_api::{CloudApi, Link};
use crate::log_foreign_key;

/// Why a stored link cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error(transparent)]
    Sealed(#[from] SealError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableLink),
}

impl Unusable {
    /// The text for a channel's `stateReason`.
    pub fn reason(&self) -> String {
        let why = match self {
            Self::Sealed(error) => error.reason(),
            Self::Unreadable(_) => "A ligacao guardada do canal nao pode ser lida. Conecte-o de novo.".to_owned(),
        };
        format!("{UNUSABLE}{why}")
    }
}

impl CloudApi {
    /// Decrypts the link of a row.
    pub(super) fn open(&self, row: &channel::Link) -> Result<Link, Unusable> {
        let opened = self.context.secrets.open(Place::Link(row.channel), &row.sealed)?;
        let text = std::str::from_utf8(opened.expose_secret()).map_err(|_| UnreadableLink::Secrets)?;
        Ok(Link::from_stored(&row.details, &SecretString::from(text))?)
    }

    /// Loads the stored links of these channels, and returns whether that was possible. A channel whose link is unusable (a
    /// server that was started without its secret key) is paused with the reason, and resumes at the start that finds the
    /// link usable again. Other channels are not affected. One of several nodes pauses nothing, because another node may
    /// have the right key.
    pub(super) async fn load_links(&self, channels: &[ChannelRef]) -> Result<bool, StoreError> {
        let (mut all, mut usable) = (true, Vec::new());
        let of_these: HashMap<_, _> = channels.iter().map(|via| (via.key, via)).collect();
        for row in self.context.store.links().await? {
            let channel = row.channel;
            let Some(via) = of_these.get(&channel) else { continue };
            match self.open(&row) {
                Ok(link) => {
                    usable.push((channel, Arc::new(link)));
                    self.move_at_start(channel, None).await?;
                }
                Err(error) if !self.context.leases.is_standalone() => {
                    log_foreign_key(&via.id, &error);
                    all = false;
                }
                Err(error) => {
                    all = false;
                    tracing::warn!(channel.id = %via.id, %error, "channel credentials not readable; channel paused");
                    self.move_at_start(channel, Some(error.reason())).await?;
                }
            }
        }
        self.set_all(usable);
        Ok(all)
    }

    /// Replaces the links of these channels by the stored ones.
    pub(super) fn reload_links(&self, channels: &[ChannelRef], rows: &[channel::Link]) {
        for ChannelRef { key, id, .. } in channels {
            match rows.iter().find(|row| row.channel == *key).map(|row| self.open(row)) {
                Some(Ok(link)) => self.set(*key, Arc::new(link)),
                Some(Err(error)) => {
                    log_foreign_key(id, &error);
                    // The former link leads to another number, or is no longer valid.
                    self.remove(*key);
                }
                None => self.remove(*key),
            }
        }
    }

    /// Pauses a connected channel for this reason. Without a reason, ends a pause that had such a reason.
    async fn move_at_start(&self, channel: ChannelKey, reason: Option<String>) -> Result<(), StoreError> {
        let store = &self.context.store;
        let Some(found) = store.channel(channel).await? else { return Ok(()) };
        let was_unusable = found.state_reason.is_some_and(|reason| reason.starts_with(UNUSABLE));
        let next = match (found.state, &reason) {
            (ChannelState::Connected | ChannelState::Restricted, Some(_)) => ChannelState::Paused,
            (ChannelState::Paused, None) if was_unusable => ChannelState::Connected,
            _ => return Ok(()),
        };
        let at = self.context.clock.now();
        store.move_channel(channel, ChannelMove { from: found.state, to: next, reason, by: Actor::Recado, at }).await?;
        Ok(())
    }
}
