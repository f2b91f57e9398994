//! What phones write to linked devices: contacts to an account, and the account's own phone to its devices.

use anyhow::{Context as _, Result, ensure};
use wacore::types::jid::JidExt as _;
use wacore_binary::Jid;
use wacore_binary::builder::NodeBuilder;
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;

use crate::clock::unix_seconds;
use crate::groups::author;
use crate::messages::{Copy, name};
use crate::network::{Slot, State};
use crate::phone::Encrypted;

/// What a contact writes, and how the network delivers it.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub message: wa::Message,
    /// The network's id; a new one if omitted.
    pub id: Option<String>,
    /// The address of the group in which it is said.
    pub group: Option<String>,
    /// The address to which the account's own phone wrote it. Then the account itself is the contact.
    pub to: Option<String>,
    /// The name that the contact chose.
    pub name: Option<String>,
    /// Unix seconds; now if omitted.
    pub at: Option<u64>,
    /// Attributes of the stanza, as `edit`.
    pub attributes: Vec<(&'static str, String)>,
}

impl From<wa::Message> for Said {
    fn from(message: wa::Message) -> Self {
        Self { message, ..Self::default() }
    }
}

impl Said {
    pub fn text(text: &str) -> Self {
        wa::Message { conversation: Some(text.to_owned()), ..Default::default() }.into()
    }

    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    #[must_use]
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Said by the account's own phone to this address.
    #[must_use]
    pub fn to(mut self, to: &str) -> Self {
        self.to = Some(to.to_owned());
        self
    }

    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn at(mut self, at: u64) -> Self {
        self.at = Some(at);
        self
    }

    #[must_use]
    pub fn attribute(mut self, name: &'static str, value: &str) -> Self {
        self.attributes.push((name, value.to_owned()));
        self
    }
}

/// What a contact wrote to an account.
#[derive(Clone, Debug)]
pub struct Spoken {
    pub contact: String,
    pub said: Said,
}

impl State {
    /// A contact writes to every linked device of an account. Returns the message's id.
    pub fn say(&mut self, contact: &str, account: &str, said: Said) -> Result<String> {
        let id = said.id.clone().unwrap_or_else(|| self.next_id("PEERMSG"));
        let slots: Vec<Slot> = self.devices_of(account).map(|(slot, _)| slot.clone()).collect();
        ensure!(!slots.is_empty(), "no device is linked to {account}");
        let spoken = Spoken { contact: contact.to_owned(), said };
        for slot in slots {
            self.speak(&slot, &id, &spoken)?;
        }
        self.spoken.insert(id.clone(), spoken);
        Ok(id)
    }

    /// Sends a device a message of a contact, newly encrypted.
    pub fn speak(&mut self, slot: &Slot, id: &str, Spoken { contact, said }: &Spoken) -> Result<()> {
        let own = said.to.as_ref().map(|to| to_own_device(&said.message, to));
        let encrypted = self.encrypt(contact, slot, own.as_ref().unwrap_or(&said.message))?;
        let phone = &self.people[contact];
        let (number, lid) = (phone.number.clone(), phone.lid.clone());
        let stanza = NodeBuilder::new("message");
        let stanza = match &said.group {
            Some(address) => {
                let name = address.split('@').next().unwrap_or_default();
                let by_lid = self.groups.get(name).is_some_and(|group| group.by_lid);
                let hidden = self.faults.hidden.iter().any(|hidden| hidden == contact);
                author(stanza.attr("from", address.as_str()), (number, lid), by_lid, hidden)
            }
            None => stanza.attrs(name(&self.faults, contact, number, lid)),
        };
        let stanza = match &said.to {
            Some(to) => stanza.attr("recipient", to.as_str()),
            None => stanza,
        };
        let stanza = stanza
            .attr("id", id)
            .attr("type", kind(&said.message))
            .attr("t", said.at.unwrap_or_else(unix_seconds).to_string())
            .attr("notify", said.name.as_deref().unwrap_or("Contact"))
            .attrs(said.attributes.iter().cloned());
        let envelope = self.envelope(Copy::new(Jid::pn(slot.phone.as_str()), encrypted.kind, encrypted.data));
        self.send(slot, stanza.children([envelope]).build());
        Ok(())
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
                let envelope = NodeBuilder::new("enc").attr("v", "2").attr("type", encrypted.kind);
                let envelope = envelope.bytes(encrypted.data).build();
                let stanza = NodeBuilder::new("message")
                    .attr("from", self.people[&slot.phone].number.clone())
                    .attr("id", id)
                    .attr("type", "text")
                    .attr("category", "peer")
                    .attr("t", unix_seconds().to_string())
                    .children([envelope]);
                self.send(slot, stanza.build());
                if let Some(device) = self.devices.get_mut(slot) {
                    device.key_shared = true;
                }
            }
            Err(e) => tracing::warn!(error = format!("{e:#}"), "no key shared"),
        }
    }
}

/// The phone's message to a linked device of the same account.
fn to_own_device(message: &wa::Message, to: &str) -> wa::Message {
    let sent = wa::message::DeviceSentMessage {
        destination_jid: Some(to.to_owned()),
        message: MessageField::some(message.clone()),
        ..Default::default()
    };
    let device_sent_message = MessageField::some(sent);
    wa::Message {
        device_sent_message,
        message_context_info: message.message_context_info.clone(),
        ..Default::default()
    }
}

/// The type of a stanza.
fn kind(message: &wa::Message) -> &'static str {
    let media = [
        message.image_message.is_set(),
        message.video_message.is_set(),
        message.ptv_message.is_set(),
        message.audio_message.is_set(),
        message.document_message.is_set(),
        message.document_with_caption_message.is_set(),
        message.sticker_message.is_set(),
        message.location_message.is_set(),
        message.contact_message.is_set(),
    ];
    match (media.contains(&true), message.reaction_message.is_set(), message.poll_update_message.is_set()) {
        (true, ..) => "media",
        (_, true, _) => "reaction",
        (.., true) => "poll",
        _ => "text",
    }
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
