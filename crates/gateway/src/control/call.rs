//! A call of the API as a command: the operator gets every check and text of the API without a key.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::BodyExt;
use recado_domain::api_key::Environment;
use recado_domain::ids::InstitutionId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::channels::in_both_environments;
use super::{AskError, CommandHandler, institutions};
use crate::api::auth::authenticate_operator;
use crate::api::error::ApiError;
use crate::gateway::Gateway;

/// A call of the API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    pub whose: CallScope,
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// The institution and the environment of a call. An omitted one is found if there is only one candidate.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CallScope {
    pub institution: Option<String>,
    pub environment: Option<Environment>,
    /// The channel of the call, which decides the environment.
    pub channel: Option<String>,
}

/// The answer of the API.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Reply {
    /// The wait that the answer asks for, within bounds.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.headers.get("retry-after")?.parse().ok()?;
        Some(Duration::from_secs(seconds.clamp(1, 3_600)))
    }

    /// The answer of a call that succeeded.
    pub fn success(&self) -> Result<Value, AskError> {
        match serde_json::from_str(&self.body) {
            Ok(body @ Value::Object(_)) if (200..300).contains(&self.status) => Ok(body),
            _ => Err(match AskError::refused(&self.error()) {
                // A proxy's 502, for instance: the Recado behind it may have executed the call.
                AskError::Refused(text) if self.status >= 500 => AskError::NoAnswer(text),
                error => error,
            }),
        }
    }

    /// The body of a refusal. Another body (from a proxy, for instance) is converted to the same form.
    pub fn error(&self) -> Value {
        let unexpected = || json!({ "message": format!("answer {} of another form: is a Recado there?", self.status) });
        serde_json::from_str(&self.body)
            .ok()
            .filter(|body: &Value| body["message"].is_string())
            .unwrap_or_else(unexpected)
    }
}

pub(super) async fn answer(handler: &CommandHandler, call: Call) -> Result<Reply, ApiError> {
    let (institution, environment) = resolve(&handler.gateway, &call.whose).await?;
    let mut request = request(call).ok_or_else(|| ApiError::field("call", "Chamada invalida."))?;
    authenticate_operator(&mut request, institution, environment);
    let response = handler.api.answer(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|_| ApiError::Internal)?.to_bytes();
    let body = String::from_utf8(body.into()).map_err(|_| ApiError::Internal)?;
    let header = |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
    Ok(Reply { status: parts.status.as_u16(), headers: parts.headers.iter().filter_map(header).collect(), body })
}

/// Finds the institution and the environment of a call.
pub(super) async fn resolve(gateway: &Gateway, whose: &CallScope) -> Result<(InstitutionId, Environment), ApiError> {
    let institution = institutions::find_id(gateway, whose.institution.as_deref()).await?;
    Ok((institution, environment(gateway, institution, whose)?))
}

fn request(call: Call) -> Option<Request<Body>> {
    let mut request = Request::new(Body::from(call.body));
    *request.method_mut() = call.method.parse::<Method>().ok()?;
    *request.uri_mut() = call.path.parse::<Uri>().ok()?;
    for (name, value) in call.headers {
        request.headers_mut().append(name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?);
    }
    Some(request)
}

/// The named environment, or the one that has the channel. The API refuses a channel that does not exist.
fn environment(gateway: &Gateway, institution: InstitutionId, whose: &CallScope) -> Result<Environment, ApiError> {
    if let (Some(named), _) | (None, Some(named)) =
        (whose.environment, whose.channel.is_none().then_some(Environment::Test))
    {
        return Ok(named);
    }
    let id = whose.channel.as_deref().unwrap_or_default();
    let found = |environment| gateway.directory.find(institution, environment, id);
    match (found(Environment::Test), found(Environment::Live)) {
        (Some(test), Some(live)) if test.is_deleted() == live.is_deleted() => Err(in_both_environments()),
        (test, Some(live)) if !live.is_deleted() || test.is_none() => Ok(Environment::Live),
        _ => Ok(Environment::Test),
    }
}
