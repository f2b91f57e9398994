//! `POST /v1/channels/{channelId}/messages/{kind}` and `POST /v1/channels/{channelId}/messages`: one pipeline for every
//! kind. A 202 means that the message is on disk.
//!
//! The checks, in order: headers and body (400), the channel and the conversation (404), an earlier use of the idempotency key (replay or 422),
//! the features of the channel's type (422), the time (400), the service window (409), the quoted message (400), the channel's state (409), its backlog
//! (503). The store checks the key in the transaction that stores the message. If an earlier check refuses the call, the key
//! is looked up first, so that a repeated call gets its first answer, whatever has changed since.

mod answer;
mod document;
mod headers;
mod quote;

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use recado_domain::address::{Address, AddressKind};
use recado_domain::channel::WindowGuard;
use recado_domain::clock::{Millis, millis};
use recado_domain::conversation::{Conversation, WindowState};
use recado_domain::field_errors::FieldErrors;
use recado_domain::ids::MessageId;
use recado_domain::incoming::IdentityKey;
use recado_domain::kinds::{CONVERSATION, Call, Common, Context, GivenAddress, Kind};
use recado_domain::message::{ContactRendition, Enqueued, Idempotency, NewMessage, Stored, Target};

use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::JsonBody;
use crate::api::path::Ids;
use crate::api::route::{Route, keyed};
use crate::config::UnknownFields;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;
use crate::metrics::METRICS;

use headers::SendOptions;

/// The name of the route for any kind in the stored uses of idempotency keys.
const ANY: &str = "messages";

/// The route of a kind.
pub fn route(kind: &'static Kind) -> Route {
    post(keyed(format!("/v1/channels/{{channelId}}/messages/{}", kind.name)), Some(kind))
}

/// The route for a body that names its kind.
pub fn route_of_any(route: Route) -> Route {
    post(route, None)
}

fn post(route: Route, kind: Option<&'static Kind>) -> Route {
    let handler = async move |State(gateway): State<Arc<Gateway>>,
                              caller: Caller<scope::MessagesSend>,
                              Ids([channel]): Ids<1>,
                              headers: HeaderMap,
                              body: JsonBody| {
        let request = Request::parse(&gateway, &caller, kind, &headers, &body)?;
        send(&gateway, &caller, &channel, request).await
    };
    route.send(handler, move |operation| document::describe(operation, kind))
}

async fn send(
    gateway: &Gateway,
    caller: &Caller<scope::MessagesSend>,
    channel: &str,
    mut request: Request,
) -> Result<Response, ApiError> {
    let entry = caller.channel(gateway, channel)?;
    let now = gateway.clock.now();
    let key = request.idempotency(gateway, caller, &entry, now);
    let checked = match request.find_chat(gateway, &entry).await {
        Ok(chat) => request.check(gateway, &entry, chat, now).await,
        Err(refusal) => Err(refusal),
    };
    let (id, replayed) = match checked {
        Err(refusal) => (replay(gateway, key, refusal).await?, true),
        Ok(target) => {
            let message = request.message(gateway, &entry, key, target, now).await?;
            let id = message.id;
            match gateway.store.enqueue(message).await? {
                Enqueued::Accepted => {
                    METRICS.accepted(entry.kind.name(), request.call.content.kind().name);
                    (id, false)
                }
                Enqueued::Replayed(earlier) => (earlier, true),
                Enqueued::KeyReused => return Err(ApiError::IdempotencyKeyReused),
                Enqueued::NotConnected => return Err(ApiError::ChannelNotConnected),
                Enqueued::QueueFull => return Err(ApiError::QueueFull),
                Enqueued::OldNodes => return Err(ApiError::UpgradeInProgress),
                Enqueued::NoChannel => return Err(ApiError::ChannelNotFound),
            }
        }
    };
    answer::accepted(gateway, &entry, channel, &request, id, replayed).await
}

/// The message of an earlier call with this key, or the refusal. It stores nothing.
async fn replay(gateway: &Gateway, key: Option<Idempotency>, refusal: ApiError) -> Result<MessageId, ApiError> {
    let Some(key) = key else { return Err(refusal) };
    match gateway.store.earlier_use(key).await? {
        Some(Enqueued::Replayed(earlier)) => Ok(earlier),
        Some(Enqueued::KeyReused) => Err(ApiError::IdempotencyKeyReused),
        _ => Err(refusal),
    }
}

/// The address at which the person of a conversation is reached now. A conversation keeps the number of its time, which may be
/// another person's now. `None`: the person has no number any more.
fn reachable(Conversation { address, contact, .. }: &Conversation) -> Option<&String> {
    let Some(contact) = contact.as_ref().filter(|_| AddressKind::of(address) == AddressKind::Phone) else {
        return Some(address);
    };
    let is_same = |phone: &&String| IdentityKey::phone(phone) == IdentityKey::phone(address);
    if contact.phone.as_ref().is_some_and(|phone| is_same(&phone)) { Some(address) } else { contact.phone.as_ref() }
}

