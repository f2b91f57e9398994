//! Calls of people. Their events are recorded, and nothing else of them is stored.

use recado_domain::event::EventSubject;
use recado_domain::incoming::{Arrival, Call, Outcome, Received};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::changed::By;
use super::changes::{NO_TARGET, is_known, note};
use super::identify::identify;
use super::{Receiving, deliver, threads};
use crate::clock::rfc3339;
use crate::common::PageScan;

/// Records a call once.
pub(super) async fn received<E: PageScan>(
    of: &Receiving<'_, E>,
    arrival: &Arrival,
    call: &Call,
) -> Result<Received, E::Error> {
    if is_known(of, arrival, NO_TARGET, None).await? {
        return Ok(Received::of(Outcome::Repeated, None, None));
    }
    note(of, arrival, NO_TARGET, (None, None)).await?;
    if of.announces {
        record(of, arrival, call).await?;
    }
    Ok(Received::of(Outcome::Applied, None, None))
}

async fn record<E: PageScan>(of: &Receiving<'_, E>, arrival: &Arrival, call: &Call) -> Result<(), E::Error> {
    let contact = identify(of, &arrival.person, None).await?.map(|known| known.contact);
    let by = By { contact: contact.as_ref(), arrival };
    let chat = deliver::chat(arrival, contact.as_ref());
    let conversation = threads::active(of.db, of.channel, &chat.key()).await?;
    let data = json!({
        "sender": by.sender(), "callId": call.id, "video": call.video, "missed": call.missed,
        "at": rfc3339(arrival.sent_at),
    });
    let subject = by.contact().map_or_else(|| subject_of(of.channel, arrival), |contact| *contact.as_bytes());
    let conversation = conversation.map(|conversation| *conversation.id.as_bytes());
    of.announce("call.received", (subject, conversation), chat.kind, data.to_string()).await
}

/// The subject of a call of a person without a contact.
fn subject_of(channel: i64, arrival: &Arrival) -> EventSubject {
    let id = arrival.network_id.as_str();
    let hash = Sha256::new().chain_update(b"recado call\0").chain_update(channel.to_be_bytes()).chain_update(id);
    let mut subject = [0; 16];
    subject.copy_from_slice(&hash.finalize()[..16]);
    subject
}
