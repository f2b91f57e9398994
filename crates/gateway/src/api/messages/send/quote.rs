//! Finds the message that a call quotes: one of the same chat, that a call sent or that the network delivered.

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::contact_book::{Contact, Scope};
use recado_domain::event::{ChatKind, Owner};
use recado_domain::ids::ConversationId;
use recado_domain::incoming::{IdentityKind, Incoming};
use recado_domain::kinds::NOT_OF_THIS_CHAT;
use recado_domain::message::{Message, Target};
use recado_domain::phone::forms;
use recado_domain::status::MessageStatus;
use recado_store::StoreError;

use crate::api::error::ApiError;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;

const REVOKED: &str = "A mensagem citada foi apagada.";
const CANCELLED: &str = "A mensagem citada foi cancelada.";
const SENT_LATER: &str = "A mensagem citada so e enviada depois desta.";

/// The message with this id or network id, if it belongs to the chat with this address. `sent_at`: when the new message is
/// sent. A quote of a message that is scheduled for later would block its queue.
pub(super) async fn find(
    gateway: &Gateway,
    entry: &ChannelEntry,
    (to, name): (&str, &str),
    sent_at: Millis,
) -> Result<Target, ApiError> {
    let chat = Chat { gateway, channel: entry.via.key, owner: (entry.via.institution, entry.environment), to };
    if let Some(message) = chat.sent(name).await? {
        if message.send_at.is_some_and(|send_at| send_at > sent_at) {
            let is_cancelled = message.status == MessageStatus::Cancelled;
            return Err(refused(if is_cancelled { CANCELLED } else { SENT_LATER }));
        }
        let network_id = message.remote_id.unwrap_or(message.network_id);
        return Ok(Target { id: message.id, network_id, received: false });
    }
    match chat.received(name).await? {
        None => Err(refused(NOT_OF_THIS_CHAT)),
        Some(message) if message.revoked_at.is_some() => Err(refused(REVOKED)),
        Some(message) => Ok(Target { id: message.id, network_id: message.network_id, received: true }),
    }
}

fn refused(why: &'static str) -> ApiError {
    ApiError::field("replyTo", why)
}

/// The chat of the new message.
struct Chat<'a> {
    gateway: &'a Gateway,
    channel: ChannelKey,
    owner: Owner,
    /// The address of the recipient.
    to: &'a str,
}

impl Chat<'_> {
    /// The message with this name that a call sent to this chat.
    async fn sent(&self, name: &str) -> Result<Option<Message>, StoreError> {
        let store = &self.gateway.store;
        if let Ok(id) = name.parse()
            && let Some(message) = store.message(self.channel, id).await?
        {
            let is_of_chat = self.is_sent(&message)
                || match message.conversation {
                    Some(conversation) => self.is_of(conversation).await?,
                    None => false,
                };
            return Ok(Some(message).filter(|_| is_of_chat));
        }
        let (to, name) = (self.to.to_owned(), name.to_owned());
        if let Some(message) = store.message_of_network(self.channel, to.clone(), name.clone()).await? {
            return Ok(Some(message));
        }
        // Messages may have been sent to another name of the same person.
        let chat = store.latest_conversation(self.owner, self.channel, to).await?;
        let Some(who) = chat.and_then(|chat| chat.contact) else { return Ok(None) };
        let Some(contact) = store.contact(self.owner, who.id).await? else { return Ok(None) };
        for address in addresses(&contact, self.channel).filter(|address| address != self.to) {
            if let Some(message) = store.message_of_network(self.channel, address, name.clone()).await? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The message with this name that the network delivered in this chat. People may choose the same network id.
    async fn received(&self, name: &str) -> Result<Option<Incoming>, StoreError> {
        let store = &self.gateway.store;
        if let Ok(id) = name.parse()
            && let Some(message) = store.incoming(self.channel, id).await?
        {
            let is_of_chat = self.is_received(&message).await?;
            return Ok(Some(message).filter(|_| is_of_chat));
        }
        for message in store.incoming_of_network(self.channel, name.to_owned()).await? {
            if self.is_received(&message).await? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Whether the message was sent to this address, in any form of a number, or to the account that the network named for it.
    fn is_sent(&self, message: &Message) -> bool {
        let known = [Some(&*message.recipient), message.account.as_deref()];
        known.into_iter().flatten().any(|known| self.is_named(known))
    }

    async fn is_received(&self, message: &Incoming) -> Result<bool, StoreError> {
        if message.chat == ChatKind::Group {
            return Ok(message.address == self.to);
        }
        self.is_of(message.conversation).await
    }

    /// Whether a conversation is with the recipient. The contact decides, because the address of a conversation may be that of
    /// another person now.
    async fn is_of(&self, conversation: ConversationId) -> Result<bool, StoreError> {
        let store = &self.gateway.store;
        let Some(conversation) = store.conversation(self.owner, conversation).await? else { return Ok(false) };
        let contact = match conversation.contact {
            Some(who) => store.contact(self.owner, who.id).await?,
            None => None,
        };
        Ok(match contact {
            Some(contact) => addresses(&contact, self.channel).any(|address| self.is_named(&address)),
            None => self.is_named(&conversation.address),
        })
    }

    fn is_named(&self, name: &str) -> bool {
        forms(name).any(|form| form == self.to)
    }
}

/// The addresses by which a channel reaches a contact.
fn addresses(contact: &Contact, channel: ChannelKey) -> impl Iterator<Item = String> {
    let here = contact.identities.iter().filter(move |identity| match &identity.scope {
        Scope::Channel(of, _) => *of == channel,
        // The user ids of two businesses differ.
        Scope::Owner | Scope::Business(_) => true,
    });
    let named = here.map(|identity| match identity.kind {
        IdentityKind::Lid => format!("{}@lid", identity.value),
        IdentityKind::UserId | IdentityKind::Phone => identity.value.clone(),
    });
    contact.phone.iter().chain(&contact.account).cloned().chain(named)
}
