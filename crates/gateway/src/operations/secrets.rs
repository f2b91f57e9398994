//! Sealed secrets: sealed anew when the key changes.

use futures_util::{StreamExt, stream};

use crate::api::error::ApiError;
use crate::gateway::Gateway;
use crate::sealed::{KeyId, Place, SealError};
use crate::store::rows::{ChannelKey, Link, StoreError};

/// Rows that are written side by side, so that they share commits.
const AT_ONCE: usize = 64;

/// What a rotation found and did.
pub struct Rotation {
    /// The key that now seals all that could be opened.
    pub key: KeyId,
    pub sealed_anew: usize,
    pub already: usize,
    /// What could not be opened, and stayed as it was.
    pub failed: Vec<(ChannelKey, SealError)>,
}

enum Outcome {
    SealedAnew,
    Already,
    Failed(SealError),
}

/// Seals with the first key what older keys sealed. It may break off anywhere: run again, it does the rest.
pub async fn rotate(gateway: &Gateway) -> Result<Rotation, ApiError> {
    let key = gateway.secrets.first().map_err(|_| ApiError::SecretKeyMissing)?;
    let links = gateway.store.links().await?;
    let rotated = stream::iter(links).map(|link| async move { (link.channel, rotate_link(gateway, link).await) });
    let mut rotated = rotated.buffer_unordered(AT_ONCE);
    let mut done = Rotation { key, sealed_anew: 0, already: 0, failed: Vec::new() };
    while let Some((channel, outcome)) = rotated.next().await {
        match outcome? {
            Outcome::SealedAnew => done.sealed_anew += 1,
            Outcome::Already => done.already += 1,
            Outcome::Failed(error) => done.failed.push((channel, error)),
        }
    }
    done.failed.sort_unstable_by_key(|(channel, _)| *channel);
    Ok(done)
}

async fn rotate_link(gateway: &Gateway, link: Link) -> Result<Outcome, StoreError> {
    match gateway.secrets.seal_anew(Place::Link(link.channel), &link.sealed, &*gateway.entropy) {
        Err(error) => Ok(Outcome::Failed(error)),
        Ok(None) => Ok(Outcome::Already),
        Ok(Some(anew)) => {
            // Where it was changed meanwhile, it was with the first key, or its channel was deleted.
            let written = gateway.store.reseal_link(link.channel, link.sealed, anew).await?;
            Ok(if written { Outcome::SealedAnew } else { Outcome::Already })
        }
    }
}
