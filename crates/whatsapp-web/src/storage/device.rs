//! The linked device itself.

use std::sync::Arc;

use async_trait::async_trait;
use whatsapp_rust::wacore::store::Device;
use whatsapp_rust::wacore::store::device::DEVICE_PROPS;
use whatsapp_rust::wacore::store::error::Result;
use whatsapp_rust::wacore::store::traits::DeviceStore;

use super::{Storage, from_json, put, to_json};
use crate::{Kind, Rows, RowsError};

#[async_trait]
impl DeviceStore for Storage {
    async fn save(&self, device: &Device) -> Result<()> {
        self.change(put(Kind::Device, [], to_json(device)?)).await
    }

    async fn load(&self) -> Result<Option<Device>> {
        let Some(stored) = self.get(Kind::Device, Vec::new()).await? else { return Ok(None) };
        let mut device: Device = from_json(&stored)?;
        // Not stored, and empty after reading: a device that is not linked yet would be refused without them.
        device.device_props = Arc::new(DEVICE_PROPS.clone());
        Ok(Some(device))
    }

    async fn exists(&self) -> Result<bool> {
        Ok(self.get(Kind::Device, Vec::new()).await?.is_some())
    }

    async fn create(&self) -> Result<i32> {
        let _guard = self.lock().await;
        if !self.exists().await? {
            self.save(&Device::new()).await?;
        }
        // The device's number. The rows of a session hold one device.
        Ok(1)
    }
}

/// Whether a linked device is stored: one that has an account.
pub async fn is_linked(rows: &Arc<dyn Rows>) -> std::result::Result<bool, RowsError> {
    let stored = rows.get(Kind::Device, vec![Vec::new()]).await?;
    let Some(bytes) = stored.into_iter().next().flatten() else { return Ok(false) };
    let device: Device = from_json(&bytes).map_err(|error| RowsError(error.to_string()))?;
    Ok(device.pn.is_some())
}
