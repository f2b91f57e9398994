//! What phones write to linked devices: contacts to an account, and the account's own phone to its devices.

use anyhow::{Context as _, Result, ensure};
use wacore::types::jid::JidExt as _;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;

use crate::clock::unix_seconds;
use crate::network::{Slot, State};
use crate::phone::Encrypted;

impl State {
    /// A contact writes to every linked device of an account. Returns the message's id.
    pub fn say(&mut self, contact: &str, account: &str, message: &wa::Message) -> Result<String> {
        let id = self.next_id("PEERMSG");
        let slots: Vec<Slot> = self.devices_of(account).map(|(slot, _)| slot.clone()).collect();
        ensure!(!slots.is_empty(), "no device is linked to {account}");
        for slot in slots {
            let encrypted = self.encrypt(contact, &slot, message)?;
            let phone = &self.people[contact];
            let stanza = NodeBuilder::new("message");
            let stanza = if self.faults.hidden.iter().any(|hidden| hidden == contact) {
                stanza.attr("from", phone.lid.clone())
            } else {
                stanza.attr("from", phone.number.clone()).attr("sender_lid", phone.lid.clone())
            };
            let stanza = stanza
                .attr("id", id.as_str())
                .attr("type", "text")
                .attr("t", unix_seconds().to_string())
                .attr("notify", "Contact")
                .children([envelope(encrypted)]);
            self.send(&slot, stanza.build());
        }
        Ok(id)
    }

    fn encrypt(&mut self, from: &str, to: &Slot, message: &wa::Message) -> Result<Encrypted> {
        let phone = self.people.get_mut(from).with_context(|| format!("unknown number {from}"))?;
        let device = self.devices.get_mut(to).context("no such device")?;
        let keys = device.keys.as_mut().context("the device has deposited no keys yet")?;
        let address = device.number.to_protocol_address();
        if !phone.has_session(&address, &keys.identity) {
            phone.open_session(&address, &keys.bundle()?)?;
        }
        phone.encrypt(&address, message)
    }

    /// The phone sends a new device the key to the account's settings, as after linking. Without it a client waits before it
    /// reports that it is connected.
    pub fn share_key_once(&mut self, slot: &Slot) {
        let ready = self.devices.get(slot).is_some_and(|device| device.active && device.keys.is_some());
        if !ready || self.devices.get(slot).is_some_and(|device| device.key_shared) {
            return;
        }
        match self.encrypt(&slot.phone, slot, &settings_key()) {
            Ok(encrypted) => {
                let id = self.next_id("KEYSHARE");
                let stanza = NodeBuilder::new("message")
                    .attr("from", self.people[&slot.phone].number.clone())
                    .attr("id", id)
                    .attr("type", "text")
                    .attr("category", "peer")
                    .attr("t", unix_seconds().to_string())
                    .children([envelope(encrypted)]);
                self.send(slot, stanza.build());
                if let Some(device) = self.devices.get_mut(slot) {
                    device.key_shared = true;
                }
            }
            Err(e) => tracing::warn!(error = format!("{e:#}"), "no key shared"),
        }
    }
}

fn envelope(encrypted: Encrypted) -> Node {
    NodeBuilder::new("enc").attr("v", "2").attr("type", encrypted.kind).bytes(encrypted.data).build()
}

fn settings_key() -> wa::Message {
    let key = wa::message::AppStateSyncKey {
        key_id: MessageField::some(wa::message::AppStateSyncKeyId { key_id: Some(vec![0, 0, 0, 0, 0, 1]) }),
        key_data: MessageField::some(wa::message::AppStateSyncKeyData {
            key_data: Some(vec![9; 32]),
            timestamp: i64::try_from(unix_seconds()).ok(),
            fingerprint: MessageField::some(wa::message::AppStateSyncKeyFingerprint {
                raw_id: Some(1),
                current_index: Some(1),
                device_indexes: vec![0, 1],
            }),
        }),
    };
    wa::Message {
        protocol_message: MessageField::some(wa::message::ProtocolMessage {
            r#type: Some(wa::message::protocol_message::Type::AppStateSyncKeyShare),
            app_state_sync_key_share: MessageField::some(wa::message::AppStateSyncKeyShare { keys: vec![key] }),
            ..Default::default()
        }),
        ..Default::default()
    }
}
