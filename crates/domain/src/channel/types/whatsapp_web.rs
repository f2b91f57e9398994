//! Channels that a person's phone links over WhatsApp Web. The name on the wire is the vendor's.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::address::AddressKind;
use crate::api_key::Environment;
use crate::channel::settings::settings;
use crate::channel::types::descriptor::LinkView;
use crate::channel::types::{ConnectField, Descriptor, FieldText, Ordering};
use crate::channel::{InboundMedia, OnOff, SettingKind, TypeSettings};
use crate::error::AppError;
use crate::field_errors::FieldErrors;
use crate::ids::ChannelId;
use crate::pacing::Pacing;

settings! {
    delay_min_seconds: u16 = 1, "delayMinSeconds", "delay-min", SettingKind::Seconds(0, 600),
        "The shortest interval between two messages.";
    delay_max_seconds: u16 = 3, "delayMaxSeconds", "delay-max", SettingKind::Seconds(0, 600),
        "The longest interval between two messages.";
    typing: bool = false, "typing", "typing", SettingKind::Switch,
        "Whether the recipient sees a typing notice before a message.";
    new_recipients_per_day: Option<u32> = None, "newRecipientsPerDay", "new-recipients-per-day",
        SettingKind::Limit(1, 10_000), "Chats that may be opened within 24 hours.";
    groups: OnOff = OnOff::Off, "groups", "groups", OnOff::KIND,
        "Whether messages of groups are received.";
    own_device: OnOff = OnOff::On, "ownDevice", "own-device", OnOff::KIND,
        "Whether messages that are sent on the phone, or on another linked device, are received.";
    inbound_media: InboundMedia = InboundMedia::Lazy, "inboundMedia", "inbound-media", InboundMedia::KIND,
        "Whether the bytes of received files are fetched when a caller wants them, or at once if a file has at most 16 MiB.";
}

impl TypeSettings for Settings {
    fn pacing(&self) -> Pacing {
        let seconds = |seconds: u16| Duration::from_secs(seconds.into());
        Pacing { min: seconds(self.delay_min_seconds), max: seconds(self.delay_max_seconds) }
    }

    fn new_recipients_per_day(&self) -> Option<u32> {
        self.new_recipients_per_day
    }

    fn inbound_media(&self) -> InboundMedia {
        self.inbound_media
    }

    fn groups(&self) -> OnOff {
        self.groups
    }

    fn check(&self, errors: &mut FieldErrors) {
        if self.delay_min_seconds > self.delay_max_seconds {
            let text = "O campo settings.delayMinSeconds deve ser no maximo settings.delayMaxSeconds.";
            errors.push("settings.delayMinSeconds", text);
        }
    }
}

/// The fields that connect a channel.
pub const CONNECT: [ConnectField; 1] = [ConnectField {
    name: "phone",
    flag: "phone",
    text: FieldText::Phone,
    is_removable: false,
    about: "`WHATSAPP_BAILEYS`: the number of the phone on which a code is to be typed.",
}];

/// The stored details of the phone that has linked a channel.
#[derive(Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as what it holds")]
pub struct LinkDetails {
    pub phone: String,
}

fn show_link(details: &str, _: &ChannelId) -> Option<Value> {
    let LinkDetails { phone } = serde_json::from_str(details).ok()?;
    Some(json!({ "phone": phone }))
}

fn link_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "phone": {
                "type": "string",
                "pattern": "^[0-9]{4,15}$",
                "description": "The digits of its number, which is the channel's.",
            },
        },
        "required": ["phone"],
        "description": "The phone that has linked the channel.",
    })
}

pub(super) const DESCRIPTOR: Descriptor = Descriptor {
    name: "WHATSAPP_BAILEYS",
    environment: Environment::Live,
    ordering: Ordering::Channel,
    addresses: &[AddressKind::Phone, AddressKind::Lid, AddressKind::Group],
    opens_chats: true,
    holds_session: true,
    has_secrets: true,
    has_window: false,
    sends_message_id: false,
    missing: || AppError::WhatsAppWebMissing,
    settings: SETTINGS,
    settings_schema: "WhatsAppWebSettings",
    connect: &CONNECT,
    link: Some(LinkView { schema_name: "PhoneLink", schema: link_schema, show: show_link }),
};
