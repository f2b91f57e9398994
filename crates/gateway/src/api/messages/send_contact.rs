//! `POST /v1/channels/{channelId}/messages/contact`: the main call. A 202 means that the message is on disk.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use recado_domain::api_key::{Environment, Scope};
use recado_domain::channel::ChannelType;
use recado_domain::clock::millis;
use recado_domain::contact::{ContactMessage, FIELDS, NAME_LIMIT, PART_LIMIT};
use recado_domain::field_errors::FieldErrors;
use recado_domain::ids::MessageId;
use recado_domain::message::{CardAccount, ContactRendition, Enqueued, Idempotency, NewMessage, Stored};
use recado_domain::phone::Country;
use recado_domain::{email, vcard};
use recado_providers::sandbox::{CARD_SCENARIOS, Scenario};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::view::MessageView;
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{JSON, JsonBody, Object};
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::config::UnknownFields;
use crate::directory::ChannelEntry;
use crate::gateway::Gateway;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SCENARIO: HeaderName = HeaderName::from_static("x-ogmma-sandbox-scenario");
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The route's name in the idempotency table; it outlives changes of the path.
const ROUTE: &str = "messages/contact";
/// The body of a 202: exactly these bytes.
const ACCEPTED: &str = r#"{"success":true,"message":"Mensagem enfileirada para envio"}"#;
/// Its text.
const ACCEPTED_TEXT: &str = "Mensagem enfileirada para envio";

/// Accepts a contact card.
pub async fn send_contact(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::MessagesSend>,
    Ids([channel]): Ids<1>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let call = Call::parse(&gateway, &caller, &headers, &body)?;
    let entry = caller.channel(&gateway, &channel)?;
    let message = call.message(&gateway, &caller, &entry).await?;
    let id = message.id;
    let (id, replayed) = match gateway.store.enqueue(message).await? {
        Enqueued::Accepted => (id, false),
        Enqueued::Replayed(earlier) => (earlier, true),
        Enqueued::KeyReused => return Err(ApiError::IdempotencyKeyReused),
        Enqueued::NotConnected => return Err(ApiError::ChannelNotConnected),
        Enqueued::QueueFull => return Err(ApiError::QueueFull),
        Enqueued::NoChannel => return Err(ApiError::ChannelNotFound),
    };
    accepted(&gateway, &entry, &channel, &call, id, replayed).await
}

/// What the OpenAPI document says of it.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let sent = json!({"channelId": "$request.path.channelId", "messageId": "$response.header.X-Message-Id"});
    let example = json!({"to": "5511999998888", "name": "Maria Silva - Suporte", "phone": "5511988887777"});
    operation
        .named("Messages", "sendContact", "Send a contact card")
        .about(
            "The 202 is sent after the message is on disk. Under the setting `unknown_fields=ignore` a field that the \
             call does not know is not refused but named in `X-Ignored-Fields`.",
        )
        .needs(Scope::MessagesSend)
        .header(
            "Idempotency-Key",
            "A repeated call with the same key within 24 hours (a setting) makes no second message.",
            json!({"type": "string", "pattern": "^[!-~]{1,255}$"}),
        )
        .header(
            "Prefer",
            "`return=representation` adds `data`, the stored message, to the 202.",
            json!({"type": "string", "examples": ["return=representation"]}),
        )
        .header(
            "X-Ogmma-Sandbox-Scenario",
            "The trouble that the simulated network makes for this message. For test keys.",
            schemas::one_of(CARD_SCENARIOS.map(|(name, ..)| name)),
        )
        .body("ContactCall", body_schema(), example)
        .answers::<Accepted>(202, "Stored, and will be sent.", json!({"success": true, "message": ACCEPTED_TEXT}))
        .sure_header(202, "Location", "Where to ask what became of it.", json!({"type": "string"}))
        .sure_header(202, "X-Message-Id", "The message's id.", schemas::uuid())
        .answer_header(
            202,
            "Idempotent-Replayed",
            "It is a call made before.",
            json!({"type": "string", "const": "true"}),
        )
        .answer_header(
            202,
            "Preference-Applied",
            "`data` is there.",
            json!({"type": "string", "const": "return=representation"}),
        )
        .answer_header(
            202,
            "X-Ignored-Fields",
            "Fields that were left out, percent-encoded.",
            json!({"type": "string"}),
        )
        .link(202, "message", "getMessage", &sent)
        .link(202, "card", "getMessageCard", &sent)
        .link(202, "cancel", "cancelMessage", &sent)
        .refuses([
            ApiError::field("name", "O nome do contato e obrigatorio."),
            ApiError::ChannelNotFound,
            ApiError::ChannelNotConnected,
            ApiError::IdempotencyKeyReused,
            ApiError::QueueFull,
            ApiError::Unavailable,
        ])
}

