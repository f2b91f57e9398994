//! The settings of channels: a table for each channel type, and changes of settings.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::channel::{ChannelSettings, ChannelType, Words};
use crate::field_errors::{FieldErrors, UNKNOWN};
use crate::pacing::Pacing;
use crate::text::is_forbidden;

/// A setting. The API, its document and the command line describe the setting by these fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The name on the wire and in the store.
    pub name: &'static str,
    /// The name of the command line's flag.
    pub flag: &'static str,
    /// The values that the setting accepts.
    pub kind: SettingKind,
    /// A description of the setting for people, in one sentence.
    pub about: &'static str,
}

/// The values that a setting accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingKind {
    /// A whole number from the first to the second.
    Number(u32, u32),
    /// The same in seconds.
    Seconds(u32, u32),
    /// A whole number in a range, or `null` for no limit.
    Limit(u32, u32),
    /// `true` or `false`.
    Switch,
    /// A list of words: see [`Words`].
    Words,
    /// One of some names.
    Choice {
        /// The name of the schema in the API's document.
        schema: &'static str,
        /// The names.
        names: &'static [&'static str],
    },
}

/// The value of a setting that is off or on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOff {
    /// `off`
    Off,
    /// `on`
    On,
}

impl OnOff {
    /// The values of such a setting.
    pub const KIND: SettingKind = SettingKind::Choice { schema: "OnOff", names: &["off", "on"] };

    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// When the bytes of received files are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InboundMedia {
    /// When a caller wants them.
    Lazy,
    /// At once, if a file is not large.
    Eager,
}

impl InboundMedia {
    /// The values of the setting.
    pub const KIND: SettingKind = SettingKind::Choice { schema: "InboundMedia", names: &["lazy", "eager"] };
}

impl Setting {
    /// Converts the value to its stored form, even if it is out of range. `None` if the value has another type. JSON has one
    /// number type, so 60.0 is 60.
    pub fn read(&self, given: &Value) -> Option<Value> {
        match self.kind {
            SettingKind::Limit(..) if given.is_null() => Some(Value::Null),
            SettingKind::Number(..) | SettingKind::Seconds(..) | SettingKind::Limit(..) => {
                let given = given.as_f64().filter(|given| given.fract() == 0.0)?;
                let is_number = (0.0..=f64::from(u32::MAX)).contains(&given);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and in the range")]
                is_number.then_some(Value::from(given as u32))
            }
            SettingKind::Switch => given.as_bool().map(Value::from),
            SettingKind::Words => {
                let words = given.as_array()?.iter().map(|word| word.as_str().map(|word| Value::from(word.trim())));
                words.collect::<Option<Vec<_>>>().map(Value::from)
            }
            SettingKind::Choice { names, .. } => {
                let given = given.as_str()?;
                names.contains(&given).then(|| given.into())
            }
        }
    }

    /// The same for a value in the range; otherwise `None`.
    fn accept(&self, given: &Value) -> Option<Value> {
        let range = match self.kind {
            SettingKind::Number(least, most) | SettingKind::Seconds(least, most) | SettingKind::Limit(least, most) => {
                u64::from(least)..=u64::from(most)
            }
            SettingKind::Switch | SettingKind::Words | SettingKind::Choice { .. } => 0..=0,
        };
        let in_range = |value: &Value| value.as_u64().is_none_or(|number| range.contains(&number));
        self.read(given).filter(in_range).filter(|value| value.as_array().is_none_or(|words| are_words(words)))
    }

    /// The path of the setting in the body of a call.
    pub fn field(&self) -> String {
        format!("settings.{}", self.name)
    }

    /// The error text for a value that the setting does not accept.
    pub fn refusal(&self) -> String {
        let field = self.field();
        match self.kind {
            SettingKind::Number(least, most) | SettingKind::Seconds(least, most) | SettingKind::Limit(least, most) => {
                format!("O campo {field} deve ser um numero de {least} a {most}.")
            }
            SettingKind::Switch => format!("O campo {field} deve ser true ou false."),
            SettingKind::Words => {
                let (most, longest) = (Words::MOST, Words::LONGEST);
                format!("O campo {field} deve ser uma lista de ate {most} palavras de 1 a {longest} caracteres.")
            }
            SettingKind::Choice { names, .. } => format!("O campo {field} deve ser {}.", names.join(" ou ")),
        }
    }
}

