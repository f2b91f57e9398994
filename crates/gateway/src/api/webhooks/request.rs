//! The fields of a webhook in a body: all of them are read, and every invalid one is named.

use std::borrow::Cow;

use axum::http::{HeaderValue, Uri};
use recado_domain::channel::ChannelKey;
use recado_domain::event::{ChatKind, NOT_YET, Patterns};
use recado_domain::field_errors::{Field, FieldErrors, REPEATED, UNKNOWN};
use recado_domain::text;
use recado_domain::webhook::{DeliveryOrder, RetryPolicy};
use recado_providers::outbound::client::Client;
use recado_providers::outbound::url::{LENGTH, TargetUrl, is_port};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::api::auth::Caller;
use crate::api::error::ApiError;
use crate::api::events::{BAD_CHATS, chats, pattern_form, patterns};
use crate::api::fields::{self, Fields};
use crate::api::json::Object;
use crate::api::openapi::schemas;
use crate::gateway::Gateway;
use crate::signature::{secret_is_readable, secret_is_valid};
use crate::webhooks::Headers;

/// The fields of a body.
pub const FIELDS: [&str; 11] = [
    "name",
    "url",
    "events",
    "secret",
    "active",
    "retryPolicy",
    "channelIds",
    "chatKinds",
    "headers",
    "content",
    "order",
];

/// Most characters of a name, and fewest.
const NAME: (usize, usize) = (3, 100);
/// Most channels that one webhook names.
const CHANNELS: usize = 200;
/// Most fixed headers of one webhook, and most bytes of one value.
const HEADERS: (usize, usize) = (10, 2_048);
const SECRET: (usize, usize) = (16, 256);

pub const BAD_URL: &str = "O campo url deve ser uma URL https.";
pub const BAD_ADDRESS: &str = "O endereco do webhook nao e permitido.";
const BAD_NAME: &str = "O nome deve ter de 3 a 100 caracteres.";
const BAD_EVENTS: &str = "O campo events deve ser uma lista de 1 a 64 eventos.";
const BAD_SECRET: &str = "O secret deve ter de 16 a 256 caracteres.";
const BAD_BASE64: &str = "O secret deve ter base64 depois de whsec_.";
const LONG_URL: &str = "O campo url deve ter no maximo 2048 caracteres.";
const BAD_PORT: &str = "O campo url deve ter a porta 80, 443 ou de 1024 a 65535.";
const WITH_USER: &str = "O campo url deve ser uma URL sem usuario e senha.";
const BAD_CHANNELS: &str = "O campo channelIds deve ser uma lista de 1 a 200 canais.";
const BAD_ORDER: &str = "O campo order deve ser message ou conversation.";
const BAD_HEADERS: &str = "O campo headers deve ter no maximo 10 cabecalhos.";

/// Headers that only this server, or the connection, sets.
const RESERVED: [&str; 12] = [
    "host",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// What a body gives. `None`: the field was left out, or is `null`.
#[derive(Default)]
pub struct Request {
    pub name: Option<String>,
    pub url: Option<TargetUrl>,
    pub events: Option<Patterns>,
    pub secret: Option<SecretString>,
    pub active: Option<bool>,
    /// `null` sets the long schedule again.
    pub retry: Given<RetryPolicy>,
    /// `null` chooses all channels again.
    pub channels: Given<Vec<ChannelKey>>,
    pub chats: Option<Vec<ChatKind>>,
    pub headers: Option<Headers>,
    pub content: Option<bool>,
    pub order: Option<DeliveryOrder>,
}

/// A field that a caller can set back to its default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Given<T> {
    #[default]
    LeftOut,
    Null,
    Value(T),
}

impl<T: Clone> Given<T> {
    /// The value of a new webhook.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::LeftOut | Self::Null => None,
        }
    }

    /// Changes a value.
    pub fn put(&self, place: &mut Option<T>) {
        match self {
            Self::LeftOut => {}
            Self::Null => *place = None,
            Self::Value(value) => *place = Some(value.clone()),
        }
    }
}

type Checked<T> = Result<T, Cow<'static, str>>;

impl Request {
    /// Reads a body. A new webhook needs a URL and events.
    pub async fn read<S>(
        gateway: &Gateway,
        caller: &Caller<S>,
        object: &Object<'_>,
        is_new: bool,
    ) -> Result<Self, ApiError> {
        if object.has("channelIds") {
            // Another node may have created the channel a moment ago.
            gateway.nodes.refresh().await?;
        }
        Self::parse(object, is_new, gateway.webhooks.client(), |id| {
            // A deleted channel is accepted too, so that a client can send back the channels that it has read.
            caller.channel_or_its_history(gateway, id).ok().map(|entry| entry.via.key)
        })
    }

