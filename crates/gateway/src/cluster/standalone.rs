//! The only process of a store: it owns every channel.

use std::sync::Arc;

use async_trait::async_trait;
use recado_domain::channel::ChannelKey;
use recado_store::lease::Leases;
use recado_store::nodes::{NewNode, SharedQuota};
use recado_store::{Queue, StoreError};
use secrecy::SecretString;
use tokio_util::task::TaskTracker;

use super::{Nodes, Owner};

/// The only process.
pub struct Standalone {
    queue: Arc<dyn Queue>,
    leases: Arc<Leases>,
}

impl Standalone {
    /// A process on this queue.
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

    async fn owner(&self, _: ChannelKey) -> Result<Owner, StoreError> {
        Ok(Owner::Here)
    }

    async fn is_first(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn open_channels(&self) -> Result<Vec<ChannelKey>, StoreError> {
        self.queue.open_channels().await
    }

    fn channel_created(&self) {}

    fn start(&self, _: NewNode, _: &TaskTracker) {}

    async fn drain(&self) {}

    async fn force_release(&self) {}

    async fn close(&self) {}
}