/// Whether the list is short enough, and each of its words shows something.
fn are_words(words: &[Value]) -> bool {
    let is_word = |word: &Value| {
        word.as_str().is_some_and(|word| {
            word.chars().any(char::is_alphanumeric)
                && word.chars().count() <= Words::LONGEST
                && !word.chars().any(is_forbidden)
        })
    };
    words.len() <= Words::MOST && words.iter().all(is_word)
}

/// All settings of all types, each once, in the order in which their errors are reported.
pub fn all_settings() -> impl Iterator<Item = &'static Setting> {
    let mut known = HashSet::new();
    ChannelType::ALL.into_iter().flat_map(ChannelType::settings).filter(move |setting| known.insert(setting.name))
}

/// What the settings of a type decide about its sends. The defaults are for a type that has no such setting.
pub trait TypeSettings {
    /// The send interval of a channel.
    fn pacing(&self) -> Pacing {
        Pacing::default()
    }

    /// How long an `UNKNOWN` message waits for a receipt before it is sent again; `None`: forever.
    fn resend_after(&self) -> Option<Duration> {
        None
    }

    /// The most chats that may be opened within 24 hours. `None`: no limit.
    fn new_recipients_per_day(&self) -> Option<u32> {
        None
    }

    /// When the bytes of received files are fetched.
    fn inbound_media(&self) -> InboundMedia {
        InboundMedia::Lazy
    }

    /// Whether what happens in groups is received.
    fn groups(&self) -> OnOff {
        OnOff::On
    }

    /// Adds an error for each combination of settings that is not allowed.
    fn check(&self, _: &mut FieldErrors) {}
}

/// A change of a channel.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ChannelChange {
    /// The new name; `None` keeps the old one.
    pub name: Option<String>,
    /// New settings by their names on the wire, not checked yet. Settings that are not named stay as they are.
    pub settings: Map<String, Value>,
}

impl ChannelChange {
    /// Whether the change is empty.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.settings.is_empty()
    }
}

impl ChannelSettings {
    /// The settings after the change, or an error for every setting that cannot be changed as requested.
    #[must_use]
    pub fn changed(self, change: &ChannelChange, errors: &mut FieldErrors) -> Self {
        let own = self.kind().settings();
        let mut stored = serde_json::to_value(&self).expect("settings can be written as JSON");
        for setting in all_settings() {
            let Some(given) = change.settings.get(setting.name) else { continue };
            let is_own = own.contains(setting);
            if !is_own {
                errors.push(setting.field(), UNKNOWN);
            }
            match setting.accept(given) {
                Some(value) if is_own => stored[setting.name] = value,
                Some(_) => {}
                None => errors.push(setting.field(), setting.refusal()),
            }
        }
        let settings =
            Self::read(self.kind(), &stored.to_string()).expect("each value is one that its setting accepts");
        settings.rules().check(errors);
        settings
    }

    /// The send interval of a channel.
    pub fn pacing(&self) -> Pacing {
        self.rules().pacing()
    }

    /// How long an `UNKNOWN` message waits for a receipt before it is sent again; `None`: forever.
    pub fn resend_after(&self) -> Option<Duration> {
        self.rules().resend_after()
    }

    /// The most chats that may be opened within 24 hours. `None`: no limit.
    pub fn new_recipients_per_day(&self) -> Option<u32> {
        self.rules().new_recipients_per_day()
    }

    /// Whether the bytes of received files are fetched before a caller wants them.
    pub fn fetches_media(&self) -> bool {
        self.rules().inbound_media() == InboundMedia::Eager
    }

    /// Whether what happens in groups is received.
    pub fn takes_groups(&self) -> bool {
        self.rules().groups().is_on()
    }
}

