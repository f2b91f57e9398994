//! Puts what the document would repeat into its components once. The patterns of texts are long, and hundreds of fields have one of
//! a few; many operations have the same parameters and answers.

use std::collections::HashMap;

use recado_domain::schema;
use serde_json::{Map, Value, json};

/// Schemas that others repeat: the name, and the place of one of them among the schemas.
const SCHEMAS: [(&str, &str); 4] = [
    ("ContactCards", "/ContactCall/properties/contacts"),
    ("MessageReference", "/TextCall/properties/reference"),
    ("ReplyTo", "/TextCall/properties/replyTo"),
    ("WebhookName", "/NewWebhook/properties/name"),
];

/// The rule of a text. What else its schema says, such as a description, stays where the text is used.
const RULE: [&str; 3] = ["type", "maxLength", "pattern"];

/// Texts with shorter patterns stay where they are.
const LONG: usize = 2_000;

/// Replaces what is repeated by references.
pub fn share(document: &mut Value) {
    let mut texts = Texts::default();
    texts.take(document);
    let schemas = &mut document["components"]["schemas"];
    for (name, rule) in texts.found {
        schemas[name] = rule;
    }
    for (name, place) in SCHEMAS {
        let shared = schemas.pointer(place).cloned().expect("a schema of the document");
        refer(schemas, &shared, name);
        schemas[name] = shared;
    }
    for kind in ["parameters", "responses"] {
        share_parts(document, kind);
    }
    for components in children(&mut document["components"]) {
        components.as_object_mut().into_iter().for_each(Map::sort_keys);
    }
}

/// The texts with long patterns.
#[derive(Default)]
struct Texts {
    /// The name of each rule. `None`: it has none, and stays where it is.
    names: HashMap<String, Option<String>>,
    found: HashMap<String, Value>,
}

impl Texts {
    fn take(&mut self, value: &mut Value) {
        if let Value::Object(fields) = value {
            self.replace(fields);
        }
        for child in children(value) {
            self.take(child);
        }
    }

    fn replace(&mut self, fields: &mut Map<String, Value>) {
        if fields.get("pattern").and_then(Value::as_str).is_none_or(|pattern| pattern.len() < LONG) {
            return;
        }
        let (rule, rest): (Map<_, _>, Map<_, _>) =
            std::mem::take(fields).into_iter().partition(|(name, _)| RULE.contains(&name.as_str()));
        let rule = Value::Object(rule);
        let name = self.names.entry(rule.to_string()).or_insert_with(|| name_of(&rule)).clone();
        match (name, rule) {
            (Some(name), rule) => {
                fields.insert("$ref".to_owned(), reference("schemas", &name));
                self.found.insert(name, rule);
            }
            (None, Value::Object(rule)) => fields.extend(rule),
            (None, _) => {}
        }
        fields.extend(rest);
    }
}

/// The name of a rule, if it is one of those that many fields have.
fn name_of(rule: &Value) -> Option<String> {
    let Some(longest) = rule["maxLength"].as_u64().and_then(|longest| usize::try_from(longest).ok()) else {
        let numbers = [("PhoneNumber", schema::phone("")), ("ChatAddress", schema::address(""))];
        let known = numbers.into_iter().find(|(_, number)| number["pattern"] == rule["pattern"]);
        return known.map(|(name, _)| name.to_owned());
    };
    let texts = [
        ("Line", schema::name(longest, true)),
        ("OptionalLine", schema::name(longest, false)),
        ("Text", schema::lines(longest, true)),
        ("OptionalText", schema::lines(longest, false)),
        ("Tag", schema::tag(longest)),
    ];
    texts.into_iter().find(|(_, text)| text == rule).map(|(name, _)| format!("{name}{longest}"))
}

/// Replaces each schema that is the same as this one.
fn refer(value: &mut Value, shared: &Value, name: &str) {
    for child in children(value) {
        if child == shared {
            *child = json!({"$ref": reference("schemas", name)});
        } else {
            refer(child, shared, name);
        }
    }
}

