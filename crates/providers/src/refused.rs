//! Arrivals that the store refuses although it works, because of their content, or because of a fault of this version. They are
//! acknowledged to the network, and kept sealed in the store until it takes them: see [`Refusals`](recado_store::Refusals).

mod retry;
#[cfg(test)]
mod tests;

use base64ct::{Base64Unpadded, Encoding};
use recado_domain::channel::ChannelKey;
use recado_domain::clock::{Clock, Entropy};
use recado_domain::hex::hex;
use recado_domain::incoming::{Arrival, Arrivals, NewRefused, RefusedArrival, SEALED_LIMIT, What};
use recado_store::sealed::{KeyRing, Place, ReceivedPart};
use recado_store::{Store, StoreError};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::arrivals::{Receives, Refused, simplified, store};

pub use retry::retry_due;

/// More bytes than sealing adds.
const OVERHEAD: usize = 1_024;

/// What a driver needs to keep arrivals.
#[derive(Clone, Copy)]
pub struct Keeper<'a> {
    pub store: &'a dyn Store,
    pub secrets: &'a KeyRing,
    pub clock: &'a dyn Clock,
    pub entropy: &'a dyn Entropy,
    /// Whether the network's own form of a message holds keys, so that it is sealed when the message is stored.
    pub seals: bool,
}

/// Why a part was neither stored nor kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another delivery soon does not help.
    #[error("the channel has too many messages that the store refuses")]
    Full,
}

impl From<NotKept> for StoreError {
    fn from(error: NotKept) -> Self {
        match error {
            NotKept::Store(error) => error,
            NotKept::Full => Self::Overloaded,
        }
    }
}

/// An arrival, as it is sealed. A new field needs a default.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    arrival: Arrival,
    number: Option<String>,
    business: Option<String>,
    windowed: bool,
    seals: bool,
    /// The network's own form, and where the file is, in base64.
    raw: Option<String>,
    file: Option<String>,
}

/// Stores a part, and keeps what the store refuses of it. The text of a refused message is stored at once, so that people see it;
/// the whole message recovers it later.
pub async fn receive(inbox: &impl Receives, keeper: Keeper<'_>, part: Arrivals) -> Result<(), NotKept> {
    let refused = store(inbox, part.clone()).await?;
    if refused.is_empty() {
        return Ok(());
    }
    let (channel, mut kept, mut simple) = (part.channel, Vec::with_capacity(refused.len()), Vec::new());
    for Refused { arrival, why } in refused {
        simple.extend(simplified(&arrival));
        let new = keeper.seal(&Arrivals { arrivals: vec![arrival.clone()], ..part.clone() }, arrival)?;
        tracing::error!(refused = %short(&new.id), error = why, "received message refused by the store; it is tried again");
        kept.push(new);
    }
    let is_kept = keeper.store.keep_refused(channel, kept, keeper.clock.now()).await?;
    store(inbox, Arrivals { arrivals: simple, ..part }).await?;
    if is_kept { Ok(()) } else { Err(NotKept::Full) }
}

impl Keeper<'_> {
    fn seal(&self, of: &Arrivals, arrival: Arrival) -> Result<NewRefused, StoreError> {
        let (id, names) = (id(&arrival), arrival.names());
        let (raw, file) = match &arrival.what {
            What::Message(new) => (new.raw.as_deref(), new.media.as_ref().and_then(|media| media.sealed.as_deref())),
            _ => (None, None),
        };
        let (raw, file) = (raw.map(Base64Unpadded::encode_string), file.map(Base64Unpadded::encode_string));
        let (number, business, windowed, seals) = (of.number.clone(), of.business.clone(), of.windowed, self.seals);
        let form = Form { arrival, number, business, windowed, seals, raw, file };
        let bytes = serde_json::to_vec(&form).map_err(|error| StoreError::Refused(error.to_string()))?;
        let place = Place::Refused { channel: of.channel, id: &id };
        let sealed = self.secrets.seal(place, &bytes, self.entropy);
        // Without its key the server cannot say that it has the message.
        let sealed = sealed.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(NewRefused { id, names, sealed })
    }
}

/// The arrival that is kept; `None` if another key or another version wrote it.
fn open(kept: &RefusedArrival, secrets: &KeyRing, entropy: &dyn Entropy) -> Option<Arrivals> {
    let channel = kept.key.channel;
    let opened = secrets.open(Place::Refused { channel, id: &kept.key.id }, &kept.sealed).ok()?;
    let form: Form = serde_json::from_slice(opened.expose_secret()).ok()?;
    let Form { mut arrival, number, business, windowed, seals, raw, file } = form;
    if let What::Message(new) = &mut arrival.what {
        let bytes = |text: Option<String>| text.map(|text| Base64Unpadded::decode_vec(&text)).transpose().ok();
        new.raw = bytes(raw)?;
        let file = bytes(file)?;
        if let Some(media) = &mut new.media {
            media.sealed = file;
        }
    }
    if seals {
        seal(channel, &mut arrival, secrets, entropy);
    }
    Some(Arrivals { channel, number, business, windowed, arrivals: vec![arrival] })
}

/// Encrypts the parts of a message that hold keys. Without the key of the server the message is stored without them.
pub fn seal(channel: ChannelKey, arrival: &mut Arrival, secrets: &KeyRing, entropy: &dyn Entropy) {
    let network_id = arrival.network_id.as_str();
    let What::Message(new) = &mut arrival.what else { return };
    let seal = |part, bytes: &[u8]| secrets.seal(Place::Received { channel, network_id, part }, bytes, entropy).ok();
    let raw = new.raw.take();
    let kept = raw.filter(|raw| {
        let fits = raw.len() <= SEALED_LIMIT - OVERHEAD;
        if !fits {
            tracing::warn!(
                channel.key = channel,
                bytes = raw.len(),
                "network's form of a received message not kept: too large"
            );
        }
        fits
    });
    new.raw = kept.and_then(|raw| seal(ReceivedPart::Message, &raw));
    if let Some(media) = &mut new.media {
        media.sealed = media.sealed.take().and_then(|file| seal(ReceivedPart::File, &file));
    }
}

/// The id in the store.
fn id(arrival: &Arrival) -> Vec<u8> {
    let chat = arrival.group.as_ref().map_or("", |group| &group.address);
    let author = arrival.person.address();
    let mut hash = Sha256::new();
    for part in [chat, &author, arrival.network_id.as_str()] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

/// The id as the log shows it. An id of the network may contain a number.
fn short(id: &[u8]) -> String {
    hex(&id[..id.len().min(6)])
}
