//! The fields of a contact in a body, and their schemas.

use std::borrow::Cow;

use recado_domain::contact_book::ContactChange;
use recado_domain::email;
use recado_domain::field_errors::{FieldErrors, REPEATED};
use recado_domain::phone::{Country, PhoneNumber};
use serde_json::{Map, Value, json};

use crate::api::error::ApiError;
use crate::api::fields::{Fields, bad_characters, is_id, line};
use crate::api::json::Object;
use crate::api::openapi::schemas;

/// The fields of a contact, in the order in which their errors are reported.
pub const FIELDS: [&str; 6] = ["name", "phone", "email", "tags", "metadata", "optOut"];

/// Most characters of a name.
const NAME_LIMIT: usize = 200;
/// Most tags of a contact.
pub const TAGS: usize = 50;
/// Most characters of a tag.
pub const TAG_LIMIT: usize = 50;
/// Most keys of metadata.
pub const KEYS: usize = 50;
/// Most characters of a value of metadata.
const VALUE_LIMIT: usize = 1_000;
/// Most bytes of all metadata, as JSON.
pub const METADATA_BYTES: usize = 16 << 10;

/// The error of a contact without a name.
pub const NAME_MISSING: &str = "O nome do contato e obrigatorio.";
const BAD_PHONE: &str = "O telefone do contato deve estar no formato DDI+DDD+NUM.";
const BAD_EMAIL: &str = "O email do contato e invalido.";
const BAD_TAGS: &str = "O campo tags deve ser uma lista de textos.";
const BAD_METADATA: &str = "O campo metadata deve ser um objeto com ate 50 chaves.";
const TOO_LARGE: &str = "O campo metadata deve ter no maximo 16 KiB.";

/// Reads a change. `required`: the fields that a new contact must have.
pub fn change(
    object: &Object<'_>,
    country: Option<Country>,
    required: &[&'static str],
) -> Result<ContactChange, ApiError> {
    let mut fields = Fields::new(object);
    let change = ContactChange {
        name: name(&mut fields, required)?,
        phone: phone(&mut fields, country, required)?,
        email: address(&mut fields)?,
        tags: tags(&mut fields),
        metadata: metadata(&mut fields),
        opt_out: {
            let flag = object.flag("optOut");
            fields.collect("optOut", flag).flatten()
        },
    };
    fields.finish(&FIELDS)?;
    Ok(change)
}

/// Whether a field must have a value: it is required in a new contact, or the body names it and no contact may lack it.
fn is_due(fields: &Fields<'_, '_>, name: &'static str, required: &[&'static str]) -> bool {
    let object = fields.object();
    required.contains(&name) || object.has(name) || object.is_null(name)
}

