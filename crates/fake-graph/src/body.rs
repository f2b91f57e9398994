//! Checks whether Meta would accept the body of a send.

use email_address::EmailAddress;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// Schemas of Meta's own description; meta.txt has the source.
const META: &str = include_str!("meta.json");

/// The known keys of a message. The object of the kind has the kind's name.
const KEYS: [&str; 7] =
    ["messaging_product", "recipient_type", "to", "recipient", "type", "context", "biz_opaque_callback_data"];
/// The known kinds of messages.
const KINDS: [&str; 3] = ["contacts", "text", "location"];
/// The most contacts of a message, by Meta's pages. Its schema says 5.
const CONTACTS: usize = 257;

/// A validator of one of Meta's schemas that also checks formats (`email`, `uri`, `date`).
pub fn schema(name: &str) -> Validator {
    let mut schema: Value = serde_json::from_str(META).expect("meta.json is JSON");
    schema["$ref"] = format!("#/components/schemas/{name}").into();
    let mut options = jsonschema::options();
    // The library's own check of addresses ignores their domain.
    options.should_validate_formats(true).with_format("email", EmailAddress::is_valid);
    options.build(&schema).expect("Meta's schemas are schemas")
}

/// The errors of a value by a schema. `place` is the path of the value.
pub fn schema_faults(schema: &Validator, place: &str, value: &Value) -> Vec<String> {
    let errors = schema.validate(value).err().into_iter().flatten();
    errors.map(|error| format!("{place}{}: {error}", error.instance_path)).collect()
}

/// Meta's schemas of the contents of a message. The schemas of whole messages reject every real message
/// (`additionalProperties: false` beside `allOf`).
pub struct Schemas {
    contact: Validator,
    text: Validator,
    location: Validator,
    context: Validator,
}

impl Schemas {
    pub fn new() -> Self {
        Self {
            contact: schema("ContactObject"),
            text: schema("TextMessage/allOf/1/properties/text"),
            location: schema("LocationMessage/allOf/1/properties/location"),
            context: schema("MessageContext"),
        }
    }

    /// The errors of the body of a send; usually none.
    pub fn faults(&self, body: &Value) -> Vec<String> {
        let Some(body) = body.as_object() else { return vec!["the body is no JSON object".to_owned()] };
        let kind = body.get("type").and_then(Value::as_str).filter(|kind| KINDS.contains(kind));
        let is_known = |key: &str| KEYS.contains(&key) || kind == Some(key);
        let mut faults: Vec<_> =
            body.keys().filter(|key| !is_known(key)).map(|key| format!("{key}: unknown")).collect();
        faults.extend(envelope_faults(body));
        if let Some(context) = body.get("context") {
            faults.extend(schema_faults(&self.context, "context", context));
            if !context["message_id"].as_str().is_some_and(|id| id.starts_with("wamid.")) {
                faults.push("context/message_id: must be the id of a message".to_owned());
            }
        }
        let content = kind.map(|kind| (kind, body.get(kind).unwrap_or(&Value::Null)));
        faults.extend(match content {
            Some(("contacts", contacts)) => self.contacts_faults(contacts),
            Some(("text", text)) => self.text_faults(text),
            Some(("location", location)) => self.location_faults(location),
            _ => vec![format!("type: must be one of {KINDS:?}")],
        });
        faults
    }

    fn contacts_faults(&self, contacts: &Value) -> Vec<String> {
        let contacts = contacts.as_array().map(Vec::as_slice).unwrap_or_default();
        if !(1..=CONTACTS).contains(&contacts.len()) {
            return vec![format!("contacts: must be a list of 1 to {CONTACTS}")];
        }
        let places = contacts.iter().enumerate();
        places.flat_map(|(index, contact)| self.contact_faults(&format!("contacts/{index}"), contact)).collect()
    }

