//! A process that has the store to itself: it holds every channel, and nobody else changes anything.

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_store::lease::Leases;
use recado_store::nodes::{NewNode, SharedQuota};
use recado_store::{Queue, StoreError};
use secrecy::SecretString;
use tokio_util::task::TaskTracker;

use super::{Holder, Nodes};

/// The only process.
pub struct Standalone {
    queue: Arc<dyn Queue>,
    leases: Arc<Leases>,
}

impl Standalone {
    /// The one that works on this queue.
    pub fn new(queue: Arc<dyn Queue>, leases: Arc<Leases>) -> Self {
        Self { queue, leases }
    }
}

#[async_trait]
impl Nodes for Standalone {
    fn are_shared(&self) -> bool {
        false
    }

    fn leases(&self) -> &Arc<Leases> {
        &self.leases
    }

    fn quota(&self) -> Option<&dyn SharedQuota> {
        None
    }

    fn secret(&self) -> Option<&SecretString> {
        None
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn holder(&self, _: ChannelKey) -> Result<Holder, StoreError> {
        Ok(Holder::Here)
    }

    async fn is_first(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>, StoreError> {
        self.queue.open_channels().await
    }

    fn channel_created(&self) {}

    fn start(&self, _: NewNode, _: &TaskTracker) {}

    async fn leave(&self) {}

    async fn abandon(&self) {}

    async fn close(&self) {}
}