/// Shares the parts of operations of this kind that occur more than once.
fn share_parts(document: &mut Value, kind: &str) {
    let mut times: HashMap<String, usize> = HashMap::new();
    for (_, part) in parts(document, kind) {
        *times.entry(part.to_string()).or_default() += 1;
    }
    let mut shared = document["components"].get(kind).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut names: HashMap<String, String> = HashMap::new();
    for (user, part) in parts(document, kind) {
        let text = part.to_string();
        if times.get(&text).is_none_or(|times| *times < 2) || part.get("$ref").is_some() {
            continue;
        }
        let name = names.entry(text).or_insert_with(|| {
            let own = own_name(part).unwrap_or_else(|| user.clone());
            if shared.contains_key(&own) { format!("{own}.{user}") } else { own }
        });
        let whole = std::mem::replace(part, json!({"$ref": reference(kind, name)}));
        shared.insert(name.clone(), whole);
    }
    document["components"][kind] = Value::Object(shared);
}

/// The name of a parameter, or the codes of an error answer.
fn own_name(part: &Value) -> Option<String> {
    if let Some(name) = part.get("name").and_then(Value::as_str) {
        return Some(name.to_owned());
    }
    let examples = part.pointer("/content/application~1json/examples")?.as_object()?;
    Some(examples.keys().map(String::as_str).collect::<Vec<_>>().join("."))
}

/// The parts of all operations of this kind, each with a name that says who has it.
fn parts<'d>(document: &'d mut Value, kind: &str) -> Vec<(String, &'d mut Value)> {
    let sections = document.as_object_mut().into_iter().flatten();
    let sections = sections.filter(|(name, _)| ["paths", "webhooks"].contains(&name.as_str()));
    let methods = sections.flat_map(|(_, paths)| children(paths)).flat_map(children);
    let mut all = Vec::new();
    for operation in methods {
        let id = operation.get("operationId").and_then(Value::as_str).unwrap_or("webhook").to_owned();
        match operation.get_mut(kind) {
            Some(Value::Object(answers)) => {
                all.extend(answers.iter_mut().map(|(status, answer)| (format!("{id}.{status}"), answer)));
            }
            Some(Value::Array(parameters)) => {
                all.extend(parameters.iter_mut().map(|parameter| (id.clone(), parameter)));
            }
            _ => {}
        }
    }
    all
}

fn reference(kind: &str, name: &str) -> Value {
    format!("#/components/{kind}/{name}").into()
}

fn children(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Object(fields) => fields.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts the components that `whole` does not have back in the places of their references.
    fn put_back(value: &mut Value, added: &Value) {
        if let Some(found) = value["$ref"].as_str().and_then(|to| added.pointer(to.strip_prefix("#/components")?)) {
            let mut fields = found.as_object().expect("an object").clone();
            fields.extend(value.as_object().expect("an object").clone());
            fields.remove("$ref");
            fields.extend(found.get("$ref").map(|to| ("$ref".to_owned(), to.clone())));
            *value = Value::Object(fields);
            return put_back(value, added);
        }
        children(value).into_iter().for_each(|child| put_back(child, added));
    }

    #[test]
    fn nothing_is_lost_and_nothing_long_is_repeated() {
        let whole = super::super::whole(&crate::api::routes());
        let mut document = whole.clone();
        share(&mut document);
        let mut added = document["components"].clone();
        for (kind, components) in added.as_object_mut().expect("components") {
            let known = whole["components"].get(kind).and_then(Value::as_object);
            let components = components.as_object_mut().expect("an object");
            components.retain(|name, _| known.is_none_or(|known| !known.contains_key(name)));
        }
        let text = document.to_string();
        for kind in ["schemas", "parameters", "responses"] {
            assert!(added[kind].as_object().is_some_and(|added| added.len() > 3), "{added}");
            for name in added[kind].as_object().expect("components").keys() {
                assert!(text.contains(&format!("\"#/components/{kind}/{name}\"")), "{kind} {name}");
                document["components"][kind].as_object_mut().expect("components").remove(name);
            }
        }
        let places = |document: &Value| document.to_string().matches("\"pattern\":\"^[\\\\t\\\\n\\\\r ]*").count();
        // A pattern that stands once stays where it is.
        assert!(places(&whole) > 10 * places(&document), "{} {}", places(&whole), places(&document));
        put_back(&mut document, &added);
        document["components"]
            .as_object_mut()
            .expect("components")
            .retain(|kind, _| whole["components"].get(kind).is_some());
        assert!(document == whole, "the document says something else");
    }
}
