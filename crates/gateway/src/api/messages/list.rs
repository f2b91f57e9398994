//! `GET /v1/channels/{channelId}/messages`: a channel's messages, newest first.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::Scope;
use recado_domain::conversation::{ConversationMessages, Order};
use recado_domain::ids::ConversationId;
use recado_domain::incoming::{Direction, IncomingQuery};
use recado_domain::kinds::{KINDS, Kind};
use recado_domain::message::{MessageQuery, Seq};
use recado_domain::status::MessageStatus;
use recado_domain::text;
use serde_json::json;

use super::of_conversation;
use super::reactions::Reactions;
use super::received::{AnyMessage, ReceivedView};
use super::view::{MessageView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, List, Pagination};
use crate::api::openapi::{Operation, schemas};
use crate::api::pages::Page;
use crate::api::path::Ids;
use crate::api::query::{self, Query};
use crate::gateway::Gateway;

const PARAMETERS: [&str; 10] =
    ["limit", "cursor", "direction", "conversationId", "from", "status", "to", "type", "reference", "scheduled"];
/// The filters that only the list of sent messages has.
const OF_SENT: [&str; 5] = ["status", "to", "type", "reference", "scheduled"];
/// The filter that only the list of received messages has.
const OF_RECEIVED: &str = "from";
const CONVERSATION: &str = "O campo conversationId deve ser o id de uma conversa.";
const REFERENCE: &str = "A referencia deve ter de 1 a 128 caracteres visiveis.";

/// Lists messages; filters narrow the list.
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::MessagesRead>,
    Ids([channel]): Ids<1>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut query = Query::parse(query.as_deref(), &PARAMETERS);
    let limit = query.limit();
    let direction = query.get("direction", "A direcao deve ser INBOUND ou OUTBOUND.", Direction::from_name);
    if let Some(conversation) = query.get_with("conversationId", conversation) {
        let of = (conversation, direction.unwrap_or(Direction::Outbound));
        return list_of_conversation(&gateway, &caller, &channel, query, (of, limit)).await;
    }
    if direction == Some(Direction::Inbound) {
        return list_received(&gateway, &caller, &channel, query, limit).await;
    }
    query.refuse(&[OF_RECEIVED], "O filtro nao se aplica a mensagens enviadas.");
    let before = query.get("cursor", query::CURSOR, |text| text.parse().ok());
    let status = query.one_of("status", "O status", MessageStatus::ALL, MessageStatus::name);
    let kind = query.get("type", "Tipo de mensagem desconhecido.", |name| Kind::named(name).map(|kind| kind.name));
    let kind = kind.map(str::to_owned);
    let reference = query.get("reference", REFERENCE, |given| {
        let can_be_one = (1..=128).contains(&given.chars().count()) && given.chars().all(text::shows);
        can_be_one.then(|| given.to_owned())
    });
    let scheduled =
        query.get("scheduled", "O filtro scheduled deve ser true.", |text| (text == "true").then_some(true));
    let scheduled = scheduled.unwrap_or(false);
    let recipient = query.recipient(gateway.country(caller.institution));
    query.finish()?;
    let entry = caller.channel_or_its_history(&gateway, &channel)?;
    let asked = MessageQuery {
        status,
        recipient,
        kind,
        reference,
        scheduled,
        before,
        ..MessageQuery::of(entry.via.key, limit)
    };
    list_sent(&gateway, &channel, asked).await
}

/// The messages that calls sent on a channel. `channel` is its id as it is shown.
async fn list_sent(gateway: &Gateway, channel: &str, asked: MessageQuery) -> Result<Response, ApiError> {
    let limit = asked.limit;
    let (mut page, mut next) = (Page::new(limit), asked.before);
    while let Some(step) = page.step() {
        let read = MessageQuery { before: next, limit: step, ..asked.clone() };
        let read = gateway.store.messages(read).await?.ok_or_else(query::bad_cursor)?;
        let reactions = Reactions::to(gateway, asked.channel, &read.messages).await?;
        let is_short = read.messages.len() < step;
        for message in read.messages {
            page.add(reactions.add_to(MessageView::new(message, channel)?));
        }
        next = read.next;
        // A page with filters reads a bounded part of the list, and ends where the reading ended.
        if next.is_none() || is_short {
            break;
        }
    }
    let (data, next_cursor) = (page.into_data(), next.map(|place| place.to_string()));
    Ok(json::answer(StatusCode::OK, &List { data, pagination: Pagination { limit, next_cursor } }))
}