fn body_schema() -> Value {
    let mut email = json!({"type": "string", "format": "idn-email", "maxLength": 254});
    email["description"] = "The domain has a dot; no display name, no domain literal.".into();
    json!({
        "type": "object",
        "description": "A contact card and who gets it. Values are trimmed; an optional field that is empty is none.",
        "required": ["to", "name", "phone"],
        "additionalProperties": false,
        "properties": {
            "to": schemas::phone("The recipient: country, area and number (DDI+DDD+NUM)."),
            "name": schemas::name(NAME_LIMIT, true),
            "phone": schemas::phone("The number on the card, in the same form."),
            "email": {"anyOf": [email, {"const": ""}, {"type": "null"}]},
            "organization": schemas::name(NAME_LIMIT, false),
            "firstName": schemas::name(PART_LIMIT, false),
            "lastName": schemas::name(PART_LIMIT, false),
        },
    })
}

/// What one call asks for.
struct Call {
    contact: ContactMessage,
    idempotency_key: Option<String>,
    scenario: Option<&'static str>,
    wants_message: bool,
    ignored: Vec<String>,
}

impl Call {
    /// Reads headers and body; every fault of both is told at once, the headers' first.
    fn parse(
        gateway: &Gateway,
        caller: &Caller<scope::MessagesSend>,
        headers: &HeaderMap,
        body: &JsonBody,
    ) -> Result<Self, ApiError> {
        let mut errors = FieldErrors::default();
        let idempotency_key = errors.take("Idempotency-Key", idempotency_key(headers).map_err(Into::into));
        let scenario = scenario(headers, caller.environment).map_err(Into::into);
        let scenario = errors.take("X-Ogmma-Sandbox-Scenario", scenario);
        let parsed = body
            .object()
            .and_then(|object| contact(&object, gateway.country(caller.institution), gateway.behaviour.unknown_fields));
        let (contact, ignored) = match parsed {
            Ok(parsed) if errors.is_empty() => parsed,
            Err(ApiError::Validation(of_body)) => {
                errors.append(of_body);
                return Err(errors.into());
            }
            Ok(_) => return Err(errors.into()),
            Err(other) => return Err(other),
        };
        let (idempotency_key, scenario) = (idempotency_key.flatten(), scenario.flatten());
        Ok(Self { contact, idempotency_key, scenario, wants_message: wants_message(headers), ignored })
    }

    /// The message to be stored.
    async fn message(
        &self,
        gateway: &Gateway,
        caller: &Caller<scope::MessagesSend>,
        entry: &ChannelEntry,
    ) -> Result<NewMessage, ApiError> {
        let (behaviour, now, ids) = (&gateway.behaviour, gateway.clock.now(), gateway.new_ids());
        let card = &self.contact.card;
        let known = match gateway.providers.of(entry.kind) {
            Some(network) => network.known_account(&entry.via, &card.phone.number).await,
            None => None,
        };
        let card_account = CardAccount {
            known: known.is_some(),
            digits: known.unwrap_or_else(|| card.phone.number.digits().to_owned()),
        };
        let rendition = ContactRendition::of_one(vcard::render(card, &card_account.digits), card_account);
        let idempotency = self.idempotency_key.clone().map(|key| Idempotency {
            institution: caller.institution,
            environment: caller.environment,
            route: ROUTE,
            key,
            fingerprint: self.fingerprint(entry, true),
            earlier_fingerprint: self.fingerprint(entry, false),
            forget_before: now - millis(behaviour.keep_idempotency),
        });
        let id = ids.message();
        // The Cloud API takes no id but one that it hands back with its statuses.
        let network_id = if entry.kind == ChannelType::CloudApi { id.to_string() } else { ids.network() };
        Ok(NewMessage {
            id,
            channel: entry.via.key,
            network_id,
            recipient: self.contact.to.number.digits().to_owned(),
            payload: serde_json::to_string(&Stored::from(&self.contact)).map_err(|_| ApiError::Internal)?,
            kind: "contact",
            rendition: Some(rendition.to_json()),
            reference: None,
            scenario: self.scenario.map(str::to_owned),
            accepted_at: now,
            expires_at: now + millis(behaviour.message_ttl),
            backlog_cap: behaviour.backlog_cap,
            idempotency,
        })
    }

