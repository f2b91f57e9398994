//! Is the body of a send one that Meta would take?

use email_address::EmailAddress;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// Schemas of Meta's own description; meta.txt has the source.
const META: &str = include_str!("meta.json");

/// The keys of a message that we know of.
const KEYS: [&str; 7] =
    ["messaging_product", "recipient_type", "to", "type", "contacts", "context", "biz_opaque_callback_data"];

/// A validator of one of Meta's schemas, which also looks at formats (`email`, `uri`, `date`).
pub fn schema(name: &str) -> Validator {
    let mut schema: Value = serde_json::from_str(META).expect("meta.json is JSON");
    schema["$ref"] = format!("#/components/schemas/{name}").into();
    let mut options = jsonschema::options();
    // The library's own check of addresses does not look at their domain.
    options.should_validate_formats(true).with_format("email", EmailAddress::is_valid);
    options.build(&schema).expect("Meta's schemas are schemas")
}

/// What is wrong with the body of a send; nothing, as a rule. `contact` is the validator of `ContactObject`.
pub fn faults(contact: &Validator, body: &Value) -> Vec<String> {
    let Some(body) = body.as_object() else { return vec!["the body is no JSON object".to_owned()] };
    let mut faults: Vec<_> =
        body.keys().filter(|key| !KEYS.contains(&key.as_str())).map(|key| format!("{key}: unknown")).collect();
    for (key, value) in [("messaging_product", "whatsapp"), ("recipient_type", "individual"), ("type", "contacts")] {
        if body.get(key) != Some(&json!(value)) {
            faults.push(format!("{key}: must be {value:?}"));
        }
    }
    let digits = |to: &str| !to.is_empty() && to.bytes().all(|byte| byte.is_ascii_digit());
    if !body.get("to").and_then(Value::as_str).is_some_and(digits) {
        faults.push("to: must be digits".to_owned());
    }
    let opaque = |data: &Value| data.as_str().is_some_and(|text| text.chars().count() <= 512);
    if !body.get("biz_opaque_callback_data").is_none_or(opaque) {
        faults.push("biz_opaque_callback_data: must be text of at most 512 characters".to_owned());
    }
    match body.get("contacts").and_then(Value::as_array).map(Vec::as_slice) {
        Some([one]) => faults.extend(contact_faults(contact, one)),
        _ => faults.push("contacts: must be a list of one".to_owned()),
    }
    faults
}

/// What a schema finds wrong with a value; `place` is where the value stands.
pub fn schema_faults(schema: &Validator, place: &str, value: &Value) -> Vec<String> {
    let errors = schema.validate(value).err().into_iter().flatten();
    errors.map(|error| format!("{place}{}: {error}", error.instance_path)).collect()
}

fn contact_faults(schema: &Validator, contact: &Value) -> Vec<String> {
    let mut faults = schema_faults(schema, "contacts/0", contact);
    // Meta's description asks for neither of the two, its network for both.
    let part = |(_, text): (&String, &Value)| text.as_str().is_some_and(|text| !text.is_empty());
    let parts: Map<_, _> = contact["name"].as_object().cloned().unwrap_or_default();
    if !parts.iter().any(|entry| entry.0 == "formatted_name" && part(entry))
        || !parts.iter().any(|entry| entry.0 != "formatted_name" && part(entry))
    {
        faults.push("contacts/0/name: must have formatted_name and another part".to_owned());
    }
    if has_empty(contact) {
        faults.push("contacts/0: has an empty object or list".to_owned());
    }
    faults
}