    fn contact_faults(&self, place: &str, contact: &Value) -> Vec<String> {
        let mut faults = schema_faults(&self.contact, place, contact);
        // Meta's description requires neither of the two, its network both.
        let part = |(_, text): (&String, &Value)| text.as_str().is_some_and(|text| !text.is_empty());
        let parts: Map<_, _> = contact["name"].as_object().cloned().unwrap_or_default();
        if !parts.iter().any(|entry| entry.0 == "formatted_name" && part(entry))
            || !parts.iter().any(|entry| entry.0 != "formatted_name" && part(entry))
        {
            faults.push(format!("{place}/name: must have formatted_name and another part"));
        }
        if has_empty(contact) {
            faults.push(format!("{place}: has an empty object, list or text"));
        }
        faults
    }

    fn text_faults(&self, text: &Value) -> Vec<String> {
        let mut faults = schema_faults(&self.text, "text", text);
        let body = text["body"].as_str().unwrap_or_default();
        if body.trim().is_empty() || body.chars().count() > 4_096 {
            faults.push("text/body: must be text of 1 to 4096 characters".to_owned());
        }
        faults
    }

    fn location_faults(&self, location: &Value) -> Vec<String> {
        let mut faults = schema_faults(&self.location, "location", location);
        for (key, most) in [("latitude", 90.0), ("longitude", 180.0)] {
            let degrees = location[key].as_str().and_then(|text| text.parse::<f64>().ok());
            // Without an exponent, because Meta does not promise to read one.
            let is_plain = location[key].as_str().is_some_and(|text| !text.contains(['e', 'E', '+']));
            if !is_plain || !degrees.is_some_and(|degrees| degrees.abs() <= most) {
                faults.push(format!("location/{key}: must be text of a number from -{most} to {most}"));
            }
        }
        if has_empty(location) {
            faults.push("location: has an empty object, list or text".to_owned());
        }
        faults
    }
}

fn envelope_faults(body: &Map<String, Value>) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, value) in [("messaging_product", "whatsapp"), ("recipient_type", "individual")] {
        if body.get(key) != Some(&json!(value)) {
            faults.push(format!("{key}: must be {value:?}"));
        }
    }
    let digits = |to: &str| !to.is_empty() && to.bytes().all(|byte| byte.is_ascii_digit());
    let text = |key: &str| body.get(key).map(|value| value.as_str().unwrap_or_default());
    match (text("to"), text("recipient")) {
        (Some(to), None) if digits(to) => {}
        // Meta's description does not have the field yet; its pages do.
        (None, Some(id)) if is_user_id(id) => {}
        (None, Some(_)) => faults.push("recipient: must be a user id".to_owned()),
        // Meta would ignore the second, and drop a message to a user id in the first.
        (Some(_), Some(_)) => faults.push("recipient: must not stand beside to".to_owned()),
        (_, None) => faults.push("to: must be digits".to_owned()),
    }
    let opaque = |data: &Value| data.as_str().is_some_and(|text| text.chars().count() <= 512);
    if !body.get("biz_opaque_callback_data").is_none_or(opaque) {
        faults.push("biz_opaque_callback_data: must be text of at most 512 characters".to_owned());
    }
    faults
}