    /// Reads a body. `client` checks the URL, and `find` finds a channel of the caller.
    fn parse(
        object: &Object<'_>,
        is_new: bool,
        client: &Client,
        find: impl Fn(&str) -> Option<ChannelKey>,
    ) -> Result<Self, ApiError> {
        let mut fields = Fields::new(object);
        let required = |name: &'static str, text: &'static str| {
            if is_new && !object.has(name) { Err(Cow::from(text)) } else { Ok(()) }
        };
        let [name, url, secret] = ["name", "url", "secret"].map(|name| object.text(name));
        let (name, url, secret) = (name?, url?, secret?);
        let request = Self {
            name: fields.collect("name", read_name(&name)).flatten(),
            url: fields.collect("url", required("url", BAD_URL).and_then(|()| read_url(&url, client))).flatten(),
            events: fields
                .collect("events", required("events", BAD_EVENTS).and_then(|()| read_events(object)))
                .flatten(),
            secret: fields.collect("secret", read_secret(&secret)).flatten(),
            active: fields.collect("active", object.flag("active")).flatten(),
            retry: read_retry(&mut fields),
            channels: fields.collect("channelIds", read_channels(object, find)).unwrap_or_default(),
            chats: fields.collect("chatKinds", read_chats(object)).flatten(),
            headers: read_headers(&mut fields)?,
            content: fields.collect("content", object.flag("content")).flatten(),
            order: fields.collect("order", read_order(object)).flatten(),
        };
        fields.finish(&FIELDS)?;
        Ok(request)
    }
}

/// The name of a webhook without a given name: the host of its URL, or the whole URL if the host is too short.
pub fn default_name(url: &TargetUrl) -> String {
    let host = url.host_text();
    let name = if host.len() < NAME.0 { url.to_string() } else { host.to_owned() };
    name.chars().take(NAME.1).collect()
}

fn read_name(given: &Field<'_>) -> Checked<Option<String>> {
    given.text("name")?;
    let Field::Text(text) = given else { return Ok(None) };
    let name = fields::line("name", text, NAME.1).ok().flatten();
    name.filter(|name| name.chars().count() >= NAME.0).map(Some).ok_or(BAD_NAME.into())
}

fn read_url(given: &Field<'_>, client: &Client) -> Checked<Option<TargetUrl>> {
    given.text("url")?;
    let Field::Text(text) = given else { return Ok(None) };
    let url = TargetUrl::parse(text).map_err(|_| url_fault(text))?;
    if !url.secure && client.refuses(&url) {
        return Err(BAD_URL.into());
    }
    if client.refuses(&url) { Err(BAD_ADDRESS.into()) } else { Ok(Some(url)) }
}

/// What is wrong with a URL that may not be called.
fn url_fault(text: &str) -> &'static str {
    if text.len() > LENGTH {
        return LONG_URL;
    }
    let uri = text.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("https" | "http")));
    match uri.as_ref().and_then(Uri::authority) {
        Some(authority) if authority.as_str().contains('@') => WITH_USER,
        Some(authority) if authority.port_u16().is_some_and(|port| !is_port(port)) => BAD_PORT,
        _ => BAD_URL,
    }
}

fn read_events(object: &Object<'_>) -> Checked<Option<Patterns>> {
    let Some(texts) = object.value::<Vec<String>>("events", || BAD_EVENTS.into())? else { return Ok(None) };
    if texts.is_empty() || texts.len() > Patterns::LIMIT {
        return Err(BAD_EVENTS.into());
    }
    Ok(Some(patterns(&texts, false)?))
}

fn read_secret(given: &Field<'_>) -> Checked<Option<SecretString>> {
    match given {
        Field::Absent => Ok(None),
        Field::Text(text) if secret_is_valid(text) => Ok(Some(text.to_string().into())),
        Field::Repeated => Err(REPEATED.into()),
        Field::Text(text) if secret_is_readable(text) => Err(BAD_BASE64.into()),
        Field::Text(_) | Field::WrongType => Err(BAD_SECRET.into()),
    }
}