/// A parsed call.
struct Request {
    call: Call,
    /// The name of the route in the stored uses of idempotency keys.
    route: &'static str,
    options: SendOptions,
}

impl Request {
    /// Parses headers and body, and reports every error of both, those of the headers first.
    fn parse(
        gateway: &Gateway,
        caller: &Caller<scope::MessagesSend>,
        kind: Option<&'static Kind>,
        headers: &HeaderMap,
        body: &JsonBody,
    ) -> Result<Self, ApiError> {
        let mut errors = FieldErrors::default();
        let options = SendOptions::read(headers, caller.environment, &mut errors);
        let context = Context {
            country: gateway.country(caller.institution),
            now: gateway.clock.now(),
            ignores_unknown: gateway.behaviour.unknown_fields == UnknownFields::Ignore,
            may_repeat: options.idempotency_key.is_some(),
        };
        let parsed = body.object().and_then(|object| {
            let kind_of_call = kind.map_or_else(|| Call::kind(&object), Ok)?;
            Ok(Call::parse(kind_of_call, &object, kind.is_none(), &context)?)
        });
        match parsed {
            Ok(call) if errors.is_empty() => Ok(Self { call, route: kind.map_or(ANY, |kind| kind.route), options }),
            Ok(_) => Err(errors.into()),
            Err(ApiError::Validation(of_body)) => {
                errors.append(of_body);
                Err(errors.into())
            }
            Err(other) => Err(other),
        }
    }

    fn idempotency(
        &self,
        gateway: &Gateway,
        caller: &Caller<scope::MessagesSend>,
        entry: &ChannelEntry,
        now: Millis,
    ) -> Option<Idempotency> {
        let fingerprint = |composed| self.call.fingerprint(entry.via.key, self.options.scenario, composed);
        self.options.idempotency_key.clone().map(|key| Idempotency {
            institution: caller.institution,
            environment: caller.environment,
            route: self.route,
            key,
            fingerprint: fingerprint(true),
            earlier_fingerprint: fingerprint(false),
            forget_before: now - millis(gateway.behaviour.keep_idempotency),
        })
    }

    /// Takes the recipient from the conversation that the call names. Returns the conversation if it is the one of the chat
    /// that goes on.
    async fn find_chat(&mut self, gateway: &Gateway, entry: &ChannelEntry) -> Result<Option<Conversation>, ApiError> {
        let Some(id) = self.call.common.conversation else { return Ok(None) };
        let owner = (entry.via.institution, entry.environment);
        let found = gateway.store.conversation(owner, id).await?;
        let conversation = found.filter(|conversation| conversation.channel == entry.via.key);
        let conversation = conversation.ok_or(ApiError::ConversationNotFound)?;
        let given = reachable(&conversation).ok_or(ApiError::ConversationNotFound)?.clone();
        // A network may name a chat by what is no address of a call.
        let address = Address::parse(&given, None).map_err(|_| ApiError::not_supported([CONVERSATION]))?;
        let goes_on = conversation.closed_at.is_none() && conversation.address == given;
        self.call.common.to = Some(GivenAddress { given, address });
        Ok(Some(conversation).filter(|_| goes_on))
    }

    /// The address of the recipient.
    fn address(&self) -> &str {
        self.call.common.to.as_ref().map_or("", |to| to.address.as_str())
    }

    /// Checks the call before it reaches the store, and returns the quoted message, if there is one.
    async fn check(
        &self,
        gateway: &Gateway,
        entry: &ChannelEntry,
        chat: Option<Conversation>,
        now: Millis,
    ) -> Result<Option<Target>, ApiError> {
        let missing = self.call.not_supported(entry.kind);
        if !missing.is_empty() {
            return Err(ApiError::not_supported(missing));
        }
        self.call.common.is_schedulable(now)?;
        self.check_window(gateway, entry, chat, now).await?;
        let Common { reply_to: Some(name), .. } = &self.call.common else { return Ok(None) };
        let sent_at = self.call.common.send_at.unwrap_or(now);
        quote::find(gateway, entry, (self.address(), name.as_str()), sent_at).await.map(Some)
    }