/// Is there an object or a list in it that holds nothing? A client that sends one forgot to leave it out.
fn has_empty(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty() || object.values().any(has_empty),
        Value::Array(array) => array.is_empty() || array.iter().any(has_empty),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{faults, schema};

    /// A body with everything that Recado sends.
    fn good() -> Value {
        json!({
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": "5511999998888",
            "type": "contacts",
            "contacts": [{
                "name": { "formatted_name": "Maria Silva", "first_name": "Maria Silva" },
                "phones": [{ "phone": "+5511988887777", "wa_id": "5511988887777" }],
                "emails": [{ "email": "maria@example.com" }],
                "org": { "company": "Silva & Filhos" },
            }],
            "biz_opaque_callback_data": "msg_1",
        })
    }

    fn faults_with(pointer: &str, value: Value) -> Vec<String> {
        let mut body = good();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        body.pointer_mut(parent).expect("there")[key] = value;
        faults(&schema("ContactObject"), &body)
    }

    #[test]
    fn a_good_body_has_no_faults() {
        assert_eq!(faults(&schema("ContactObject"), &good()), [""; 0]);
        assert_eq!(faults_with("/biz_opaque_callback_data", json!("ã".repeat(512))), [""; 0]);
    }

    #[test]
    fn every_fault_is_found_and_named() {
        for (pointer, value, named) in [
            ("/messaging_product", json!("sms"), "messaging_product"),
            ("/recipient_type", Value::Null, "recipient_type"),
            ("/type", json!("text"), "type"),
            ("/to", json!("+5511999998888"), "to"),
            ("/to", json!(""), "to"),
            ("/to", json!(5_511_999_998_888_u64), "to"),
            ("/biz_opaque_callback_data", json!("x".repeat(513)), "biz_opaque_callback_data"),
            ("/biz_opaque_callback_data", Value::Null, "biz_opaque_callback_data"),
            ("/preview_url", json!(true), "preview_url"),
            ("/contacts", json!([]), "contacts"),
            ("/contacts", json!([good()["contacts"][0], good()["contacts"][0]]), "contacts"),
            ("/contacts", json!(["Maria"]), "contacts/0"),
            ("/contacts", json!([{ "phones": [{ "phone": "+5511988887777" }] }]), "contacts/0/name"),
        ] {
            let faults = faults_with(pointer, value.clone());
            assert!(faults.iter().any(|fault| fault.starts_with(named)), "{pointer} {value}: {faults:?}");
        }
        for nothing in [json!([]), json!("text"), Value::Null] {
            assert_eq!(faults(&schema("ContactObject"), &nothing), ["the body is no JSON object"]);
        }
    }

    #[test]
    fn every_fault_of_a_contact_is_found_and_named() {
        let mut contact = good();
        for (pointer, value, named) in [
            ("phones", json!([{ "phone": "+5511988887777", "type": "CELL" }]), "contacts/0/phones/0/type"),
            ("phones", json!([{ "wa_id": "5511988887777" }]), "contacts/0/phones/0"),
            ("emails", json!([{}]), "contacts/0/emails/0"),
            ("emails", json!([]), "contacts/0: has an empty"),
            ("emails", json!([{ "email": "maria.example.com" }]), "contacts/0/emails/0/email"),
            ("emails", json!([{ "email": "maria@-" }]), "contacts/0/emails/0/email"),
            ("emails", Value::Null, "contacts/0/emails"),
            ("urls", json!([{ "url": "no uri" }]), "contacts/0/urls/0/url"),
            ("org", json!({}), "contacts/0: has an empty"),
            ("org", json!({ "company": "Silva", "since": "1999" }), "contacts/0/org"),
            ("vcard", json!("BEGIN:VCARD"), "contacts/0"),
            ("name", Value::Null, "contacts/0/name"),
            ("name", json!({ "formatted_name": "Maria" }), "contacts/0/name"),
            ("name", json!({ "formatted_name": "", "first_name": "Maria" }), "contacts/0/name"),
            ("name", json!({ "first_name": "Maria", "last_name": "Silva" }), "contacts/0/name"),
        ] {
            contact["contacts"][0] = good()["contacts"][0].clone();
            contact["contacts"][0][pointer] = value.clone();
            let faults = faults(&schema("ContactObject"), &contact);
            assert!(faults.iter().any(|fault| fault.starts_with(named)), "{pointer} {value}: {faults:?}");
        }
    }
}