/// A user id of a business, as Meta's pages show it: `BR.1502576394655843`, `US.ENT.11815799212886844830`.
fn is_user_id(text: &str) -> bool {
    let Some((country, id)) = text.split_once('.') else { return false };
    let id = id.strip_prefix("ENT.").unwrap_or(id);
    country.len() == 2 && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether the value contains an empty object, list or text. A client that sends one forgot to omit it.
fn has_empty(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty() || object.values().any(has_empty),
        Value::Array(array) => array.is_empty() || array.iter().any(has_empty),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Schemas;

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
        Schemas::new().faults(&body)
    }

    #[test]
    fn a_good_body_has_no_faults() {
        assert_eq!(Schemas::new().faults(&good()), [""; 0]);
        assert_eq!(faults_with("/biz_opaque_callback_data", json!("ã".repeat(512))), [""; 0]);
        assert_eq!(faults_with("/context", json!({ "message_id": "wamid.HBgN" })), [""; 0]);
        assert_eq!(faults_with("/contacts", json!(vec![&good()["contacts"][0]; 10])), [""; 0]);
    }

    /// The errors of a message of another kind.
    fn faults_of(kind: &str, content: &Value) -> Vec<String> {
        let mut body = good();
        body.as_object_mut().expect("an object").remove("contacts");
        body["type"] = kind.into();
        body[kind] = content.clone();
        Schemas::new().faults(&body)
    }

    #[test]
    fn texts_and_locations_are_held_against_their_schemas() {
        let place =
            || json!({ "latitude": "-23.5418", "longitude": "-46.6293", "name": "Mercado", "address": "Rua A" });
        for (kind, good) in [
            ("text", json!({ "body": "ã".repeat(4_096), "preview_url": false })),
            ("location", place()),
            ("location", json!({ "latitude": "0", "longitude": "180" })),
        ] {
            assert_eq!(faults_of(kind, &good), [""; 0], "{good}");
        }
        let with = |key: &str, value: Value| {
            let mut place = place();
            place[key] = value;
            place
        };
        for (kind, bad, named) in [
            ("text", json!({}), "text/body"),
            ("text", json!({ "body": " " }), "text/body"),
            ("text", json!({ "body": "a".repeat(4_097) }), "text/body"),
            ("text", json!({ "body": "a", "preview_url": "no" }), "text/preview_url"),
            ("text", json!({ "body": "a", "context": {} }), "text"),
            ("text", json!("a"), "text"),
            ("location", Value::Null, "location"),
            ("location", with("latitude", json!(-23.5)), "location/latitude"),
            ("location", with("latitude", json!("90.1")), "location/latitude"),
            ("location", with("longitude", json!("180.1")), "location/longitude"),
            ("location", with("longitude", json!("1e2")), "location/longitude"),
            ("location", with("longitude", json!("NaN")), "location/longitude"),
            ("location", with("name", json!("")), "location: has an empty"),
            ("location", with("name", Value::Null), "location/name"),
            ("location", with("url", json!("https://example.com")), "location"),
        ] {
            let faults = faults_of(kind, &bad);
            assert!(faults.iter().any(|fault| fault.starts_with(named)), "{kind} {bad}: {faults:?}");
        }
    }

    #[test]
    fn every_fault_is_found_and_named() {
        for (pointer, value, named) in [
            ("/messaging_product", json!("sms"), "messaging_product"),
            ("/recipient_type", Value::Null, "recipient_type"),
            ("/type", json!("sticker"), "type"),
            ("/type", json!("sticker"), "contacts: unknown"),
            ("/type", json!("text"), "contacts: unknown"),
            ("/type", json!("text"), "text"),
            ("/context", json!({}), "context/message_id"),
            ("/context", json!({ "message_id": "msg_1" }), "context/message_id"),
            ("/context", json!({ "message_id": 1 }), "context/message_id"),
            ("/to", json!("+5511999998888"), "to"),
            ("/to", json!(""), "to"),
            ("/to", json!("BR.1502576394655843"), "to"),
            ("/recipient", json!("BR.1502576394655843"), "recipient"),
            ("/to", json!(5_511_999_998_888_u64), "to"),
            ("/biz_opaque_callback_data", json!("x".repeat(513)), "biz_opaque_callback_data"),
            ("/biz_opaque_callback_data", Value::Null, "biz_opaque_callback_data"),
            ("/preview_url", json!(true), "preview_url"),
            ("/contacts", json!([]), "contacts"),
            ("/contacts", json!(vec![&good()["contacts"][0]; 258]), "contacts"),
            ("/contacts", json!([good()["contacts"][0], {}]), "contacts/1/name"),
            ("/contacts", json!(["Maria"]), "contacts/0"),
            ("/contacts", json!([{ "phones": [{ "phone": "+5511988887777" }] }]), "contacts/0/name"),
        ] {
            let faults = faults_with(pointer, value.clone());
            assert!(faults.iter().any(|fault| fault.starts_with(named)), "{pointer} {value}: {faults:?}");
        }
        for nothing in [json!([]), json!("text"), Value::Null] {
            assert_eq!(Schemas::new().faults(&nothing), ["the body is no JSON object"]);
        }
    }

    #[test]
    fn every_error_of_a_contact_is_found_and_named() {
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
            let faults = Schemas::new().faults(&contact);
            assert!(faults.iter().any(|fault| fault.starts_with(named)), "{pointer} {value}: {faults:?}");
        }
    }
}
