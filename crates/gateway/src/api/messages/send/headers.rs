//! The headers of a send call.

use axum::http::HeaderMap;
use axum::http::header::HeaderName;
use recado_domain::api_key::Environment;
use recado_domain::field_errors::FieldErrors;
use recado_providers::sandbox::Scenario;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SCENARIO: HeaderName = HeaderName::from_static("x-ogmma-sandbox-scenario");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The options in the headers.
pub struct SendOptions {
    pub idempotency_key: Option<String>,
    pub scenario: Option<&'static str>,
    /// Whether the answer should contain the message.
    pub message: bool,
}

impl SendOptions {
    /// Parses the headers, and adds their errors.
    pub fn read(headers: &HeaderMap, environment: Environment, errors: &mut FieldErrors) -> Self {
        let idempotency_key = errors.collect("Idempotency-Key", idempotency_key(headers).map_err(Into::into));
        let scenario = scenario(headers, environment).map_err(Into::into);
        let scenario = errors.collect("X-Ogmma-Sandbox-Scenario", scenario);
        Self {
            idempotency_key: idempotency_key.flatten(),
            scenario: scenario.flatten(),
            message: wants_message(headers),
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