/// The number of a received message, as `nextCursor` has it.
fn place(text: &str) -> Option<Seq> {
    text.parse().ok().filter(|seq: &Seq| *seq > 0 && seq.to_string() == text)
}

/// The received messages of a channel.
async fn list_received(
    gateway: &Gateway,
    caller: &Caller<scope::MessagesRead>,
    channel: &str,
    mut query: Query,
    limit: usize,
) -> Result<Response, ApiError> {
    let before = query.get("cursor", query::CURSOR, place);
    let from = query.sender(OF_RECEIVED, gateway.country(caller.institution));
    query.refuse(&OF_SENT, "O filtro nao se aplica a mensagens recebidas.");
    query.finish()?;
    let entry = caller.channel_or_its_history(gateway, channel)?;
    let from = from.map(|address| ((caller.institution, caller.environment), address));
    let (mut page, mut next) = (Page::new(limit), before);
    while let Some(step) = page.step() {
        let read = IncomingQuery { channel: entry.via.key, from: from.clone(), before: next, limit: step };
        let read = gateway.store.incoming_page(read).await?;
        for message in &read.messages {
            page.add(AnyMessage::Received(ReceivedView::new(message, gateway.behaviour.media_base())));
        }
        next = read.next;
        // As above.
        if next.is_none() || read.messages.len() < step {
            break;
        }
    }
    let (data, next_cursor) = (page.into_data(), next.map(|place| place.to_string()));
    Ok(json::answer(StatusCode::OK, &List { data, pagination: Pagination { limit, next_cursor } }))
}

/// The id of a conversation.
fn conversation(text: &str) -> Result<ConversationId, String> {
    text.parse().map_err(|_| CONVERSATION.to_owned())
}

/// The messages of a conversation that go in this direction.
async fn list_of_conversation(
    gateway: &Gateway,
    caller: &Caller<scope::MessagesRead>,
    channel: &str,
    mut query: Query,
    ((conversation, direction), limit): ((ConversationId, Direction), usize),
) -> Result<Response, ApiError> {
    let after = query.get("cursor", query::CURSOR, |text| text.parse().ok());
    query.refuse(&OF_SENT, "O filtro nao se aplica com conversationId.");
    query.refuse(&[OF_RECEIVED], "O filtro nao se aplica com conversationId.");
    query.finish()?;
    let entry = caller.channel_or_its_history(gateway, channel)?;
    let asked = ConversationMessages {
        owner: (caller.institution, caller.environment),
        channel: entry.via.key,
        conversation,
        direction: Some(direction),
        after,
        order: Order::NewestFirst,
        limit,
    };
    let (data, next_cursor) = of_conversation::page(gateway, channel, asked).await?;
    Ok(json::answer(StatusCode::OK, &List { data, pagination: Pagination { limit, next_cursor } }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let page = json!({"data": [example(MessageStatus::Sent)], "pagination": {"limit": 20, "nextCursor": null}});
    operation
        .named("Messages", "listMessages", "List a channel's messages")
        .about(
            "Newest first; also those of a channel that was deleted. A page may be shorter than `limit` and still \
             have a `nextCursor`. Those that calls sent; with `direction=INBOUND` those that the network delivered, \
             echoes of the channel's own phone among them. `conversationId` has no other filter than `direction` \
             beside it; received messages have `from`.",
        )
        .needs(Scope::MessagesRead)
        .pages(schemas::message_place())
        .query("direction", "Sent by calls, or delivered.", schemas::one_of(Direction::ALL.map(Direction::name)))
        .query("conversationId", "Only those of this conversation.", schemas::uuid())
        .query(
            "from",
            "Only those of this person, with `direction=INBOUND`.",
            schemas::address("DDI+DDD+NUM, or the address of a chat."),
        )
        .query("status", "Only those in this state.", schemas::one_of(MessageStatus::ALL.map(MessageStatus::name)))
        .query("to", "Only those to this address.", schemas::address("DDI+DDD+NUM, or the address of a chat."))
        .query("type", "Only those of this type.", schemas::one_of(KINDS.iter().map(|kind| kind.name)))
        .query("reference", "Only those with this reference.", json!({"type": "string", "maxLength": 128}))
        .query("scheduled", "Only scheduled messages that wait for their `sendAt`.", json!({"const": true}))
        .answers::<List<AnyMessage>>(200, "A page of messages.", page)
        .refuses([ApiError::ChannelNotFound, ApiError::ConversationNotFound, ApiError::Unavailable])
}
