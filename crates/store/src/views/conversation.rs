//! A conversation.

use recado_domain::clock::Millis;
use recado_domain::conversation::Conversation;
use serde::Serialize;

use crate::clock::rfc3339;

/// A conversation, as the API shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConversationView<'a> {
    id: String,
    channel_id: &'a str,
    kind: &'static str,
    contact: Option<WhoView<'a>>,
    assigned_to: Option<AssigneeView<'a>>,
    department_id: Option<&'a str>,
    status: &'static str,
    last_message: Option<LastView<'a>>,
    unread_count: u32,
    window: WindowView,
    created_at: String,
    updated_at: String,
    closed_at: Option<String>,
    /// Added to the contract: the address by which a message reaches the chat.
    chat: ChatView<'a>,
    /// Added to the contract.
    close_reason: Option<&'a str>,
}

#[derive(Serialize)]
struct WhoView<'a> {
    id: String,
    name: &'a str,
    phone: Option<&'a str>,
}

#[derive(Serialize)]
struct AssigneeView<'a> {
    id: &'a str,
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LastView<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'a str,
    direction: &'static str,
    content: &'a str,
    created_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WindowView {
    state: &'static str,
    open_until: Option<String>,
}

#[derive(Serialize)]
struct ChatView<'a> {
    kind: &'static str,
    address: &'a str,
    name: Option<&'a str>,
}

impl<'a> ConversationView<'a> {
    pub(super) fn new(conversation: &'a Conversation, now: Millis) -> Self {
        let window = conversation.window(now);
        let kind = conversation.chat.name();
        Self {
            id: conversation.id.to_string(),
            channel_id: &conversation.channel_id,
            kind,
            contact: conversation.contact.as_ref().map(|who| WhoView {
                id: who.id.to_string(),
                name: &who.name,
                phone: who.phone.as_deref(),
            }),
            assigned_to: conversation.assigned_to.as_ref().map(|who| AssigneeView { id: &who.id, name: &who.name }),
            department_id: conversation.department.as_deref(),
            status: conversation.status.name(),
            last_message: conversation.last.as_ref().map(|last| LastView {
                id: last.id.to_string(),
                kind: &last.kind,
                direction: last.direction.name(),
                content: &last.content,
                created_at: rfc3339(last.at),
            }),
            unread_count: conversation.unread,
            window: WindowView { state: window.state.name(), open_until: window.open_until.map(rfc3339) },
            created_at: rfc3339(conversation.created_at),
            updated_at: rfc3339(conversation.updated_at),
            closed_at: conversation.closed_at.map(rfc3339),
            chat: ChatView { kind, address: &conversation.address, name: conversation.chat_name.as_deref() },
            close_reason: conversation.close_reason.as_deref(),
        }
    }
}