    /// Refuses a message for a window that is known to be closed, if the channel wants that. A person may write before a
    /// scheduled message is due. `chat`: the active conversation, if it was read already.
    async fn check_window(
        &self,
        gateway: &Gateway,
        entry: &ChannelEntry,
        chat: Option<Conversation>,
        now: Millis,
    ) -> Result<(), ApiError> {
        if self.call.common.send_at.is_some() || entry.settings().common().window_guard == WindowGuard::Off {
            return Ok(());
        }
        let owner = (entry.via.institution, entry.environment);
        let chat = match chat {
            Some(chat) => Some(chat),
            None => gateway.store.latest_conversation(owner, entry.via.key, self.address().to_owned()).await?,
        };
        match chat.map(|chat| chat.window(now).state) {
            Some(WindowState::Closed) => Err(ApiError::WindowClosed),
            _ => Ok(()),
        }
    }

    /// The message to store.
    async fn message(
        &self,
        gateway: &Gateway,
        entry: &ChannelEntry,
        idempotency: Option<Idempotency>,
        target: Option<Target>,
        now: Millis,
    ) -> Result<NewMessage, ApiError> {
        let (behaviour, ids, common) = (&gateway.behaviour, gateway.new_ids(), &self.call.common);
        let id = ids.message();
        // The Cloud API accepts no id except the one that it returns with its statuses.
        let network_id = if entry.kind.descriptor().sends_message_id { id.to_string() } else { ids.network() };
        let ttl = common.ttl_seconds.map_or(millis(behaviour.message_ttl), |seconds| Millis::from(seconds) * 1_000);
        let payload = serde_json::to_string(&Stored::new(&self.call, target)).map_err(|_| ApiError::Internal)?;
        Ok(NewMessage {
            id,
            channel: entry.via.key,
            network_id,
            recipient: self.address().to_owned(),
            payload,
            kind: self.call.content.kind().name,
            rendition: self.rendition(gateway, entry).await,
            reference: common.reference.clone(),
            send_at: common.send_at,
            scenario: self.options.scenario.map(str::to_owned),
            accepted_at: now,
            expires_at: common.send_at.unwrap_or(now) + ttl,
            backlog_cap: behaviour.backlog_cap,
            idempotency,
        })
    }

    /// The rendition, with the accounts that are known without a query to the network.
    async fn rendition(&self, gateway: &Gateway, entry: &ChannelEntry) -> Option<String> {
        let cards = self.call.content.cards();
        let mut named = Vec::with_capacity(cards.len());
        let network = gateway.drivers.of(entry.kind);
        for card in &cards {
            let mut accounts = Vec::with_capacity(card.phones.len());
            for phone in &card.phones {
                accounts.push(match &network {
                    Some(network) => network.known_account(&entry.via, &phone.number).await,
                    None => None,
                });
            }
            named.push(accounts);
        }
        ContactRendition::stored(&cards, &named)
    }
}

#[cfg(test)]
mod tests {
    use recado_domain::api_key::Environment;
    use recado_domain::conversation::{Status, Who};
    use recado_domain::event::ChatKind;
    use recado_domain::ids::{ContactId, ConversationId, InstitutionId};

    use super::*;

    /// The contact of a conversation.
    #[derive(Debug)]
    enum Contact {
        No,
        WithoutNumber,
        Number(&'static str),
    }

    fn conversation(address: &str, contact: &Contact) -> Conversation {
        let who = |phone| Who { id: ContactId::new(1, [1; 10]), name: "Ana".to_owned(), phone };
        let contact = match contact {
            Contact::No => None,
            Contact::WithoutNumber => Some(who(None)),
            Contact::Number(phone) => Some(who(Some((*phone).to_owned()))),
        };
        Conversation {
            id: ConversationId::new(1, [1; 10]),
            owner: (InstitutionId::from_bytes([1; 16]), Environment::Live),
            channel: 1,
            channel_id: "vendas".to_owned(),
            chat: ChatKind::Direct,
            address: address.to_owned(),
            chat_name: None,
            contact,
            assigned_to: None,
            department: None,
            note: None,
            status: Status::Open,
            last: None,
            unread: 0,
            windowed: false,
            person_wrote_at: None,
            created_at: 1,
            updated_at: 1,
            closed_at: None,
            close_reason: None,
            active_at: 1,
        }
    }

    #[test]
    fn a_person_is_reached_by_the_present_number_or_not_at_all() {
        let (long, short, other) = ("5511977776666", "551177776666", "5521966665555");
        for (address, contact, reached) in [
            (long, Contact::No, Some(long)),
            // The form of the network, not the one that a caller typed.
            (long, Contact::Number(short), Some(long)),
            (long, Contact::Number(other), Some(other)),
            (long, Contact::WithoutNumber, None),
            ("", Contact::WithoutNumber, None),
            ("900@lid", Contact::WithoutNumber, Some("900@lid")),
            ("900@lid", Contact::Number(other), Some("900@lid")),
            ("120363@g.us", Contact::No, Some("120363@g.us")),
        ] {
            let found = conversation(address, &contact);
            assert_eq!(reachable(&found).map(String::as_str), reached, "{address} {contact:?}");
        }
    }
}