/// Defines the struct `Settings` of a type and the table of its settings. Each line is a setting: its field, type and
/// default; its name, its flag, the values that it accepts, and its description. The common settings follow.
macro_rules! settings {
    ($($field:ident: $type:ty = $default:expr, $name:literal, $flag:literal, $kind:expr, $about:literal;)*) => {
        /// The settings of a channel of this type.
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct Settings {
            $(#[doc = $about] #[serde(rename = $name)] pub $field: $type,)*
            /// The settings that channels of every type have.
            #[serde(flatten)]
            pub common: $crate::channel::CommonSettings,
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $($field: $default,)* common: $crate::channel::CommonSettings::default() }
            }
        }

        /// The table of these settings.
        pub(super) const SETTINGS: &[$crate::channel::Setting] = {
            use $crate::channel::common_settings::COMMON;
            &[
                $($crate::channel::Setting { name: $name, flag: $flag, kind: $kind, about: $about },)*
                COMMON[0], COMMON[1], COMMON[2], COMMON[3], COMMON[4], COMMON[5],
            ]
        };
    };
}
pub(super) use settings;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(settings: Value) -> ChannelChange {
        let Value::Object(settings) = settings else { panic!("an object") };
        ChannelChange { name: None, settings }
    }

    /// The settings after a change, or the errors.
    fn changed(settings: ChannelSettings, to: Value) -> Result<ChannelSettings, FieldErrors> {
        let mut errors = FieldErrors::default();
        let settings = settings.changed(&change(to), &mut errors);
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }

    #[test]
    fn every_setting_accepts_only_the_values_of_its_kind() {
        for kind in ChannelType::ALL {
            for setting in kind.settings() {
                let (good, bad) = match setting.kind {
                    SettingKind::Number(least, most) | SettingKind::Seconds(least, most) => {
                        (vec![json!(least.max(3)), json!(most)], vec![json!(most + 1), json!(null), json!("3")])
                    }
                    SettingKind::Limit(least, most) => {
                        (vec![json!(least), json!(f64::from(most)), json!(null)], vec![json!(least - 1), json!(1.5)])
                    }
                    SettingKind::Switch => (vec![json!(true), json!(false)], vec![json!(0), json!(null)]),
                    SettingKind::Words => (
                        vec![json!([]), json!(["SAIR", "nao quero"]), json!(vec!["a".repeat(40); 20])],
                        vec![
                            json!("SAIR"),
                            json!([1]),
                            json!([" "]),
                            json!(["."]),
                            json!(vec!["a"; 21]),
                            json!(["a".repeat(41)]),
                        ],
                    ),
                    SettingKind::Choice { names, .. } => {
                        (names.iter().map(|name| json!(name)).collect(), vec![json!("outro"), json!(true)])
                    }
                };
                for value in good {
                    // Together with the longest interval, so that every shortest interval is allowed.
                    let all = changed(kind.default_settings(), json!({"delayMaxSeconds": 600}));
                    let before = all.unwrap_or_else(|_| kind.default_settings());
                    let after = changed(before, json!({setting.name: value})).expect("accepted");
                    let stored = serde_json::to_value(&after).expect("JSON");
                    assert_eq!(stored[setting.name].as_f64(), value.as_f64(), "{}", setting.name);
                    if !value.is_number() {
                        assert_eq!(stored[setting.name], value, "{}", setting.name);
                    }
                    assert_eq!(ChannelSettings::read(kind, &stored.to_string()).expect("read"), after);
                }
                for value in bad {
                    let refused = changed(kind.default_settings(), json!({setting.name: value}));
                    let expected = FieldErrors::one(setting.field(), setting.refusal());
                    assert_eq!(refused.expect_err("refused"), expected, "{value}");
                }
            }
        }
    }

    #[test]
    fn a_setting_of_another_type_is_unknown() {
        for kind in ChannelType::ALL.into_iter().filter(|kind| !kind.settings().is_empty()) {
            for other in all_settings().filter(|setting| !kind.settings().contains(setting)) {
                let value = serde_json::to_value(other_default(other)).expect("JSON")[other.name].clone();
                let value = if value.is_null() { json!(1) } else { value };
                let refused = changed(kind.default_settings(), json!({other.name: value}));
                assert_eq!(refused.expect_err("refused"), FieldErrors::one(other.field(), UNKNOWN));
            }
        }
    }

    /// The defaults of the type that has this setting.
    fn other_default(setting: &Setting) -> ChannelSettings {
        let kind = ChannelType::ALL.into_iter().find(|kind| kind.settings().contains(setting));
        kind.expect("some type has it").default_settings()
    }

    #[test]
    fn messages_of_earlier_versions_are_read() {
        let all = r#"{"pipeline":8,"unknownPolicy":"resend","unknownWaitSeconds":60,"delayMinSeconds":2,
            "delayMaxSeconds":9,"typing":true,"newRecipientsPerDay":7,"groups":"on","ownDevice":"off",
            "inboundMedia":"eager","windowGuard":"refuse","closeAfterHours":72,"optOutWords":["CHEGA"],"keepRevoked":true,
            "autoRead":"received","keepText":false}"#;
        for kind in ChannelType::ALL {
            assert_eq!(ChannelSettings::read(kind, "{}").expect("read"), kind.default_settings());
            let read = ChannelSettings::read(kind, all).expect("read");
            let stored = serde_json::to_value(&read).expect("JSON");
            let all: Value = serde_json::from_str(all).expect("JSON");
            for setting in kind.settings() {
                assert_eq!(stored[setting.name], all[setting.name], "{}", setting.name);
            }
        }
    }
}
