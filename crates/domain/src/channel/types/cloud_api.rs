//! Channels of Meta's Cloud API.

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
use crate::ids::ChannelId;

// Meta accepts 80 messages a second for a number, and answers within a second or two. A longer pipeline would only wait
// elsewhere. Messages expire after a day by default, so no message waits longer for a receipt.
settings! {
    pipeline: u16 = 16, "pipeline", "pipeline", SettingKind::Number(1, 256),
        "Messages that may be in flight at once.";
    unknown_policy: UnknownPolicy = UnknownPolicy::Leave, "unknownPolicy", "unknown-policy", POLICIES,
        "What happens to a message whose answer was lost, if no status follows: it stays `UNKNOWN`, or is sent again and may arrive twice.";
    unknown_wait_seconds: u32 = 600, "unknownWaitSeconds", "unknown-wait", SettingKind::Seconds(5, 86_400),
        "How long to wait for a status before an `UNKNOWN` message is sent again.";
    groups: OnOff = OnOff::Off, "groups", "groups", OnOff::KIND,
        "Whether messages of groups are received.";
    own_device: OnOff = OnOff::On, "ownDevice", "own-device", OnOff::KIND,
        "Whether messages that are sent on the phone, or on another linked device, are received.";
    inbound_media: InboundMedia = InboundMedia::Lazy, "inboundMedia", "inbound-media", InboundMedia::KIND,
        "Whether the bytes of received files are fetched when a caller wants them, or at once if a file has at most 16 MiB.";
}

const POLICIES: SettingKind =
    SettingKind::Choice { schema: "UnknownPolicy", names: &[UnknownPolicy::LEAVE, UnknownPolicy::RESEND] };

/// What happens to an `UNKNOWN` message about which the network reports nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownPolicy {
    /// The message stays as it is. It arrives once or not at all.
    #[default]
    Leave,
    /// The message is sent again. It arrives once or twice.
    Resend,
}

impl UnknownPolicy {
    const LEAVE: &'static str = "leave";
    const RESEND: &'static str = "resend";
}

impl TypeSettings for Settings {
    fn resend_after(&self) -> Option<Duration> {
        (self.unknown_policy == UnknownPolicy::Resend)
            .then(|| Duration::from_secs(u64::from(self.unknown_wait_seconds)))
    }

    fn inbound_media(&self) -> InboundMedia {
        self.inbound_media
    }

    fn groups(&self) -> OnOff {
        self.groups
    }
}

/// The most digits of an id of Meta. Current ids have 15 to 17.
pub const ID_LIMIT: usize = 32;
/// The most characters of an access token. Current tokens have about 200.
pub const TOKEN_LIMIT: usize = 2_048;
/// The most characters of the verify token and of the app's secret.
pub const SECRET_LIMIT: usize = 255;

/// The fields that connect a channel, in the order in which their errors are reported.
pub const CONNECT: [ConnectField; 5] = [
    ConnectField {
        name: "phoneNumberId",
        flag: "phone-number-id",
        text: FieldText::Digits(ID_LIMIT),
        is_removable: false,
        about: "Meta's id of the number.",
    },
    ConnectField {
        name: "businessAccountId",
        flag: "business-account-id",
        text: FieldText::Digits(ID_LIMIT),
        is_removable: false,
        about: "Meta's id of the WhatsApp business account.",
    },
    ConnectField {
        name: "accessToken",
        flag: "access-token-file",
        text: FieldText::Secret { limit: TOKEN_LIMIT, variable: "RECADO_ACCESS_TOKEN" },
        is_removable: false,
        about: "A permanent token of the Graph API.",
    },
    ConnectField {
        name: "verifyToken",
        flag: "verify-token-file",
        text: FieldText::Secret { limit: SECRET_LIMIT, variable: "RECADO_VERIFY_TOKEN" },
        is_removable: false,
        about: "Chosen by you, and entered in Meta's dashboard with the callback address.",
    },
    ConnectField {
        name: "appSecret",
        flag: "app-secret-file",
        text: FieldText::Secret { limit: SECRET_LIMIT, variable: "RECADO_APP_SECRET" },
        is_removable: true,
        about: "The secret of Meta's app. Without it callbacks cannot be verified, so there are no receipts.",
    },
];

/// The part of a link that is stored in clear. Fields that a later version wrote are ignored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "named as what they hold")]
pub struct LinkDetails {
    pub phone_number_id: String,
    pub business_account_id: String,
    #[serde(flatten)]
    pub number: NumberInfo,
    /// Whether there is an app secret, which authenticates callbacks.
    #[serde(default)]
    pub receipts: bool,
}

/// What Meta reports about a number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberInfo {
    /// In Meta's notation for people, `+55 11 99999-8888`.
    #[serde(rename = "phone")]
    pub phone: Option<String>,
    /// The name that Meta has verified.
    #[serde(rename = "name")]
    pub name: Option<String>,
}

impl LinkDetails {
    /// Parses the JSON of the details.
    pub fn parse(details: &str) -> Option<Self> {
        serde_json::from_str(details).ok()
    }
}

/// A channel's link without its secrets.
fn show_link(details: &str, channel: &ChannelId) -> Option<Value> {
    let LinkDetails { phone_number_id, business_account_id, number, receipts } = LinkDetails::parse(details)?;
    Some(json!({
        "phoneNumberId": phone_number_id,
        "businessAccountId": business_account_id,
        "phone": number.phone,
        "name": number.name,
        "receipts": if receipts { "ON" } else { "OFF" },
        "callbackPath": format!("/v1/callbacks/meta/{channel}"),
    }))
}

fn link_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "phoneNumberId": {"type": "string"},
            "businessAccountId": {"type": "string"},
            "phone": {"type": ["string", "null"], "description": "The number in the form in which Meta shows it."},
            "name": {"type": ["string", "null"], "description": "The name that Meta verified."},
            "receipts": {
                "type": "string",
                "description": "`OFF` where no `appSecret` is known: callbacks are refused then, and the last status of a message is `SENT`.",
                "enum": ["ON", "OFF"],
            },
            "callbackPath": {
                "type": "string",
                "description": "The path of the address to enter in Meta's dashboard.",
            },
        },
        "required": ["phoneNumberId", "businessAccountId", "phone", "name", "receipts", "callbackPath"],
        "description": "The link of a channel to Meta's Cloud API, without its secrets.",
    })
}

pub(super) const DESCRIPTOR: Descriptor = Descriptor {
    name: "WHATSAPP_WABA",
    environment: Environment::Live,
    ordering: Ordering::Recipient,
    // Meta offers groups to few accounts, and knows no hidden ids.
    addresses: &[AddressKind::Phone, AddressKind::UserId],
    opens_chats: false,
    holds_session: false,
    has_secrets: true,
    has_window: true,
    sends_message_id: true,
    missing: || AppError::NotImplemented,
    settings: SETTINGS,
    settings_schema: "CloudApiSettings",
    connect: &CONNECT,
    link: Some(LinkView { schema_name: "CloudApiLinkDetails", schema: link_schema, show: show_link }),
};
