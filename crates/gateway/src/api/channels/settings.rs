//! Settings of channels in calls, answers and the document. The tables of the channel types define them.

use std::borrow::Cow;

use recado_domain::channel::{ChannelSettings, ChannelType, Setting, SettingKind, Words, all_settings};
use recado_domain::field_errors::{FieldErrors, UNKNOWN};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::json::Object;
use crate::api::openapi::schemas;

/// The settings that a call names. The channel's type decides which of them it accepts.
pub fn parse(given: &Object<'_>, errors: &mut FieldErrors) -> Map<String, Value> {
    let mut settings = Map::new();
    for setting in all_settings() {
        match given.value::<Value>(setting.name, Cow::default) {
            Ok(Some(value)) => match setting.read(&value) {
                Some(value) => drop(settings.insert(setting.name.to_owned(), value)),
                None => errors.push(setting.field(), setting.refusal()),
            },
            // `null` leaves other settings as they are.
            Ok(None) if matches!(setting.kind, SettingKind::Limit(..)) && given.is_null(setting.name) => {
                settings.insert(setting.name.to_owned(), Value::Null);
            }
            Ok(None) => {}
            Err(error) if error.is_empty() => errors.push(setting.field(), setting.refusal()),
            Err(error) => errors.push(setting.field(), error),
        }
    }
    let known: Vec<_> = all_settings().map(|setting| setting.name).collect();
    given.unknown(&known).into_iter().for_each(|name| errors.push(format!("settings.{name}"), UNKNOWN));
    settings
}

/// The schema of the settings of all types in a call.
pub fn change_schema() -> Value {
    let properties: Map<_, _> = all_settings().map(|setting| (setting.name.to_owned(), changed(setting))).collect();
    json!({"type": ["object", "null"], "additionalProperties": false, "properties": properties})
}

fn changed(setting: &Setting) -> Value {
    let mut schema = match setting.kind {
        SettingKind::Number(least, most) | SettingKind::Seconds(least, most) | SettingKind::Limit(least, most) => {
            json!({"type": ["integer", "null"], "minimum": least, "maximum": most})
        }
        SettingKind::Switch => json!({"type": ["boolean", "null"]}),
        SettingKind::Words => {
            let mut words = words();
            words["type"] = json!(["array", "null"]);
            words
        }
        SettingKind::Choice { names, .. } => {
            let names = names.iter().map(|name| json!(name)).chain([Value::Null]);
            json!({"enum": names.collect::<Vec<_>>()})
        }
    };
    schema["description"] = about(setting).into();
    schema
}

fn words() -> Value {
    let word = json!({"type": "string", "minLength": 1, "maxLength": Words::LONGEST});
    json!({"type": "array", "maxItems": Words::MOST, "items": word})
}

fn about(setting: &Setting) -> Cow<'static, str> {
    match setting.kind {
        SettingKind::Limit(..) => format!("{}; `null`: no limit.", setting.about.trim_end_matches('.')).into(),
        _ => setting.about.into(),
    }
}

/// The settings of a channel.
#[derive(Serialize)]
#[serde(transparent)]
pub struct SettingsView(ChannelSettings);

impl SettingsView {
    pub fn new(settings: ChannelSettings) -> Self {
        Self(settings)
    }
}

impl JsonSchema for SettingsView {
    fn schema_name() -> Cow<'static, str> {
        "ChannelSettings".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let of_types: Vec<_> = ChannelType::ALL
            .into_iter()
            .map(|kind| {
                let schema = shown(kind, generator);
                schemas::named(kind.descriptor().settings_schema, schema, generator)
            })
            .collect();
        json_schema!({"anyOf": of_types, "description": "The settings of a channel, by its type."})
    }
}

fn shown(kind: ChannelType, generator: &mut SchemaGenerator) -> Value {
    let names: Vec<_> = kind.settings().iter().map(|setting| setting.name).collect();
    let properties: Map<_, _> =
        kind.settings().iter().map(|setting| (setting.name.to_owned(), shown_one(setting, generator))).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": names,
        "description": format!("Settings of a channel of type `{}`.", kind.name()),
    })
}

fn shown_one(setting: &Setting, generator: &mut SchemaGenerator) -> Value {
    let mut schema = match setting.kind {
        SettingKind::Number(_, most) | SettingKind::Seconds(_, most) if most <= u16::MAX.into() => {
            json!({"type": "integer", "format": "uint16", "minimum": 0, "maximum": u16::MAX})
        }
        SettingKind::Number(..) | SettingKind::Seconds(..) => {
            json!({"type": "integer", "format": "uint32", "minimum": 0})
        }
        SettingKind::Limit(..) => json!({"type": ["integer", "null"], "format": "uint32", "minimum": 0}),
        SettingKind::Switch => json!({"type": "boolean"}),
        SettingKind::Words => words(),
        SettingKind::Choice { schema, names } => {
            return schemas::named(schema, schemas::one_of(names.iter().copied()), generator);
        }
    };
    schema["description"] = about(setting).into();
    schema
}
