//! The types of channels. Each has a line in the registry and a file. The crate `recado-providers` has the driver of each
//! type.

pub mod cloud_api;
mod descriptor;
mod sandbox;
pub mod whatsapp_web;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::channel::{CommonSettings, Setting, TypeSettings};

pub use descriptor::{ConnectField, Descriptor, FieldText, Ordering};

macro_rules! channel_types {
    ($($(#[$doc:meta])* $name:ident in $module:ident;)*) => {
        /// The type of a channel, which decides its network.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ChannelType {
            $($(#[$doc])* $name,)*
        }

        /// The settings of a channel, by its type. They are stored as JSON, so that a new setting needs no new column.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        #[expect(missing_docs, reason = "named as the types")]
        pub enum ChannelSettings {
            $($name($module::Settings),)*
        }

        impl ChannelType {
            /// Every type.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            /// The properties of the type that do not need its network.
            pub fn descriptor(self) -> &'static Descriptor {
                match self {
                    $(Self::$name => &$module::DESCRIPTOR,)*
                }
            }

            /// The default settings.
            pub fn default_settings(self) -> ChannelSettings {
                match self {
                    $(Self::$name => ChannelSettings::$name($module::Settings::default()),)*
                }
            }
        }

        impl ChannelSettings {
            /// Reads the stored settings of a channel of this type. Settings of other types, which earlier versions stored
            /// too, are ignored.
            pub fn read(kind: ChannelType, stored: &str) -> serde_json::Result<Self> {
                Ok(match kind {
                    $(ChannelType::$name => Self::$name(serde_json::from_str(stored)?),)*
                })
            }

            /// The type whose settings these are.
            pub fn kind(&self) -> ChannelType {
                match self {
                    $(Self::$name(_) => ChannelType::$name,)*
                }
            }

            /// The settings that channels of every type have.
            pub fn common(&self) -> &CommonSettings {
                match self {
                    $(Self::$name(settings) => &settings.common,)*
                }
            }

            pub(super) fn rules(&self) -> &dyn TypeSettings {
                match self {
                    $(Self::$name(settings) => settings,)*
                }
            }
        }

        $(
            /// The defaults, if the settings are of another type.
            impl From<ChannelSettings> for $module::Settings {
                fn from(settings: ChannelSettings) -> Self {
                    if let ChannelSettings::$name(settings) = settings { settings } else { Self::default() }
                }
            }
        )*
    };
}

channel_types! {
    /// The simulated network.
    Sandbox in sandbox;
    /// Meta's Cloud API.
    CloudApi in cloud_api;
    /// A linked phone over WhatsApp Web.
    WhatsAppWeb in whatsapp_web;
}

impl ChannelType {
    /// The type's name on the wire and in the store.
    pub fn name(self) -> &'static str {
        self.descriptor().name
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The names of all types, joined for a sentence.
    pub fn names(or: &str) -> String {
        let [first @ .., last] = Self::ALL.map(Self::name);
        format!("{} {or} {last}", first.join(", "))
    }

    /// The settings of a channel of this type.
    pub fn settings(self) -> &'static [Setting] {
        self.descriptor().settings
    }
}

impl Serialize for ChannelType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ChannelType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| serde::de::Error::custom("no type of channels"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_back() {
        for kind in ChannelType::ALL {
            assert_eq!(ChannelType::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::from_str::<ChannelType>(&format!("\"{}\"", kind.name())).expect("read"), kind);
            assert_eq!(kind.default_settings().kind(), kind);
        }
        assert_eq!(ChannelType::names("ou"), "SANDBOX, WHATSAPP_WABA ou WHATSAPP_BAILEYS");
        assert!(serde_json::from_str::<ChannelType>("\"FAX\"").is_err());
    }
}