fn read_retry(fields: &mut Fields<'_, '_>) -> Given<RetryPolicy> {
    const RETRY: [&str; 2] = ["maxRetries", "retryDelay"];
    // The longest delay is 300,000.
    let delays = RetryPolicy::DELAYS;
    let delays = (u32::try_from(delays.0).unwrap_or(0), u32::try_from(delays.1).unwrap_or(u32::MAX));
    let object = fields.object();
    if object.is_null("retryPolicy") {
        return Given::Null;
    }
    let policy = fields.collect("retryPolicy", object.child("retryPolicy")).flatten();
    let Some(policy) = policy else { return Given::LeftOut };
    let bad = |name: &str, (least, most): (u32, u32)| {
        Cow::from(format!("O campo retryPolicy.{name} deve ser um numero de {least} a {most}."))
    };
    let most = RetryPolicy::MAX_RETRIES;
    let retries = policy.whole(RETRY[0], 0..=most, || bad(RETRY[0], (0, most)));
    let delay = policy.whole(RETRY[1], delays.0..=delays.1, || bad(RETRY[1], delays));
    let retries = fields.collect("retryPolicy.maxRetries", retries).flatten();
    let delay = fields.collect("retryPolicy.retryDelay", delay).flatten();
    for name in policy.unknown(&RETRY) {
        fields.fault(policy.path(name).into_owned(), UNKNOWN);
    }
    let default = RetryPolicy::DEFAULT;
    Given::Value(RetryPolicy {
        max_retries: retries.unwrap_or(default.max_retries),
        delay: delay.map_or(default.delay, i64::from),
    })
}

fn read_channels(object: &Object<'_>, find: impl Fn(&str) -> Option<ChannelKey>) -> Checked<Given<Vec<ChannelKey>>> {
    if object.is_null("channelIds") {
        return Ok(Given::Null);
    }
    let Some(ids) = object.value::<Vec<String>>("channelIds", || BAD_CHANNELS.into())? else {
        return Ok(Given::LeftOut);
    };
    if ids.is_empty() || ids.len() > CHANNELS {
        return Err(BAD_CHANNELS.into());
    }
    // Another institution's channel looks like one that does not exist.
    let keys: Option<Vec<_>> = ids.iter().map(|id| find(id)).collect();
    let mut keys = keys.ok_or("Canal nao encontrado.")?;
    keys.sort_unstable();
    keys.dedup();
    Ok(Given::Value(keys))
}

fn read_chats(object: &Object<'_>) -> Checked<Option<Vec<ChatKind>>> {
    let Some(names) = object.value::<Vec<String>>("chatKinds", || BAD_CHATS.into())? else { return Ok(None) };
    let given = chats(&names).filter(|_| names.len() <= ChatKind::ALL.len()).ok_or(BAD_CHATS)?;
    Ok(Some(ChatKind::ALL.into_iter().filter(|kind| given.contains(kind)).collect()))
}

fn read_order(object: &Object<'_>) -> Checked<Option<DeliveryOrder>> {
    let name = object.value::<String>("order", || BAD_ORDER.into())?;
    name.map(|name| DeliveryOrder::from_name(&name).ok_or(BAD_ORDER.into())).transpose()
}

/// The fixed headers. Their names are compared without case.
fn read_headers(fields: &mut Fields<'_, '_>) -> Result<Option<Headers>, FieldErrors> {
    let object = fields.object();
    if object.is_null("headers") {
        return Ok(Some(Headers::default()));
    }
    let Some(given) = fields.collect("headers", object.child("headers")).flatten() else { return Ok(None) };
    let names: Vec<String> = given.unknown(&[]).into_iter().map(str::to_owned).collect();
    if names.len() > HEADERS.0 {
        fields.fault("headers", BAD_HEADERS);
        return Ok(None);
    }
    let mut headers = Vec::with_capacity(names.len());
    for name in &names {
        let value = given.text(name)?;
        let known = headers.iter().any(|(known, _): &(String, SecretString)| known.eq_ignore_ascii_case(name));
        match if known { Err(Cow::from(REPEATED)) } else { read_header(name, &value) } {
            Ok(value) => headers.push((name.clone(), value)),
            // The error does not repeat the name, because the name can have any length.
            Err(text) if name.len() > fields::ID_LIMIT => fields.fault("headers", text),
            Err(text) => fields.fault(given.path(name).into_owned(), text),
        }
    }
    Ok(Some(Headers(headers)))
}

