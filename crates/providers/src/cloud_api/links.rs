//! Links as they are stored: opened with the key ring, and taken into use.

use std::sync::Arc;

use recado_domain::channel::{self, ChannelKey, ChannelType};
use recado_store::sealed::{KeyRing, Place, SealError};
use secrecy::{ExposeSecret, SecretString};

use crate::cloud_api::link::{UNUSABLE, UnreadableLink};
use crate::cloud_api::{CloudApi, Link};

/// Why a stored link cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error(transparent)]
    Sealed(#[from] SealError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableLink),
}

impl Unusable {
    /// For a channel's `stateReason`.
    pub fn reason(&self) -> String {
        let why = match self {
            Self::Sealed(error) => error.reason(),
            Self::Unreadable(_) => "A ligacao guardada do canal nao pode ser lida. Conecte-o de novo.".to_owned(),
        };
        format!("{UNUSABLE}{why}")
    }
}

/// Links as they are stored, and those in use.
#[derive(Clone)]
pub struct StoredLinks {
    cloud_api: Option<Arc<CloudApi>>,
    secrets: Arc<KeyRing>,
}

impl StoredLinks {
    /// Opens links with these keys, for this network.
    pub fn new(cloud_api: Option<Arc<CloudApi>>, secrets: Arc<KeyRing>) -> Self {
        Self { cloud_api, secrets }
    }

    /// The link that a row holds.
    pub fn open(&self, row: &channel::Link) -> Result<Link, Unusable> {
        let opened = self.secrets.open(Place::Link(row.channel), &row.sealed)?;
        let text = std::str::from_utf8(opened.expose_secret()).map_err(|_| UnreadableLink::Secrets)?;
        Ok(Link::from_stored(&row.details, &SecretString::from(text))?)
    }

    /// Takes over how channels are linked that another node changed.
    pub fn take_over(&self, changed: &[(ChannelKey, ChannelType)], rows: &[channel::Link]) {
        let Some(cloud_api) = &self.cloud_api else { return };
        for (key, _) in changed.iter().filter(|(_, kind)| *kind == ChannelType::CloudApi) {
            match rows.iter().find(|row| row.channel == *key).map(|row| self.open(row)) {
                Some(Ok(link)) => cloud_api.set(*key, Arc::new(link)),
                Some(Err(error)) => {
                    tell_of_key(*key, &error);
                    // The former one leads to another number, or is refused by now.
                    cloud_api.remove(*key);
                }
                None => cloud_api.remove(*key),
            }
        }
    }
}

/// Logs that this node has another secret key than the one that sealed a link.
pub fn tell_of_key(channel: ChannelKey, error: &dyn std::error::Error) {
    tracing::error!(channel.key = channel, %error, "channel credentials not readable; every node needs the same secret key");
}