    /// What makes two calls the same: the channel, the fields by their meaning, and the scenario. An address composed
    /// and not is the same one; versions before this one stored it as given, which is `composed` false.
    fn fingerprint(&self, entry: &ChannelEntry, composed: bool) -> [u8; 32] {
        let card = &self.contact.card;
        let email = card.email.as_deref();
        let email = email.map(|given| if composed { email::compared(given) } else { given.into() });
        let mut parts = vec![
            Some(self.contact.to.number.digits()),
            Some(&card.name),
            Some(card.phone.number.digits()),
            email.as_deref(),
            card.organization.as_deref(),
            self.scenario,
        ];
        // Absent, they leave the fingerprint what it was before there were such fields.
        if card.first_name.is_some() || card.last_name.is_some() {
            parts.extend([card.first_name.as_deref(), card.last_name.as_deref()]);
        }
        let mut hash = Sha256::new().chain_update(entry.via.key.to_be_bytes());
        for part in parts {
            // With its length in front, so that text cannot wander from one field into the next.
            let length = part.map_or(u64::MAX, |text| text.len() as u64);
            hash = hash.chain_update(length.to_be_bytes()).chain_update(part.unwrap_or_default());
        }
        hash.finalize().into()
    }
}

fn contact(
    object: &Object<'_>,
    country: Option<Country>,
    unknown: UnknownFields,
) -> Result<(ContactMessage, Vec<String>), ApiError> {
    let [to, name, phone, email, organization, first, last] = FIELDS.map(|field| object.text(field));
    let parsed = ContactMessage::parse(&[to?, name?, phone?, email?, organization?, first?, last?], country);
    let strange = object.refuse_unknown(&FIELDS);
    match parsed {
        Ok(contact) if strange.is_empty() => Ok((contact, Vec::new())),
        Ok(contact) if unknown == UnknownFields::Ignore => {
            Ok((contact, object.unknown(&FIELDS).into_iter().map(str::to_owned).collect()))
        }
        Err(errors) if unknown == UnknownFields::Ignore => Err(errors.into()),
        parsed => {
            let mut errors = parsed.err().unwrap_or_default();
            errors.append(strange);
            Err(errors.into())
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(key) if visible && (1..=255).contains(&key.len()) && values.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err("A Idempotency-Key deve ter de 1 a 255 caracteres ASCII visiveis."),
    }
}

fn scenario(headers: &HeaderMap, environment: Environment) -> Result<Option<&'static str>, &'static str> {
    let mut values = headers.get_all(SCENARIO).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if environment == Environment::Live {
        return Err("O cenario de sandbox exige uma chave de teste.");
    }
    let name = value.to_str().ok().filter(|_| values.next().is_none());
    name.and_then(Scenario::name_of).map(Some).ok_or("Cenario de sandbox desconhecido.")
}

fn wants_message(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';']));
    preferences.any(|preference| preference.trim().eq_ignore_ascii_case("return=representation"))
}

/// The message is stored.
#[derive(Serialize, JsonSchema)]
struct Accepted {
    #[schemars(extend("const" = true))]
    success: bool,
    #[schemars(extend("const" = ACCEPTED_TEXT))]
    message: &'static str,
    /// With `Prefer: return=representation` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<MessageView>,
}

async fn accepted(
    gateway: &Gateway,
    entry: &ChannelEntry,
    channel: &str,
    call: &Call,
    id: MessageId,
    replayed: bool,
) -> Result<Response, ApiError> {
    let mut body = ACCEPTED.to_owned();
    let mut headers = HeaderMap::with_capacity(8);
    // A wish: it is stored, so a look at it that fails must not say that it is not.
    if call.wants_message
        && let Ok(Some(message)) = gateway.store.message(entry.via.key, id).await
    {
        let data = Some(MessageView::new(message, entry.via.id.as_str())?);
        let full = Accepted { success: true, message: ACCEPTED_TEXT, data };
        body = serde_json::to_string(&full).map_err(|_| ApiError::Internal)?;
        headers.insert("preference-applied", HeaderValue::from_static("return=representation"));
    }
    let id = id.to_string();
    // Ids of channels and messages are plain ASCII; anything else would have been no channel's.
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| ApiError::Internal);
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(LOCATION, value(&format!("/v1/channels/{channel}/messages/{id}"))?);
    headers.insert("x-message-id", value(&id)?);
    if replayed {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    if !call.ignored.is_empty() {
        headers.insert("x-ignored-fields", value(&ignored_fields(&call.ignored))?);
    }
    Ok((StatusCode::ACCEPTED, headers, body).into_response())
}

/// Names for a header: percent-encoded, and cut with `...` where a hostile body would make it endless.
fn ignored_fields(names: &[String]) -> String {
    const LONGEST: usize = 1_024;
    let mut list = String::new();
    for name in names {
        let separator = if list.is_empty() { "" } else { ", " };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let encoded =
            name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
        let encoded = encoded.take(LONGEST).collect::<String>();
        if list.len() + encoded.len() > LONGEST {
            list += &format!("{separator}...");
            break;
        }
        list += &format!("{separator}{encoded}");
    }
    list
}
