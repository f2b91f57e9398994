//! The errors of the API in English, for the command line. The API answers in Portuguese.

mod fields;

pub use fields::field;
use serde_json::Value;

/// An error of the API as text lines for a person, in English.
pub fn explain(error: &Value) -> String {
    let fields = faults(error).map(|fault| format!("\n  {fault}"));
    let known = error["code"].as_str().and_then(text);
    let text = known.or(error["message"].as_str()).unwrap_or_default();
    format!("{text}{}", fields.collect::<String>())
}

/// The invalid fields of an API error, each with its error in English.
pub fn faults(error: &Value) -> impl Iterator<Item = String> {
    let faults = error["errors"].as_array().into_iter().flatten();
    faults.map(|one| {
        let [name, message] = ["field", "message"].map(|part| one[part].as_str().unwrap_or_default());
        format!("{name}: {}", field(message))
    })
}

/// The same for programs.
pub fn faults_for_programs(error: &Value) -> Option<Value> {
    let mut faults = error.get("errors")?.clone();
    for one in faults.as_array_mut().into_iter().flatten() {
        one["message"] = one["message"].as_str().map(field).into();
    }
    Some(faults)
}

/// The text for a code. `None`: the text of the API is shown.
pub fn text(code: &str) -> Option<&'static str> {
    Some(match code {
        "VALIDATION_ERROR" => "Invalid input.",
        "NOT_SUPPORTED_BY_CHANNEL" => "The channel does not offer this.",
        "UNAUTHORIZED" => "The API key is missing or invalid.",
        "FORBIDDEN" => "The API key lacks the scope for this.",
        "CHANNEL_NOT_FOUND" => "There is no such channel.",
        "MESSAGE_NOT_FOUND" => "There is no such message.",
        "CARD_NOT_FOUND" => "The message has no contact card.",
        "API_KEY_NOT_FOUND" => "There is no such API key.",
        "INSTITUTION_NOT_FOUND" => "There is no such institution.",
        "EVENT_NOT_FOUND" => "There is no such event.",
        "WEBHOOK_NOT_FOUND" => "There is no such webhook.",
        "DELIVERY_NOT_FOUND" => "There is no such delivery.",
        "CONVERSATION_NOT_FOUND" => "There is no such conversation.",
        "CONTACT_NOT_FOUND" => "There is no such contact.",
        "MEDIA_NOT_FOUND" => "There is no such file.",
        "NOT_FOUND" => "There is no such path.",
        "METHOD_NOT_ALLOWED" => "The path does not have this method.",
        "CHANNEL_NOT_CONNECTED" => "The channel is not connected.",
        "CHANNEL_ALREADY_EXISTS" => "There is a channel with this id already.",
        "CHANNEL_RESERVED" => "The sandbox channel cannot be deleted.",
        "API_KEY_LIMIT_REACHED" => "There are 500 valid API keys already, which is the limit.",
        "WEBHOOK_LIMIT_REACHED" => "The limit of webhooks is reached.",
        "WEBHOOK_INACTIVE" => "The webhook is not active.",
        "MESSAGE_NOT_CANCELLABLE" => "The message can no longer be cancelled.",
        "CONTACT_ALREADY_EXISTS" => "There is a contact with this number already.",
        "CONVERSATION_CHANGED" => "Somebody else has changed the conversation: read it again.",
        "CONVERSATION_CLOSED" => "The conversation is closed.",
        "WINDOW_CLOSED" => "The person did not write within the last 24 hours.",
        "MEDIA_EXPIRED" => "The network has lost the file.",
        "MEDIA_REFUSED" => "The address of the file is not allowed.",
        "MEDIA_STORE_FULL" => "There is no room for the file: try again later.",
        "MEDIA_TOO_LARGE" => "The file is too large.",
        "TOO_MANY_READERS" => "Too many connections read the event stream: close one, or try again.",
        "MEDIA_UNAVAILABLE" => "The network did not deliver the file: try again in some seconds.",
        "PAYLOAD_TOO_LARGE" => "The body is too large.",
        "RANGE_NOT_SATISFIABLE" => "The file has no such part.",
        "UNSUPPORTED_MEDIA_TYPE" => "The body has another form than JSON.",
        "CURSOR_EXPIRED" => "The cursor has expired.",
        "IDEMPOTENCY_KEY_REUSED" => "The idempotency key was used with another content.",
        "RATE_LIMIT_EXCEEDED" => "The rate limit is exceeded: try again in some seconds.",
        "NOT_IMPLEMENTED" => "This is not available yet.",
        "WHATSAPP_WEB_MISSING" => {
            "This build has no WhatsApp Web: build it with --features whatsapp-web, or ./dev run --whatsapp-web."
        }
        "SECRET_KEY_MISSING" => "There is no RECADO_SECRET_KEY, which is needed to store secrets.",
        "QUEUE_FULL" => "The channel's queue is full: try again later.",
        "UPGRADE_IN_PROGRESS" => "Nodes are being upgraded: try again later.",
        "SANDBOX_NOT_ERASED" => {
            "The sandbox's phone cannot be used: its messages and the contact are left, all else was erased. Repeat it later."
        }
        "SERVICE_UNAVAILABLE" => "The service is unavailable: try again in some seconds.",
        "INTERNAL_ERROR" => "Internal error.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_api_has_a_text() {
        let errors = include_str!("../api/error.rs");
        let is_code =
            |text: &&str| text.len() > 3 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        let codes: Vec<_> = errors.split('"').skip(1).step_by(2).filter(is_code).collect();
        assert!(codes.len() > 30, "{codes:?}");
        let unknown: Vec<_> = codes.iter().filter(|code| text(code).is_none()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
