//! What the network delivers, as [`Arrival`]s. Everything here is pure: what has to be looked up is in the [`Envelope`].
//!
//! | File | |
//! |---|---|
//! | `envelope` | who sent it, in which chat, and when |
//! | `wrappers` | messages in messages, and what they say of the inner one |
//! | `content` | the content of a message: the kinds that have a form of their own |
//! | `files` | images, videos, recordings, documents, stickers |
//! | `answers` | buttons, lists, forms; orders |
//! | `cards` | contact cards |
//! | `others` | kinds without a form of their own |
//! | `context` | quotes, mentions, ads |
//! | `changes` | reactions, edits, revocations |
//! | `votes` | votes, which only the poll decrypts |

mod answers;
mod cards;
mod changes;
mod content;
mod context;
mod envelope;
mod files;
mod others;
#[cfg(test)]
mod tests;
mod votes;
pub(crate) mod wrappers;

use async_trait::async_trait;
use recado_domain::incoming::{Arrival, Content, NewIncoming, UnsupportedReason, What};
use whatsapp_rust::waproto::codec::{message_encode_into, message_encoded_len};
use whatsapp_rust::waproto::whatsapp as wa;

pub(crate) use context::named;
pub(crate) use envelope::{Envelope, network_id};
pub use files::RemoteFile;
pub use votes::Vote;

/// Where a session stores what the network delivers.
#[async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// Stores this durably. The session acknowledges it to the network only after this returns `Ok`. After an error the
    /// network delivers it again, so a repetition must change nothing.
    ///
    /// The network waits meanwhile, with what it sends to this person or from this person: the call must not use the
    /// session.
    async fn receive(&self, delivered: Delivered) -> Result<(), NotStored>;
}

/// What the network delivered at once, in the network's order.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Digits of the linked account's number.
    pub number: Option<String>,
    pub inbound: Vec<Inbound>,
}

/// One thing that the network delivered.
#[derive(Debug, Clone)]
pub enum Inbound {
    /// The network's own form of a message is in [`NewIncoming::raw`], and a [`RemoteFile`] in `sealed` of its file. Both
    /// hold keys: seal them.
    Arrival(Box<Arrival>),
    /// A vote. Its poll opens it.
    Vote(Box<Vote>),
    /// The account's phone has read these messages. The network does not always say in which chat.
    Read(Vec<String>),
}

/// Why something was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotStored {
    /// It is logged, so it contains nothing personal.
    pub why: String,
    /// The same would happen if the network delivered it again soon.
    pub is_lasting: bool,
}

/// What a message is to the gateway; `None`: nothing that a person wrote.
pub(crate) fn read(message: &wa::Message, of: &Envelope) -> Option<Inbound> {
    let unwrapped = wrappers::unwrap(message);
    let inner = unwrapped.message;
    if let Some(update) = inner.poll_update_message.as_option() {
        return votes::read(update, of).map(|vote| Inbound::Vote(Box::new(vote)));
    }
    let what = match changes::read(inner, of) {
        changes::Read::Change(what) => what,
        changes::Read::Nothing => return None,
        changes::Read::Message if unwrapped.is_repeated => return None,
        changes::Read::Message => {
            let mut new = if unwrapped.is_view_once || content::is_view_once(inner) {
                NewIncoming::new(Content::Unsupported { reason: UnsupportedReason::ViewOnce }, "")
            } else {
                content::read(inner, unwrapped.album)?
            };
            context::apply(&mut new, inner, of);
            // What may be seen once must not be kept.
            new.raw = (new.content.name() != "unsupported").then(|| kept(message));
            What::Message(Box::new(new))
        }
    };
    let arrival = Arrival { sent_at: of.within_second(changes::sent_at(inner)), ..of.arrival(what) };
    Some(Inbound::Arrival(Box::new(arrival)))
}

/// A message that cannot be read.
pub(crate) fn unreadable(of: &Envelope, reason: UnsupportedReason) -> Arrival {
    of.arrival(What::Message(Box::new(NewIncoming::new(Content::Unsupported { reason }, ""))))
}

/// The network's form of a message, as it is kept: without what may be seen once, whether it is the message or the answered one.
pub(crate) fn kept(message: &wa::Message) -> Vec<u8> {
    let unwrapped = wrappers::unwrap(message);
    let inner = unwrapped.message;
    if unwrapped.is_view_once || content::is_view_once(inner) {
        return encoded(&content::empty_view_once());
    }
    if !context::quotes_view_once(inner) {
        return encoded(message);
    }
    let mut kept = inner.clone();
    if kept.message_context_info.is_unset() {
        // It may hold the secret of the message.
        kept.message_context_info.clone_from(&message.message_context_info);
    }
    context::forget_quoted(&mut kept);
    encoded(&kept)
}

fn encoded(message: &wa::Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message_encoded_len(message));
    message_encode_into(message, &mut bytes);
    bytes
}