fn read_header(name: &str, value: &Field<'_>) -> Checked<SecretString> {
    let lower = name.to_ascii_lowercase();
    let reserved = RESERVED.contains(&&*lower) || ["content-", "webhook-"].iter().any(|start| lower.starts_with(start));
    let is_name = (1..=fields::ID_LIMIT).contains(&name.len())
        && name.starts_with(|sign: char| sign.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if reserved || !is_name {
        return Err("Este cabecalho nao e permitido.".into());
    }
    let bad = || Cow::from("O valor do cabecalho deve ter de 1 a 2048 caracteres ASCII visiveis.");
    match value {
        Field::Text(text) if text.trim() == text && (1..=HEADERS.1).contains(&text.len()) && text.is_ascii() => {
            HeaderValue::from_str(text).map(|_| text.to_string().into()).map_err(|_| bad())
        }
        Field::Repeated => Err(REPEATED.into()),
        _ => Err(bad()),
    }
}

/// The schema of a body. A new webhook requires fields.
pub fn schema(is_new: bool) -> Value {
    let pattern = json!({"type": "string", "pattern": format!("^{}$", pattern_form())});
    let later =
        format!("Names, groups such as `message.*`, or `*`. Not sent by this version: `{}`.", NOT_YET.join("`, `"));
    let (any, shown) = (schemas::class(|sign| !text::is_forbidden(sign)), schemas::class(text::shows));
    let name = json!({
        "type": ["string", "null"],
        "minLength": NAME.0,
        "maxLength": NAME.1,
        "pattern": format!("^{shown}{any}+{shown}$"),
        "description": "Left out: the host of the URL.",
    });
    let retry = json!({
        "type": ["object", "null"],
        "additionalProperties": false,
        "description": "That number of retries at that interval. `null`: retries for more than three days.",
        "properties": {
            "maxRetries": {"type": ["integer", "null"], "minimum": 0, "maximum": RetryPolicy::MAX_RETRIES, "default": 5},
            "retryDelay": {"type": ["integer", "null"], "minimum": RetryPolicy::DELAYS.0, "maximum": RetryPolicy::DELAYS.1, "default": 30_000, "description": "Milliseconds."},
        },
    });
    let headers = json!({
        "type": ["object", "null"],
        "maxProperties": HEADERS.0,
        "propertyNames": {"pattern": format!("^[A-Za-z][A-Za-z0-9_-]{{0,{}}}$", fields::ID_LIMIT - 1)},
        "additionalProperties": {"type": "string", "pattern": format!("^[!-~]([ -~]{{0,{}}}[!-~])?$", HEADERS.1 - 2)},
        "description": "Fixed headers of each request. `null` removes them. Their values are never shown. Not `Host`, `User-Agent`, `Content-*`, `webhook-*`, nor headers of the connection.",
    });
    let mut body = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "name": name,
            "url": {"type": nullable("string", is_new), "format": "uri", "maxLength": LENGTH, "pattern": "^https?://", "description": "With https, and with http only where the operator allows the address."},
            "events": {"type": nullable("array", is_new), "minItems": 1, "maxItems": Patterns::LIMIT, "items": pattern, "description": later},
            "secret": {"type": ["string", "null"], "minLength": SECRET.0, "maxLength": SECRET.1, "description": "`whsec_` and base64, or any text. A new webhook without one gets a random one, which only this answer shows. A replaced secret signs for 24 hours beside the new one."},
            "active": {"type": ["boolean", "null"], "default": true},
            "retryPolicy": retry,
            "channelIds": {"type": ["array", "null"], "minItems": 1, "maxItems": CHANNELS, "items": schemas::channel_id(), "description": "Only events of these channels. `null`: of all channels."},
            "chatKinds": {"type": ["array", "null"], "minItems": 1, "maxItems": 2, "items": {"enum": ChatKind::ALL.map(ChatKind::name)}, "default": ["DIRECT"]},
            "headers": headers,
            "content": {"type": ["boolean", "null"], "default": true, "description": "`false`: events have ids and states, no texts, names and numbers."},
            "order": {"enum": ["message", "conversation", null], "default": "message", "description": "`conversation`: an event waits for the earlier events of its conversation."},
        },
    });
    if is_new {
        body["required"] = json!(["url", "events"]);
    }
    body
}

fn nullable(kind: &str, is_new: bool) -> Value {
    if is_new { json!(kind) } else { json!([kind, "null"]) }
}
