//! `POST /v1/api-keys`: creates a key with at most the permissions of the calling key.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use recado_domain::api_key::{DEFAULT_RATE_LIMIT, Environment, Grant, MAX_RATE_LIMIT, RateLimit, Scope, Scopes};
use recado_domain::clock::Millis;
use recado_domain::field_errors::FieldErrors;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{ApiKeyView, example};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::json::{self, Data, JsonBody, Object};
use crate::api::openapi::{Operation, schemas};
use crate::gateway::Gateway;
use crate::operations::api_keys::{self, NAME_LIMIT, NewKey};

pub const FIELDS: [&str; 5] = ["name", "permissions", "rateLimit", "expiresAt", "environment"];

/// A key, and its secret.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CreatedApiKey")]
struct Created {
    /// The whole key. It is shown only once.
    key: String,
    #[serde(flatten)]
    view: ApiKeyView,
}

/// Creates a key.
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::KeysWrite>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let new = NewKey { parent: caller.key, ..parse(&body.object()?, &caller.grant, gateway.clock.now())? };
    if !new.grant.exceeds(&caller.grant).is_empty() {
        return Err(ApiError::Forbidden);
    }
    let (key, secret) = api_keys::create(&gateway, caller.institution, new).await?;
    let created = Created { key: secret.reveal().to_owned(), view: ApiKeyView::new(&key, None) };
    Ok(json::answer(StatusCode::CREATED, &Data { data: created }))
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let mut created = example();
    created["key"] = "oapi_sk_test_…".into();
    operation
        .named("API keys", "createApiKey", "Create an API key")
        .about(
            "A key grants no more than it has: a scope, an environment, a higher limit or a later end that is not its \
             own is a 403. Calls of the new key count as calls of the key that made it, too.",
        )
        .needs(Scope::KeysWrite)
        .body("NewApiKey", body_schema(), json!({"name": "crm", "permissions": ["messages.send"]}))
        .answers::<Data<Created>>(201, "The new key, shown this once.", json!({"data": created}))
        .refuses([ApiError::field("permissions", BAD_PERMISSIONS), ApiError::TooManyKeys, ApiError::Unavailable])
}

fn body_schema() -> Value {
    let scopes = json!({"type": "array", "minItems": 1, "items": schemas::one_of(Scope::ALL.map(Scope::name))});
    let rate_limit = json!({
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": MAX_RATE_LIMIT,
        "description": "Calls a minute, `null` for no limit. Left out: 60, or the giver's own where that is lower.",
    });
    let expires_at = json!({
        "type": ["string", "null"],
        "format": "date-time",
        "description": "A time in the future. Left out or `null`: the giver's own.",
    });
    let mut name = schemas::name(NAME_LIMIT, true);
    name["minLength"] = 3.into();
    json!({
        "type": "object",
        "required": ["name", "permissions"],
        "additionalProperties": false,
        "properties": {
            "name": name,
            "permissions": scopes,
            "rateLimit": rate_limit,
            "expiresAt": expires_at,
            "environment": {
                "type": ["string", "null"],
                "enum": ["live", "test", null],
                "description": "Left out or `null`: the giver's own. Another than that is a 403.",
            },
        },
    })
}

fn parse(object: &Object<'_>, giver: &Grant, now: Millis) -> Result<NewKey, ApiError> {
    let mut errors = FieldErrors::default();
    let name = object.text("name")?.text("name").map(|name| name.map(str::to_owned)).and_then(|name| {
        let name = name.ok_or("O nome da chave e obrigatorio.")?;
        api_keys::parse_name(&name)
    });
    let name = errors.collect("name", name);
    let scopes = errors.collect("permissions", permissions(object));
    let rate_limit = errors.collect("rateLimit", rate_limit(object, giver.rate_limit));
    let expires_at = object.value::<String>("expiresAt", || BAD_TIME.into()).and_then(|text| {
        let Some(text) = text else { return Ok(giver.expires_at) };
        parse_time(&text).filter(|end| *end > now).map(Some).ok_or(BAD_TIME.into())
    });
    let expires_at = errors.collect("expiresAt", expires_at);
    let environment = object.value::<String>("environment", || BAD_ENVIRONMENT.into()).and_then(|text| {
        let Some(text) = text else { return Ok(giver.environment) };
        Environment::from_name(&text).ok_or(BAD_ENVIRONMENT.into())
    });
    let environment = errors.collect("environment", environment);
    errors.append(object.refuse_unknown(&FIELDS));
    match (name, scopes, rate_limit, expires_at, environment, errors.is_empty()) {
        (Some(name), Some(scopes), Some(rate_limit), Some(expires_at), Some(environment), true) => {
            Ok(NewKey { name, grant: Grant { environment, scopes, rate_limit, expires_at }, parent: None })
        }
        _ => Err(errors.into()),
    }
}

const BAD_TIME: &str = "A expiracao deve ser uma data futura no formato ISO 8601.";
const BAD_ENVIRONMENT: &str = "O ambiente deve ser live ou test.";
const BAD_PERMISSIONS: &str = "As permissoes devem ser uma lista com ao menos um escopo conhecido.";
const BAD_RATE_LIMIT: &str = "O limite deve ser um numero de 1 a 10000, ou null para ilimitado.";

/// Parses a time of RFC 3339, in Unix milliseconds.
pub fn parse_time(text: &str) -> Option<Millis> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

fn permissions(object: &Object<'_>) -> Result<Scopes, std::borrow::Cow<'static, str>> {
    let names = object.value::<Vec<String>>("permissions", || BAD_PERMISSIONS.into())?.unwrap_or_default();
    let scope = |name: &String| {
        Scope::from_name(name).ok_or_else(|| {
            // The name can have any length.
            let shown: String = name.chars().filter(|sign| !sign.is_control()).take(64).collect();
            format!("Escopo desconhecido: {shown}.")
        })
    };
    let scopes: Scopes = names.iter().map(scope).collect::<Result<_, _>>()?;
    if scopes.is_empty() { Err(BAD_PERMISSIONS.into()) } else { Ok(scopes) }
}

/// The requested limit. The default is the usual limit, or the caller's own if that is lower.
fn rate_limit(object: &Object<'_>, own: RateLimit) -> Result<RateLimit, std::borrow::Cow<'static, str>> {
    if object.is_null("rateLimit") {
        return Ok(None);
    }
    let given = object.whole("rateLimit", 1..=MAX_RATE_LIMIT, || BAD_RATE_LIMIT.into())?;
    Ok(Some(given.unwrap_or_else(|| own.map_or(DEFAULT_RATE_LIMIT, |own| own.min(DEFAULT_RATE_LIMIT)))))
}
