//! Changes of messages: reactions, edits, revocations; and traffic that is no message.

use recado_domain::incoming::{What, clean};
use wa::message::protocol_message::Type;
use whatsapp_rust::waproto::whatsapp as wa;

use super::envelope::{Envelope, network_id};
use super::{content, wrappers};

/// The most characters of an emoji, which may be several joined ones.
const EMOJI_LIMIT: usize = 32;

/// What an unwrapped message is.
pub enum Read {
    Message,
    Change(What),
    /// Traffic of the network, or a change that cannot be read.
    Nothing,
}

pub fn read(message: &wa::Message, of: &Envelope) -> Read {
    if let Some(reaction) = message.reaction_message.as_option() {
        let Some(target) = target(reaction.key.as_option()) else { return Read::Nothing };
        let emoji = reaction.text.as_deref().and_then(|emoji| clean(emoji, EMOJI_LIMIT));
        return Read::Change(What::Reaction { target: network_id(target), emoji });
    }
    if let Some(protocol) = message.protocol_message.as_option() {
        return protocol_change(protocol, of).map_or(Read::Nothing, Read::Change);
    }
    // The library has decrypted such changes with the secret of the message that they change. The secrets of those that are
    // still encrypted are not stored.
    let is_sealed = message.enc_reaction_message.is_set()
        || message.secret_encrypted_message.is_set()
        || message.enc_comment_message.is_set();
    if is_sealed {
        tracing::debug!("change of a message without its secret ignored");
        return Read::Nothing;
    }
    Read::Message
}

/// The author's time of a change, in milliseconds. The network's own time has whole seconds only.
pub fn sent_at(message: &wa::Message) -> Option<i64> {
    let reaction = message.reaction_message.as_option().and_then(|reaction| reaction.sender_timestamp_ms);
    reaction.or_else(|| message.protocol_message.as_option().and_then(|protocol| protocol.timestamp_ms))
}

fn target(key: Option<&wa::MessageKey>) -> Option<&str> {
    key.and_then(|key| key.id.as_deref()).filter(|id| !id.is_empty())
}

fn protocol_change(protocol: &wa::message::ProtocolMessage, of: &Envelope) -> Option<What> {
    let key = protocol.key.as_option();
    match protocol.r#type? {
        Type::REVOKE => {
            // Only the network's fields are used, because the author of the message writes the others.
            let by_admin = of.group.is_some() && of.by_admin;
            Some(What::Revoke { target: network_id(target(key)?), by_admin })
        }
        Type::MESSAGE_EDIT => {
            let edited = wrappers::unwrap(protocol.edited_message.as_option()?).message;
            let content = content::read(edited, None)?.text;
            Some(What::Edit { target: network_id(target(key)?), content })
        }
        _ => None,
    }
}
