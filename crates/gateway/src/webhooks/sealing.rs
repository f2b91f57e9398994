//! The secret and the fixed headers of a webhook. The store keeps them sealed.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use recado_domain::clock::Millis;
use recado_domain::ids::WebhookId;
use recado_domain::webhook::Webhook;
use recado_store::sealed::{Place, SealError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::Webhooks;
use crate::signature::SigningKey;

/// Fixed headers: their names as the caller wrote them, and their values.
#[derive(Debug, Clone, Default)]
pub struct Headers(pub Vec<(String, SecretString)>);

impl Headers {
    /// The names without the values, because the API never shows the values.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// The opened secrets and headers of a request.
pub(super) struct Opened {
    pub keys: Vec<SigningKey>,
    pub headers: HeaderMap,
}

impl Webhooks {
    /// Seals a secret.
    pub fn seal_secret(&self, id: WebhookId, secret: &SecretString) -> Result<Vec<u8>, SealError> {
        self.secrets.seal(Place::WebhookSecret(id), secret.expose_secret().as_bytes(), &*self.entropy)
    }

    /// Whether this is the current secret of the webhook.
    pub fn has_secret(&self, webhook: &Webhook, secret: &SecretString) -> bool {
        let current = self.secrets.open(Place::WebhookSecret(webhook.id), &webhook.settings.secret);
        current.is_ok_and(|current| current.expose_secret() == secret.expose_secret().as_bytes())
    }

    /// Whether this node has the key of the current secret.
    pub fn opens_secret(&self, webhook: &Webhook) -> bool {
        self.secrets.open(Place::WebhookSecret(webhook.id), &webhook.settings.secret).is_ok()
    }

    /// Seals headers; `None` where there are none.
    pub fn seal_headers(&self, id: WebhookId, headers: &Headers) -> Result<Option<Vec<u8>>, SealError> {
        if headers.0.is_empty() {
            return Ok(None);
        }
        let pairs = headers.0.iter().map(|(name, value)| (name.clone(), value.expose_secret().into()));
        let text = SecretString::from(Value::Object(pairs.collect::<Map<_, _>>()).to_string());
        let place = Place::WebhookHeaders(id);
        self.secrets.seal(place, text.expose_secret().as_bytes(), &*self.entropy).map(Some)
    }

    /// Opens the headers of a request, and the secrets that sign the request at this time.
    pub(super) fn open(&self, webhook: &Webhook, now: Millis) -> Result<Opened, SealError> {
        let key = |sealed: &[u8]| {
            let secret = self.secrets.open(Place::WebhookSecret(webhook.id), sealed)?;
            let secret = std::str::from_utf8(secret.expose_secret()).map_err(|_| SealError::Tampered)?;
            Ok(SigningKey::of_secret(secret))
        };
        let keys = webhook.signing(now).map(key).collect::<Result<_, _>>()?;
        let mut headers = HeaderMap::new();
        if let Some(sealed) = &webhook.settings.headers {
            let text = self.secrets.open(Place::WebhookHeaders(webhook.id), sealed)?;
            let pairs: Map<String, Value> =
                serde_json::from_slice(text.expose_secret()).map_err(|_| SealError::Tampered)?;
            for (name, value) in pairs {
                let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
                let name = HeaderName::from_bytes(name.as_bytes()).ok();
                let (Some(name), Some(mut value)) = (name, value) else { return Err(SealError::Tampered) };
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        Ok(Opened { keys, headers })
    }
}
