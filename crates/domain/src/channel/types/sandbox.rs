//! Channels of the simulated network. They need no connecting.

use crate::address::AddressKind;
use crate::api_key::Environment;
use crate::channel::TypeSettings;
use crate::channel::settings::settings;
use crate::channel::types::{Descriptor, Ordering};
use crate::error::AppError;

settings! {}

impl TypeSettings for Settings {}

pub(super) const DESCRIPTOR: Descriptor = Descriptor {
    name: "SANDBOX",
    environment: Environment::Test,
    ordering: Ordering::Channel,
    addresses: &AddressKind::ALL,
    opens_chats: false,
    holds_session: false,
    has_secrets: false,
    has_window: false,
    sends_message_id: false,
    missing: || AppError::NotImplemented,
    settings: SETTINGS,
    settings_schema: "SandboxSettings",
    connect: &[],
    link: None,
};
