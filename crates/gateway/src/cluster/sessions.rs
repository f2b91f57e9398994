//! The lines of the channels that this node holds: up as long as it is sure of them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use recado_domain::channel::{ChannelKey, ChannelType};
use recado_providers::pairing::Pairs;

use super::Parts;

/// Lines that are taken up at a time; each asks the store a few things.
const AT_ONCE: usize = 8;

pub(super) struct Lines {
    parts: Arc<Parts>,
    /// Channels whose lines are to be taken up. What fails stays here.
    wanted: Mutex<HashSet<ChannelKey>>,
    raising: tokio::sync::Mutex<()>,
}

impl Lines {
    pub fn new(parts: Arc<Parts>) -> Self {
        Self { parts, wanted: Mutex::default(), raising: tokio::sync::Mutex::default() }
    }

    /// Takes up the lines of these channels.
    pub async fn take_up(&self, channels: &[ChannelKey]) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).extend(channels);
        self.raise().await;
    }

    /// Takes up what is to be up and is not yet, as long as no other node can have these lines.
    pub async fn raise(&self) {
        let Some(web) = self.parts.providers.whatsapp_web() else { return };
        let _one_at_a_time = self.raising.lock().await;
        let wanted: Vec<_> = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let all = stream::iter(wanted).for_each_concurrent(AT_ONCE, |key| self.raise_one(&**web, key));
        tokio::select! {
            biased;
            () = self.parts.leases.until_unsure() => {}
            () = all => {}
        }
    }

    async fn raise_one(&self, web: &dyn Pairs, key: ChannelKey) {
        // Another node has just made it.
        let Some(entry) = self.parts.directory.channel(key) else { return };
        if entry.kind == ChannelType::WhatsAppWeb && self.parts.leases.epoch(key).is_some() {
            if let Err(error) = web.take_up(&entry.via).await {
                tracing::warn!(channel.id = %entry.via.id, %error, "session restore failed; retrying");
                return;
            }
            if self.parts.leases.epoch(key).is_none() {
                // It was put down while it was taken up.
                web.disconnect(key).await;
            }
        }
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Closes the lines of these channels.
    pub async fn put_down(&self, channels: &[ChannelKey]) {
        let Some(web) = self.parts.providers.whatsapp_web() else { return };
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).retain(|key| !channels.contains(key));
        join_all(channels.iter().map(|key| web.disconnect(*key))).await;
    }

    /// Whether a person is just linking the channel's phone.
    pub fn is_being_linked(&self, channel: ChannelKey) -> bool {
        let web = self.parts.providers.whatsapp_web();
        web.is_some_and(|web| !web.pairing(channel).borrow().is_over())
    }
}
