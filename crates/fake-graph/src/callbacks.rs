//! Callbacks: the network posts the statuses of a message to the gateway until they are acknowledged.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::behaviour::{Callback, Signed, Status};
use crate::clock::unix_seconds;
use crate::network::{Network, lock};
use crate::{Attempt, Number, RefusedCallback, account, signature};

/// The wait before a callback that was not acknowledged is posted again. Meta's is longer, and grows.
const RETRY: Duration = Duration::from_millis(100);

/// How long a callback waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub type Client = legacy::Client<HttpConnector, Full<Bytes>>;

pub fn client() -> Client {
    legacy::Client::builder(TokioExecutor::new()).build_http()
}

/// The number of callbacks that will be posted.
pub fn count(callbacks: &[Callback]) -> u64 {
    callbacks.iter().map(|callback| u64::from(callback.times)).sum()
}

/// Posts these callbacks of one message in order. The caller has counted them as waiting.
pub async fn post_all(network: Arc<Network>, number: Number, attempt: Attempt, callbacks: Vec<Callback>) {
    for callback in callbacks {
        sleep(callback.after).await;
        let statuses = callback.statuses.iter().map(|status| entry(&attempt, status, callback.opaque_id));
        let body = Bytes::from(payload(&number, &statuses.collect::<Vec<_>>()).to_string());
        for _ in 0..callback.times {
            post_until_acknowledged(&network, &number, &body, callback.signed).await;
        }
    }
}

/// Posts a callback until it was acknowledged. A callback with a wrong signature is posted until it was answered.
pub async fn post_until_acknowledged(network: &Network, number: &Number, body: &Bytes, signed: Signed) {
    let signature = match (&number.app_secret, signed) {
        (Some(secret), Signed::Rightly) => Some(signature(secret, body)),
        (Some(secret), Signed::Wrongly) => Some(signature(&format!("not {secret}"), body)),
        (None, _) | (_, Signed::Not) => None,
    };
    let mut url = network.callbacks_to.subscribe();
    loop {
        // Copied, because the borrowed value locks the sender out. The sender lives as long as the network.
        let Ok(Some(target)) = url.wait_for(Option::is_some).await.map(|url| url.clone()) else { return };
        match post(network, &target, signature.as_deref(), body.clone()).await {
            Some(StatusCode::OK) => {
                network.callbacks_acknowledged.fetch_add(1, Relaxed);
                break;
            }
            Some(status) => {
                let body = String::from_utf8_lossy(body).into_owned();
                lock(&network.refused).push(RefusedCallback { status: status.as_u16(), body });
                if signed != Signed::Rightly {
                    break;
                }
            }
            None => {}
        }
        // A new address is tried at once.
        let _ = timeout(RETRY, url.changed()).await;
    }
    network.callbacks_waiting.fetch_sub(1, Relaxed);
}

/// The status of the answer, if there was one.
async fn post(network: &Network, url: &str, signature: Option<&str>, body: Bytes) -> Option<StatusCode> {
    let mut request =
        Request::post(url).header("Content-Type", "application/json").header("User-Agent", "facebookexternalua");
    if let Some(signature) = signature {
        request = request.header("X-Hub-Signature-256", signature);
    }
    let request = request.body(Full::new(body)).expect("`send_callbacks_to` was given an address");
    let _permit = network.posts.acquire().await.ok()?;
    let answer = timeout(PATIENCE, async {
        let answer = network.client.request(request).await.ok()?;
        let status = answer.status();
        // Read to its end, so that the connection can be reused.
        answer.into_body().collect().await.ok()?;
        Some(status)
    });
    answer.await.ok().flatten()
}

/// The body of a callback with statuses.
pub fn payload(number: &Number, statuses: &[Value]) -> Value {
    let mut value = value(number);
    value["statuses"] = statuses.into();
    envelope(number, &[json!({ "value": value, "field": "messages" })])
}

/// The parts of a change that name its number.
pub fn value(number: &Number) -> Value {
    let metadata = json!({ "display_phone_number": number.display_phone_number, "phone_number_id": number.id });
    json!({ "messaging_product": "whatsapp", "metadata": metadata })
}

/// The body of a callback with these changes.
pub fn envelope(number: &Number, changes: &[Value]) -> Value {
    json!({ "object": "whatsapp_business_account", "entry": [{ "id": number.business_account_id, "changes": changes }] })
}

/// An entry of `statuses`.
pub fn entry(attempt: &Attempt, status: &Status, opaque_id: bool) -> Value {
    let name = match status {
        Status::Sent => "sent",
        Status::Delivered => "delivered",
        Status::Read => "read",
        Status::Failed(_) => "failed",
    };
    let mut entry = json!({
        "id": attempt.wamid,
        "status": name,
        "timestamp": unix_seconds().to_string(),
    });
    entry[if attempt.is_to_user_id() { "recipient_user_id" } else { "recipient_id" }] = account(&attempt.to).into();
    if let (true, Some(id)) = (opaque_id, &attempt.opaque_id) {
        entry["biz_opaque_callback_data"] = id.as_str().into();
    }
    match status {
        Status::Failed(errors) => {
            entry["errors"] = errors.iter().map(crate::GraphError::in_status).collect();
        }
        Status::Sent | Status::Delivered => {
            entry["conversation"] = json!({ "id": "c0ffee", "origin": { "type": "service" } });
            entry["pricing"] = json!({ "billable": false, "pricing_model": "PMP", "category": "service" });
        }
        Status::Read => {}
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use serde_json::Value;

    use super::{entry, payload};
    use crate::body::{schema, schema_faults};
    use crate::{Attempt, GraphError, Number, Status};

    #[test]
    fn callbacks_match_meta_s_description() {
        let attempt = Attempt {
            number_id: "1055".to_owned(),
            to: "5531999998888".to_owned(),
            opaque_id: Some("msg_1".to_owned()),
            body: Arc::new(Value::Null),
            faults: Vec::new(),
            wamid: Some("wamid.1".to_owned()),
            answered: None,
            at: Instant::now(),
            http2: false,
            connection: 1,
        };
        let undeliverable = GraphError::new(400, 131_026, "Message undeliverable").details("Not on WhatsApp");
        let statuses = [Status::Sent, Status::Delivered, Status::Read, Status::Failed(vec![undeliverable])];
        let statuses: Vec<_> = statuses.iter().map(|status| entry(&attempt, status, true)).collect();
        let payload = payload(&Number::example("1055"), &statuses);
        let value = &payload["entry"][0]["changes"][0]["value"];
        let faults = schema_faults(&schema("StatusMessageValue"), "value", value);
        assert_eq!(faults, [""; 0]);
        assert_eq!(value["statuses"][3]["errors"][0]["error_data"]["details"], "Not on WhatsApp");
        assert_eq!(value["statuses"][3]["recipient_id"], "553199998888");
    }
}
