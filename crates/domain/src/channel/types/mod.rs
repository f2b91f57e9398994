//! The types of channels: a line of the registry and a file for each. What stands behind a type on its network is its
//! driver, in the crate `recado-providers`.

pub mod cloud_api;
mod descriptor;
mod sandbox;
pub mod whatsapp_web;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::channel::{Setting, TypeSettings};

pub use descriptor::{ConnectField, Descriptor, FieldText, Ordering};

macro_rules! channel_types {
    ($($(#[$doc:meta])* $name:ident in $module:ident;)*) => {
        /// What stands behind a channel.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ChannelType {
            $($(#[$doc])* $name,)*
        }

        /// What a person has set on a channel, by its type. Stored as JSON, so that further settings need no new columns.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        #[expect(missing_docs, reason = "named as the types")]
        pub enum ChannelSettings {
            $($name($module::Settings),)*
        }

        impl ChannelType {
            /// Every type.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            /// What is known of the type without its network.
            pub fn descriptor(self) -> &'static Descriptor {
                match self {
                    $(Self::$name => &$module::DESCRIPTOR,)*
                }
            }

            /// The settings of a channel on which nobody has set anything.
            pub fn default_settings(self) -> ChannelSettings {
                match self {
                    $(Self::$name => ChannelSettings::$name($module::Settings::default()),)*
                }
            }
        }

        impl ChannelSettings {
            /// Reads what is stored of a channel of this type. Settings of other types, which earlier versions stored with
            /// them, are passed over.
            pub fn read(kind: ChannelType, stored: &str) -> serde_json::Result<Self> {
                Ok(match kind {
                    $(ChannelType::$name => Self::$name(serde_json::from_str(stored)?),)*
                })
            }

            /// The type whose settings they are.
            pub fn kind(&self) -> ChannelType {
                match self {
                    $(Self::$name(_) => ChannelType::$name,)*
                }
            }

            pub(super) fn rules(&self) -> &dyn TypeSettings {
                match self {
                    $(Self::$name(settings) => settings,)*
                }
            }
        }

        $(
            /// The defaults, where they are another type's.
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

    /// The names of all types, for a sentence.
    pub fn names(or: &str) -> String {
        let [first @ .., last] = Self::ALL.map(Self::name);
        format!("{} {or} {last}", first.join(", "))
    }

    /// Which settings a channel of this type has.
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
    fn names_go_both_ways() {
        for kind in ChannelType::ALL {
            assert_eq!(ChannelType::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::from_str::<ChannelType>(&format!("\"{}\"", kind.name())).expect("read"), kind);
            assert_eq!(kind.default_settings().kind(), kind);
        }
        assert_eq!(ChannelType::names("ou"), "SANDBOX, WHATSAPP_WABA ou WHATSAPP_BAILEYS");
        assert!(serde_json::from_str::<ChannelType>("\"FAX\"").is_err());
    }
}
