//! `PATCH /v1/conversations/{conversationId}/assign`: gives a conversation to an attendant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use recado_domain::conversation::Change;
use serde_json::{Value, json};

use super::{change, describe_change};
use crate::api::auth::{Caller, scope};
use crate::api::error::ApiError;
use crate::api::fields::{Fields, bad_id, id_schema, is_id};
use crate::api::json::{JsonBody, Object};
use crate::api::openapi::{Operation, schemas};
use crate::api::path::Ids;
use crate::gateway::Gateway;

const FIELDS: [&str; 3] = ["attendantId", "attendantName", "expectedAttendantId"];
/// Most characters of an attendant's name.
const NAME_LIMIT: usize = 100;

/// Assigns a conversation.
pub async fn assign(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller<scope::ConversationsWrite>,
    Ids([id]): Ids<1>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let assignment = parse(&body.object()?)?;
    change(&gateway, &caller, &id, assignment).await
}

fn parse(object: &Object<'_>) -> Result<Change, ApiError> {
    let mut fields = Fields::new(object);
    let attendant = fields.id("attendantId")?;
    if attendant.is_none() && fields.count() == 0 {
        fields.missing("attendantId");
    }
    let name = fields.line("attendantName", NAME_LIMIT)?;
    // `null` requires that no attendant has the conversation. Without the field there is no condition.
    let expected = if object.is_null("expectedAttendantId") {
        Some(None)
    } else {
        let text = object.value::<String>("expectedAttendantId", || bad_id("expectedAttendantId"));
        let text = text.and_then(|text| match text {
            Some(id) if !is_id(&id) => Err(bad_id("expectedAttendantId")),
            text => Ok(text.map(Some)),
        });
        fields.collect("expectedAttendantId", text).flatten()
    };
    fields.finish(&FIELDS)?;
    Ok(Change::Assign { attendant: attendant.unwrap_or_default(), name, expected })
}

/// The operation in the OpenAPI document.
pub fn describe(operation: Operation<'_>) -> Operation<'_> {
    let about = "Attendants are the caller's own: any id is accepted. An earlier attendant is replaced; a `PENDING` \
                 conversation becomes `OPEN`. With `expectedAttendantId` the call is refused where another attendant has \
                 the conversation, so that several people can take conversations from one queue.";
    let operation = operation.named("Conversations", "assignConversation", "Assign a conversation");
    describe_change(operation, about)
        .body("Assignment", schema(), json!({"attendantId": "bia", "attendantName": "Bia"}))
        .refuses([
            ApiError::field("attendantId", "O campo attendantId e obrigatorio."),
            ApiError::ConversationClosed,
            ApiError::ConversationChanged,
        ])
}

fn schema() -> Value {
    let mut expected = id_schema();
    expected["type"] = json!(["string", "null"]);
    expected["description"] = "The attendant who must have the conversation now; `null`: no attendant.".into();
    json!({
        "type": "object",
        "required": ["attendantId"],
        "additionalProperties": false,
        "properties": {
            "attendantId": id_schema(),
            "attendantName": schemas::name(NAME_LIMIT, false),
            "expectedAttendantId": expected,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_names_an_attendant() {
        let of = |body: &str| parse(&Object::parse(body).expect("an object"));
        let assign = |name: Option<&str>, expected: Option<Option<&str>>| {
            let (name, expected) = (name.map(str::to_owned), expected.map(|id| id.map(str::to_owned)));
            Ok(Change::Assign { attendant: "bia".to_owned(), name, expected })
        };
        assert_eq!(of(r#"{"attendantId":"bia"}"#), assign(None, None));
        assert_eq!(of(r#"{"attendantId":"bia","attendantName":" Bia "}"#), assign(Some("Bia"), None));
        assert_eq!(of(r#"{"attendantId":"bia","attendantName":""}"#), assign(None, None));
        assert_eq!(of(r#"{"attendantId":"bia","expectedAttendantId":null}"#), assign(None, Some(None)));
        assert_eq!(of(r#"{"attendantId":"bia","expectedAttendantId":"leo"}"#), assign(None, Some(Some("leo"))));
        let missing = "O campo attendantId e obrigatorio.";
        let bad = "deve ter de 1 a 64 caracteres ASCII visiveis.";
        for (body, field, text) in [
            ("{}", "attendantId", missing),
            (r#"{"attendantId":null}"#, "attendantId", missing),
            (r#"{"attendantId":""}"#, "attendantId", missing),
            (r#"{"attendantId":"a b"}"#, "attendantId", &format!("O campo attendantId {bad}")),
            (r#"{"attendantId":"\n"}"#, "attendantId", &format!("O campo attendantId {bad}")),
            (r#"{"attendantId":7}"#, "attendantId", "O campo attendantId deve ser uma string."),
            (
                r#"{"attendantId":"a","expectedAttendantId":""}"#,
                "expectedAttendantId",
                &format!("O campo expectedAttendantId {bad}"),
            ),
        ] {
            assert_eq!(of(body), Err(ApiError::field(field, text.to_owned())), "{body}");
        }
    }
}
