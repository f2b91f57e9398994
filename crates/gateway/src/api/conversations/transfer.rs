//! `PATCH /v1/conversations/{conversationId}/transfer`: passes a conversation to another attendant or department.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use recado_domain::conversation::Change;
use serde_json::{Value, json};

use super::{change, describe_change};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::fields::{Fields, optional_id};
use crate::api::json::{JsonBody, Object};
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::gateway::Gateway;

const FIELDS: [&str; 3] = ["attendantId", "departmentId", "note"];
/// Most characters of a note.
const NOTE_LIMIT: usize = 1_000;
const NOWHERE: &str = "Informe attendantId ou departmentId.";

/// Transfers a conversation.
pub async fn transfer(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ConversationsWrite>,
    Ids([id]): Ids<1>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let transfer = parse(&body.object()?)?;
    change(&gateway, &caller, &id, transfer).await
}

fn parse(object: &Object<'_>) -> Result<Change, ApiError> {
    let mut fields = Fields::new(object);
    let attendant = fields.id("attendantId")?;
    // `null` removes the department. Without the field it stays.
    let given = fields.id("departmentId")?;
    let department = if object.is_null("departmentId") { Some(None) } else { given.map(Some) };
    if attendant.is_none() && department.is_none() && fields.count() == 0 {
        fields.fault("attendantId", NOWHERE);
    }
    let note = fields.lines("note", NOTE_LIMIT)?;
    fields.finish(&FIELDS)?;
    Ok(Change::Transfer { attendant, department, note })
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let about = "To an attendant, a department, or both. Without `attendantId` the conversation has no attendant then, and \
                 is `PENDING`. A `departmentId` of `null` removes the department; without the field it stays. Messages \
                 stay. `note` is in the event `conversation.assigned`.";
    let operation = operation.named("Conversations", "transferConversation", "Transfer a conversation");
    describe_change(operation, about)
        .body("Transfer", schema(), json!({"departmentId": "suporte", "note": "Pediu segunda via"}))
        .refuses([ApiError::field("attendantId", NOWHERE), ApiError::ConversationClosed])
}

fn schema() -> Value {
    let given =
        |name: &str, kinds: Value| json!({"required": [name], "properties": {name: {"type": kinds, "minLength": 1}}});
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "attendantId": optional_id("The attendant who has it from now on."),
            "departmentId": optional_id("The department that has it from now on; `null`: none."),
            "note": schemas::lines(NOTE_LIMIT, false),
        },
        "anyOf": [given("attendantId", json!("string")), given("departmentId", json!(["string", "null"]))],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_leads_somewhere() {
        let of = |body: &str| parse(&Object::parse(body).expect("an object"));
        let to = |attendant: Option<&str>, department: Option<&str>, note: Option<&str>| {
            let [attendant, department, note] = [attendant, department, note].map(|text| text.map(str::to_owned));
            Ok(Change::Transfer { attendant, department: department.map(Some), note })
        };
        assert_eq!(of(r#"{"attendantId":"bia"}"#), to(Some("bia"), None, None));
        assert_eq!(of(r#"{"attendantId":"","departmentId":"b"}"#), to(None, Some("b"), None));
        assert_eq!(of(r#"{"departmentId":"b","note":" a\nb "}"#), to(None, Some("b"), Some("a\nb")));
        let without = |attendant: Option<&str>| {
            Ok(Change::Transfer { attendant: attendant.map(str::to_owned), department: Some(None), note: None })
        };
        assert_eq!(of(r#"{"departmentId":null}"#), without(None));
        assert_eq!(of(r#"{"attendantId":"bia","departmentId":null}"#), without(Some("bia")));
        for body in ["{}", r#"{"attendantId":null}"#, r#"{"attendantId":"","departmentId":""}"#, r#"{"note":"x"}"#] {
            assert_eq!(of(body), Err(ApiError::field("attendantId", NOWHERE)), "{body}");
        }
        assert!(of(r#"{"attendantId":"bia","note":"\u0085"}"#).is_err());
    }
}
