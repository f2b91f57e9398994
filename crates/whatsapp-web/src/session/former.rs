//! Messages that a former version kept in the rows of the session, because the store refused them. The gateway keeps such messages
//! itself now.

use recado_domain::clock::Millis;
use whatsapp_rust::waproto::codec::message_decode;

use crate::incoming::{self, Envelope, Inbound};

/// The message in a row: the length of the envelope in four bytes, the time and the envelope as JSON, the message.
pub fn read(row: &[u8]) -> Option<Inbound> {
    let (length, rest) = row.split_first_chunk()?;
    let (envelope, message) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let (_, envelope): (Millis, Envelope) = serde_json::from_slice(envelope).ok()?;
    incoming::read(&message_decode(message).ok()?, &envelope)
}
