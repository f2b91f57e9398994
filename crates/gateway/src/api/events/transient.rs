//! Events that nothing stores, as the stream sends them: without an id, because no cursor leads back to them.

use std::sync::Arc;

use axum::response::sse::Event as Sent;
use recado_domain::clock::Millis;
use recado_domain::conversation::Conversation;
use recado_domain::event::ChatKind;
use recado_domain::ids::ContactId;
use recado_domain::transient::{Transient, TransientState};
use recado_store::clock::rfc3339;
use recado_store::views::{self, SenderView};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::list::Reader;

/// The reports for a reader; `None`: the reader wants none.
pub struct Reports(Option<Receiver<Arc<Transient>>>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    event: &'static str,
    version: &'static str,
    created_at: String,
    environment: &'static str,
    channel_id: &'a str,
    test: bool,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    #[serde(rename_all = "camelCase")]
    Typing { conversation_id: Option<String>, sender: SenderView<'a>, chat: Chat<'a>, state: &'static str },
    #[serde(rename_all = "camelCase")]
    Presence { sender: SenderView<'a>, state: &'static str, last_seen_at: Option<String> },
}

#[derive(Serialize)]
struct Chat<'a> {
    kind: &'static str,
    address: &'a str,
    name: Option<&'a str>,
}

impl Reports {
    /// The reports from now on.
    pub fn of(reader: &Reader) -> Self {
        let wants = reader.filter.transient_names().next().is_some();
        Self(wants.then(|| reader.gateway.transients.subscribe(reader.owner)))
    }

    /// Waits for the next report. A reader that is too slow misses the oldest ones.
    pub async fn next(&mut self) -> Arc<Transient> {
        while let Some(reports) = &mut self.0 {
            match reports.recv().await {
                Ok(transient) => return transient,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => self.0 = None,
            }
        }
        std::future::pending().await
    }
}

/// The event of a report; `None` if the reader does not receive it. What the store does not say now is null.
pub async fn sent(reader: &Reader, transient: &Transient) -> Option<Sent> {
    let (channel, chat, name) = (transient.channel, transient.chat(), transient.state.event());
    let entry = reader.gateway.directory.channel(channel).filter(|entry| !entry.is_deleted())?;
    let is_own = (entry.via.institution, entry.environment) == reader.owner;
    let is_taken = chat == ChatKind::Direct || entry.settings().takes_groups();
    if !is_own || !is_taken || !reader.filter.accepts_transient(name, channel, chat) {
        return None;
    }
    let person = transient.person.cleaned();
    let address = transient.group.as_ref().map_or_else(|| person.address(), |group| group.address.clone());
    let conversation = active(reader, transient, &address).await;
    let contact = contact(reader, transient, conversation.as_ref()).await;
    let sender = views::sender(&person, contact.map(|id| id.to_string()), false);
    let state = transient.state.name();
    let data = match transient.state {
        TransientState::Typing(_) => {
            let given = transient.group.as_ref().and_then(|group| group.name.as_deref());
            let known = conversation.as_ref().and_then(|conversation| conversation.chat_name.as_deref());
            let chat = Chat { kind: chat.name(), address: &address, name: given.or(known) };
            let conversation_id = conversation.as_ref().map(|conversation| conversation.id.to_string());
            Data::Typing { conversation_id, sender, chat, state }
        }
        TransientState::Online => Data::Presence { sender, state, last_seen_at: None },
        TransientState::Offline { last_seen_at } => {
            Data::Presence { sender, state, last_seen_at: last_seen_at.map(|at: Millis| rfc3339(at)) }
        }
    };
    let body = Body {
        event: name,
        version: "1",
        created_at: rfc3339(transient.at),
        environment: entry.environment.name(),
        channel_id: entry.via.id.as_str(),
        test: false,
        data,
    };
    Some(Sent::default().event(name).data(serde_json::to_string(&body).ok()?))
}

/// The active conversation of the chat.
async fn active(reader: &Reader, transient: &Transient, address: &str) -> Option<Conversation> {
    let store = &reader.gateway.store;
    let found = store.latest_conversation(reader.owner, transient.channel, address.to_owned()).await.ok().flatten();
    found.filter(|conversation| conversation.closed_at.is_none())
}

/// The contact of the person: that of the conversation, or else the one with the number.
async fn contact(reader: &Reader, transient: &Transient, conversation: Option<&Conversation>) -> Option<ContactId> {
    if let Some(who) = conversation.and_then(|conversation| conversation.contact.as_ref()) {
        return Some(who.id);
    }
    let phone = transient.person.phone.clone()?;
    let found = reader.gateway.store.contact_of_phone(reader.owner, phone).await.ok().flatten();
    found.map(|contact| contact.id)
}