fn name(fields: &mut Fields<'_, '_>, required: &[&'static str]) -> Result<Option<String>, FieldErrors> {
    let faults = fields.count();
    let name = fields.line("name", NAME_LIMIT)?;
    if name.is_none() && fields.count() == faults && is_due(fields, "name", required) {
        fields.fault("name", NAME_MISSING);
    }
    Ok(name)
}

fn phone(
    fields: &mut Fields<'_, '_>,
    country: Option<Country>,
    required: &[&'static str],
) -> Result<Option<String>, FieldErrors> {
    let given = fields.object().text("phone")?;
    let phone = given.text("phone").and_then(|text| match text {
        Some(text) => PhoneNumber::parse(text, country).map(Some).map_err(|fault| fault.text(BAD_PHONE).into()),
        None if is_due(fields, "phone", required) => Err("O telefone do contato e obrigatorio.".into()),
        None => Ok(None),
    });
    Ok(fields.collect("phone", phone).flatten().map(|phone| phone.digits().to_owned()))
}

/// `null` and an empty text remove the address.
#[expect(clippy::option_option, reason = "a field can be left out, removed or set")]
fn address(fields: &mut Fields<'_, '_>) -> Result<Option<Option<String>>, FieldErrors> {
    let object = fields.object();
    let given = object.text("email")?;
    let address = given.text("email").and_then(|text| match text {
        Some(text) if email::is_valid(text) => Ok(Some(Some(text.to_owned()))),
        Some(_) => Err(BAD_EMAIL.into()),
        None => Ok((object.has("email") || object.is_null("email")).then_some(None)),
    });
    Ok(fields.collect("email", address).flatten())
}

fn tags(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    let given = fields.object().value::<Vec<String>>("tags", || BAD_TAGS.into());
    let given = fields.collect("tags", given).flatten()?;
    if given.len() > TAGS {
        fields.fault("tags", format!("O campo tags deve ter de 0 a {TAGS} itens."));
        return None;
    }
    let mut tags = Vec::with_capacity(given.len());
    for (index, tag) in given.iter().enumerate() {
        let name = format!("tags[{index}]");
        match line(&name, tag, TAG_LIMIT) {
            // The filters `tags` and `tagsAll` have commas between tags: such a tag could not be found.
            Ok(Some(tag)) if !tag.contains(',') => tags.push(tag),
            Ok(_) => {
                let text = bad_characters(&name);
                fields.fault(name, text);
            }
            Err(text) => fields.fault(name, text),
        }
    }
    Some(tags)
}

fn metadata(fields: &mut Fields<'_, '_>) -> Option<Map<String, Value>> {
    let given = fields.object().child("metadata").map_err(|_| Cow::from(BAD_METADATA));
    let given = fields.collect("metadata", given).flatten()?;
    let names: Vec<_> = given.unknown(&[]).into_iter().map(str::to_owned).collect();
    if names.len() > KEYS {
        fields.fault("metadata", BAD_METADATA);
        return None;
    }
    let mut metadata = Map::new();
    for name in names {
        let path = format!("metadata.{name}");
        match entry(&given, &name) {
            Ok(value) => drop(metadata.insert(name, value)),
            // The error does not repeat the key, because the key can have any length.
            Err(text) if is_id(&name) => fields.fault(path, text),
            Err(text) => fields.fault("metadata", text),
        }
    }
    if bytes_of(&metadata) > METADATA_BYTES {
        fields.fault("metadata", TOO_LARGE);
    }
    Some(metadata)
}

/// The bytes of metadata as JSON.
fn bytes_of(metadata: &Map<String, Value>) -> usize {
    serde_json::to_vec(metadata).map_or(usize::MAX, |bytes| bytes.len())
}

fn entry(given: &Object<'_>, name: &str) -> Result<Value, Cow<'static, str>> {
    const VALUE: &str = "O valor deve ser um texto de ate 1000 caracteres, um numero ou um booleano.";
    if !is_id(name) {
        return Err("As chaves de metadata devem ter de 1 a 64 caracteres ASCII visiveis.".into());
    }
    let value = given.value::<Value>(name, || VALUE.into())?.unwrap_or_default();
    match &value {
        Value::Null if !given.is_null(name) => Err(REPEATED.into()),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value),
        Value::String(text) if text.chars().count() <= VALUE_LIMIT => Ok(value),
        _ => Err(VALUE.into()),
    }
}

/// Refuses metadata that is too large together with what was stored before. A key with `null` is removed.
pub fn check_merged(before: &Map<String, Value>, change: &Map<String, Value>) -> Result<(), ApiError> {
    let mut merged = before.clone();
    for (name, value) in change {
        match value {
            Value::Null => drop(merged.remove(name)),
            value => drop(merged.insert(name.clone(), value.clone())),
        }
    }
    if merged.len() > KEYS {
        return Err(ApiError::field("metadata", BAD_METADATA));
    }
    if bytes_of(&merged) > METADATA_BYTES {
        return Err(ApiError::field("metadata", TOO_LARGE));
    }
    Ok(())
}

/// The schema of a body.
pub fn schema(required: &[&str]) -> Value {
    let email = json!({"type": "string", "format": "idn-email", "maxLength": 254});
    let value = json!({"anyOf": [
        {"type": "string", "maxLength": VALUE_LIMIT}, {"type": "number"}, {"type": "boolean"}, {"type": "null"},
    ]});
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": {
            "name": schemas::name(NAME_LIMIT, true),
            "phone": schemas::phone("The person's number."),
            "email": {"anyOf": [email, {"const": ""}, {"type": "null"}], "description": "`null` removes it."},
            "tags": {
                "type": ["array", "null"],
                "maxItems": TAGS,
                "items": schemas::tag(TAG_LIMIT),
                "description": "Compared without case and accents. Replaces the list; `null` does not.",
            },
            "metadata": {
                "type": ["object", "null"],
                "maxProperties": KEYS,
                "propertyNames": {"pattern": "^[!-~]{1,64}$"},
                "additionalProperties": value,
                "description": "Merged with the stored keys; a key with `null` is removed. At most 16 KiB.",
            },
            "optOut": {"type": ["boolean", "null"], "description": "`true` leaves the person out of every bulk."},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str, required: &[&'static str]) -> Result<ContactChange, Vec<String>> {
        match change(&Object::parse(body).expect("an object"), None, required) {
            Ok(change) => Ok(change),
            Err(ApiError::Validation(errors)) => {
                Err(errors.as_slice().iter().map(|error| format!("{}: {}", error.field, error.message)).collect())
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_stays() {
        let nothing = of("{}", &[]).expect("valid");
        assert!(nothing.name.is_none() && nothing.phone.is_none() && nothing.email.is_none());
        assert!(nothing.tags.is_none() && nothing.metadata.is_none() && nothing.opt_out.is_none());
        let all = r#"{"name":" Ana ","phone":"+55 11 98888-7777","email":"a@b.co","tags":["vip"," VIP "],
                      "metadata":{"crm":"4711","n":7,"ok":true,"gone":null},"optOut":true}"#;
        let all = of(all, &["name", "phone"]).expect("valid");
        assert_eq!((all.name.as_deref(), all.phone.as_deref()), (Some("Ana"), Some("5511988887777")));
        assert_eq!((all.email, all.opt_out), (Some(Some("a@b.co".to_owned())), Some(true)));
        assert_eq!(all.tags, Some(vec!["vip".to_owned(), "VIP".to_owned()]));
        assert_eq!(
            Value::Object(all.metadata.expect("some")),
            json!({"crm": "4711", "n": 7, "ok": true, "gone": null})
        );
        for removed in [r#"{"email":null}"#, r#"{"email":""}"#] {
            assert_eq!(of(removed, &[]).expect("valid").email, Some(None), "{removed}");
        }
    }

    #[test]
    fn a_contact_has_a_name_and_a_number() {
        let (name, phone) = ("name: O nome do contato e obrigatorio.", "phone: O telefone do contato e obrigatorio.");
        assert_eq!(of("{}", &["name", "phone"]).err(), Some(vec![name.to_owned(), phone.to_owned()]));
        for body in [r#"{"name":null,"phone":null}"#, r#"{"name":"","phone":" "}"#] {
            assert_eq!(of(body, &[]).err(), Some(vec![name.to_owned(), phone.to_owned()]), "{body}");
        }
        let characters = "name: O campo name contem caracteres invalidos.";
        assert_eq!(of(r#"{"name":"\u0085"}"#, &[]).err(), Some(vec![characters.to_owned()]));
    }

    #[test]
    fn every_invalid_field_is_named() {
        let long = "x".repeat(51);
        let body = format!(
            r#"{{"name":7,"phone":"123","email":"x","tags":["","{long}","vip,sp"],"metadata":{{"a b":1,"c":[],"d":"{}"}},"optOut":1,"x":1}}"#,
            "y".repeat(1_001)
        );
        let value = "O valor deve ser um texto de ate 1000 caracteres, um numero ou um booleano.";
        assert_eq!(
            of(&body, &[]).err().expect("invalid"),
            [
                "name: O campo name deve ser uma string.",
                "phone: O telefone do contato deve estar no formato DDI+DDD+NUM.",
                "email: O email do contato e invalido.",
                "tags[0]: O campo tags[0] contem caracteres invalidos.",
                "tags[1]: O campo tags[1] deve ter no maximo 50 caracteres.",
                "tags[2]: O campo tags[2] contem caracteres invalidos.",
                "metadata: As chaves de metadata devem ter de 1 a 64 caracteres ASCII visiveis.",
                &format!("metadata.c: {value}"),
                &format!("metadata.d: {value}"),
                "optOut: O campo optOut deve ser um booleano.",
                "x: Campo desconhecido.",
            ]
        );
        assert_eq!(
            of(r#"{"metadata":{"a":1,"a":2}}"#, &[]).err(),
            Some(vec!["metadata.a: Campo repetido.".to_owned()])
        );
        assert_eq!(of(r#"{"metadata":[]}"#, &[]).err(), Some(vec![format!("metadata: {BAD_METADATA}")]));
    }

    #[test]
    fn merged_metadata_is_bounded() {
        let map = |range: std::ops::Range<usize>, value: &Value| -> Map<String, Value> {
            range.map(|n| (format!("k{n}"), value.clone())).collect()
        };
        let one = json!("x");
        assert_eq!(check_merged(&map(0..50, &one), &map(0..50, &one)), Ok(()));
        assert_eq!(check_merged(&map(0..50, &one), &map(50..51, &one)), Err(ApiError::field("metadata", BAD_METADATA)));
        assert_eq!(check_merged(&map(0..50, &one), &map(49..50, &Value::Null)), Ok(()));
        let long = json!("x".repeat(1_000));
        assert_eq!(check_merged(&map(0..9, &long), &map(9..17, &long)), Err(ApiError::field("metadata", TOO_LARGE)));
    }
}
