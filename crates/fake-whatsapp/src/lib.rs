//! Simulates the WhatsApp Web network on loopback, for the tests of the driver and the gateway, and for the bench. The
//! client under test connects to [`FakeWhatsApp::url`]. The test controls people and the network in process:
//!
//! ```
//! use fake_whatsapp::{Account, FakeWhatsApp, Refusal};
//!
//! let whatsapp = FakeWhatsApp::start();
//! whatsapp.add_contact("553199990001", "900000000000002");
//! // Requested with the ninth digit, registered without it.
//! whatsapp.add_alias("5531999990001", "553199990001");
//! // A linked device: save it where the client under test reads its own.
//! let device = whatsapp.linked_device(&Account::new("551140001000", "900000000000001"));
//! // The next message is refused.
//! whatsapp.faults(|faults| faults.refusal = Some(Refusal { code: 463, times: 1, to: vec![] }));
//! assert!(whatsapp.inbox().is_empty());
//! ```
//!
//! Phones have real Signal keys, read their messages, and send receipts. Linked devices are the clients under test; an
//! account may have several. The protocol follows whatsapp-rust 0.7 (`wacore`) and was tested with Baileys 7.0.0-rc14, an
//! independent implementation. It was never tested against the network of WhatsApp. Not simulated: history, privacy tokens,
//! phones that read groups, and contacts with several devices unless those are clients too.

pub mod baileys;
mod clock;
mod connection;
pub mod control;
mod faults;
mod groups;
mod iq;
mod keys;
mod login;
mod media;
mod messages;
mod network;
mod noise;
mod pair_code;
mod pairing;
mod phone;
mod receipts;
mod received;
mod retries;
mod say;
mod server;
mod stanza;
mod usync;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use wacore::pair::{DeviceState, PairUtils};
use wacore::store::device::{CachedNoiseCert, CachedServerCertChain};
use wacore_binary::Jid;
use waproto::buffa::Message as _;

use network::{Network, Slot, State};
use server::Server;

pub use faults::{ALL, ConnectFailure, Faults, Refusal, Reupload};
pub use media::Uploaded;
pub use network::{Acknowledged, Counters, Typing};
pub use receipts::{MadeUp as MadeUpReceipt, ReadReceipt};
pub use received::{Location, Quote, Received};
pub use say::Said;
pub use wacore::download::MediaType;
pub use wacore::store::Device;
pub use wacore_binary::Node;
pub use wacore_binary::builder::NodeBuilder;
pub use waproto::buffa::MessageField;
pub use waproto::whatsapp as proto;

/// An account, and the number of a device that is linked to it.
#[derive(Clone, Debug)]
pub struct Account {
    /// As digits.
    pub phone: String,
    pub lid: String,
    /// From 1; the phone itself is 0.
    pub device: u16,
    /// The name that the owner chose.
    pub name: String,
}

impl Account {
    /// The account for its first linked device.
    pub fn new(phone: &str, lid: &str) -> Self {
        Self { phone: phone.to_owned(), lid: lid.to_owned(), device: 1, name: "Recado".to_owned() }
    }

    /// The account for another linked device.
    #[must_use]
    pub fn at(mut self, device: u16) -> Self {
        self.device = device;
        self
    }

    fn slot(&self) -> Slot {
        Slot { phone: self.phone.clone(), device: self.device }
    }
}

/// The running network. It ends when dropped, with its connections.
pub struct FakeWhatsApp {
    // The first field is dropped first: the server must stop before the others are dropped.
    server: Server,
    network: Arc<Network>,
}

impl FakeWhatsApp {
    /// Starts on a free port of loopback.
    pub fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into()).expect("loopback has a free port")
    }

    /// Starts at an address of loopback; any other one is refused.
    pub fn start_at(address: SocketAddr) -> Result<Self> {
        let network = Arc::new(Network::new()?);
        Ok(Self { server: Server::start(network.clone(), address)?, network })
    }

    /// Its address in the form for clients: `ws://127.0.0.1:PORT/ws/chat`.
    pub fn url(&self) -> String {
        format!("ws://{}/ws/chat", self.server.address)
    }

    /// The root key of our certificates. A client with a configurable root can verify them.
    pub fn certificate_root(&self) -> [u8; 32] {
        self.network.root
    }

    /// The key by which a linked device recognises the network.
    pub fn noise_key(&self) -> [u8; 32] {
        self.network.noise_public().expect("it was measured when the network started")
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.network.lock()
    }

    // --- People, and what they do ---

    /// Adds a person on WhatsApp. An existing one does not change.
    pub fn add_contact(&self, phone: &str, lid: &str) {
        self.state().add_person(phone, lid).expect("keys can be made");
    }

    /// Removes a person from WhatsApp, with the linked devices of the account. If the person is added again, under the same
    /// number or another LID, it is another phone.
    pub fn remove_contact(&self, phone: &str) {
        let mut state = self.state();
        state.end_connections(phone, Some(&connection::conflict(Some("401"), "device_removed")));
        state.devices.retain(|slot, _| slot.phone != phone);
        state.lids.retain(|_, number| number != phone);
        state.people.remove(phone);
    }

    /// A look-up of the first number returns the second.
    pub fn add_alias(&self, asked: &str, canonical: &str) {
        self.state().aliases.insert(asked.to_owned(), canonical.to_owned());
    }

    /// The account's owner scans a QR code with the phone.
    pub fn scan(&self, qr: &str, account: &Account) -> Result<()> {
        self.state().scan(qr, account)
    }

    /// The account's owner types the code on the phone. A wrong code is visible only in [`Counters::wrong_codes`].
    pub fn type_code(&self, code: &str, account: &Account) -> Result<()> {
        pair_code::type_code(&self.network, code, account)
    }

    /// Links a device with these keys without a conversation, and returns what the phone would have sent it
    /// (`ADVSignedDeviceIdentityHMAC`). `secret` is the device's adv secret.
    pub fn link_offline(&self, account: &Account, identity: &[u8; 32], secret: &[u8]) -> Result<Vec<u8>> {
        self.state().add_device(account, identity, secret)
    }

    /// A device in the form in which whatsapp-rust stores it after linking. It knows our key, so its login checks no
    /// certificate: a client without `danger-skip-cert-chain-verify` works with it.
    pub fn linked_device(&self, account: &Account) -> Device {
        self.try_linked_device(account).expect("a device of our own making can be linked")
    }

    fn try_linked_device(&self, account: &Account) -> Result<Device> {
        let mut device = Device::new();
        let identity: [u8; 32] = device.identity_key.public_key.public_key_bytes().try_into()?;
        let container = self.link_offline(account, &identity, &device.adv_secret_key)?;
        let keys = DeviceState {
            identity_key: device.identity_key.clone(),
            noise_key: device.noise_key.clone(),
            adv_secret_key: device.adv_secret_key,
        };
        let (proof, _) = PairUtils::do_pair_crypto(&keys, &container).map_err(|e| anyhow!("{e}"))?;
        let certificate =
            |key| CachedNoiseCert { key, not_before: noise::NOT_BEFORE.into(), not_after: noise::NOT_AFTER.into() };
        device.pn = Some(Jid::pn_device(account.phone.as_str(), account.device));
        device.lid = Some(Jid::lid_device(account.lid.as_str(), account.device));
        device.account = Some(Arc::new(proto::ADVSignedDeviceIdentity::decode_from_slice(&proof)?));
        device.push_name.clone_from(&account.name);
        device.server_cert_chain =
            Some(CachedServerCertChain { intermediate: certificate([3; 32]), leaf: certificate(self.noise_key()) });
        let mut state = self.state();
        let linked = state.devices.get_mut(&account.slot()).context("unlinked meanwhile")?;
        linked.proof = Some(proof);
        Ok(device)
    }

    /// A contact writes a text to the devices linked to an account, which must have logged in once. Returns the message's
    /// id.
    pub fn say(&self, contact: &str, account: &str, text: &str) -> Result<String> {
        self.say_as(contact, account, Said::text(text))
    }

    /// The same with a contact card.
    pub fn say_card(&self, contact: &str, account: &str, name: &str, vcard: &str) -> Result<String> {
        let card = proto::message::ContactMessage {
            display_name: Some(name.to_owned()),
            vcard: Some(vcard.to_owned()),
            ..Default::default()
        };
        let message = proto::Message { contact_message: MessageField::some(card), ..Default::default() };
        self.say_message(contact, account, &message)
    }

    /// The same with any message.
    pub fn say_message(&self, contact: &str, account: &str, message: &proto::Message) -> Result<String> {
        self.say_as(contact, account, message.clone().into())
    }

    /// The same with everything that the network says of a message.
    pub fn say_as(&self, contact: &str, account: &str, said: Said) -> Result<String> {
        self.state().say(contact, account, said)
    }

    /// Sends a stanza to the devices linked to an account. A message waits until it is acknowledged.
    pub fn send_stanza(&self, account: &str, stanza: &Node) {
        let mut state = self.state();
        let slots: Vec<Slot> = state.devices_of(account).map(|(slot, _)| slot.clone()).collect();
        for slot in slots {
            state.send(&slot, stanza.clone());
        }
    }

    /// Adds a group under the part of its address before the `@`. Its members, as digits, are people of this network.
    pub fn add_group(&self, id: &str, subject: &str, members: &[&str], by_lid: bool) {
        let members = members.iter().map(|number| (*number).to_owned()).collect();
        self.state().groups.insert(id.to_owned(), groups::Group { subject: subject.to_owned(), members, by_lid });
    }

    /// Puts a file on the media host, encrypted as a phone does it.
    pub fn upload(&self, plain: &[u8], kind: MediaType) -> Uploaded {
        self.state().files.upload(plain, kind).expect("a file can be encrypted")
    }

    /// The media host loses every file. A phone uploads a file again on request.
    pub fn lose_files(&self) {
        self.state().files.lose_all();
    }

    /// The number of downloads of each file, by its path.
    pub fn downloads(&self) -> BTreeMap<String, u64> {
        self.state().files.downloads.clone()
    }

    /// Sends a receipt from any address to the devices linked to an account.
    pub fn receipt(&self, account: &str, receipt: &MadeUpReceipt) {
        let mut state = self.state();
        let slots: Vec<Slot> = state.devices_of(account).map(|(slot, _)| slot.clone()).collect();
        for slot in slots {
            state.send(&slot, receipt.stanza());
        }
    }

    // --- What the network does ---

    /// Changes the treatment of messages and connections from now on.
    pub fn faults<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        change(&mut self.state().faults)
    }

    /// Until when accounts may open no new chats, in Unix seconds, as the network reports it; `None` if they may. It refuses
    /// no messages by itself: [`Faults::refusal`] with 463 does.
    pub fn restrict(&self, until: Option<i64>) {
        self.state().restricted_until = until;
    }

    /// Closes the connections of an account's linked devices without a stanza.
    pub fn drop_connections(&self, account: &str) {
        self.state().end_connections(account, None);
    }

    /// From now on the messages to the devices of an account wait, although they are connected. When it is called with
    /// `false`, they are sent, in the order of [`Faults::shuffle`].
    pub fn hold(&self, account: &str, held: bool) {
        let mut state = self.state();
        let slots: Vec<Slot> = state.devices_of(account).map(|(slot, _)| slot.clone()).collect();
        for slot in slots {
            if held && let Some(device) = state.devices.get_mut(&slot) {
                device.held = true;
            } else if !held {
                state.release(&slot);
            }
        }
    }

    /// Closes every connection without a stanza, and accepts none until it is called with `false`.
    pub fn cut_off(&self, cut_off: bool) {
        let mut state = self.state();
        state.cut_off = cut_off;
        for connection in state.devices.values_mut().filter_map(|device| device.connection.take()).filter(|_| cut_off) {
            connection.close();
        }
    }

    /// Sends a stream error, and leaves the connections open.
    pub fn stream_error(&self, account: &str, code: u16) {
        self.state().send_to_devices(account, &connection::stream_error(code));
    }

    /// Reports that another connection replaced them.
    pub fn replace(&self, account: &str) {
        self.state().end_connections(account, Some(&connection::conflict(None, "replaced")));
    }

    /// Closes them with a conflict of this type; the devices stay linked.
    pub fn expel(&self, account: &str, conflict: &str) {
        self.state().end_connections(account, Some(&connection::conflict(None, conflict)));
    }

    /// Unlinks an account's devices, as its owner does on the phone. Connected devices are notified, and none can log in.
    pub fn log_out(&self, account: &str) {
        let mut state = self.state();
        state.end_connections(account, Some(&connection::conflict(Some("401"), "device_removed")));
        state.devices.retain(|slot, _| slot.phone != account);
    }

    // --- What happened ---

    /// Every message that a recipient's phone read, in order. A message that was sent twice under one id occurs twice.
    pub fn inbox(&self) -> Vec<Received> {
        self.state().inbox.clone()
    }

    /// How often a recipient's phone read a message with this id.
    pub fn copies(&self, id: &str) -> usize {
        self.state().inbox.iter().filter(|received| received.id == id).count()
    }

    pub fn counters(&self) -> Counters {
        self.state().counters.clone()
    }

    /// The numbers that were looked up, as requested, with their counts.
    pub fn lookups(&self) -> BTreeMap<String, u64> {
        self.state().lookups.clone()
    }

    /// Every read receipt of a linked device, in order.
    pub fn reads(&self) -> Vec<ReadReceipt> {
        self.state().reads.clone()
    }

    /// Every typing state of an account, in order.
    pub fn typing(&self) -> Vec<Typing> {
        self.state().typing.clone()
    }

    /// Whether a device of the account is connected and receives messages.
    pub fn is_online(&self, account: &str) -> bool {
        self.state().devices_of(account).any(|(_, device)| device.active)
    }

    /// Whether a device of the account is shown as online, so that the phone gets no notifications.
    pub fn shows_online(&self, account: &str) -> bool {
        self.state().devices_of(account).any(|(_, device)| device.active && device.shown_online)
    }

    /// When each connection began, in order.
    pub fn connected_at(&self) -> Vec<Instant> {
        self.state().connected_at.iter().map(|at| at.into_std()).collect()
    }

    /// The number of messages that its linked devices have not acknowledged.
    pub fn unconfirmed(&self, account: &str) -> usize {
        self.state().devices_of(account).map(|(_, device)| device.queue.len()).sum()
    }

    /// The ids of these messages, oldest first.
    pub fn unacknowledged(&self, account: &str) -> Vec<String> {
        let mut state = self.state();
        let waiting = state.devices_of(account).flat_map(|(_, device)| &device.queue);
        waiting.filter_map(|stanza| stanza.attrs.get("id").map(ToString::to_string)).collect()
    }

    /// What linked devices acknowledged, in order.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.state().acknowledged.clone()
    }

    /// The receipts that the devices of the account sent, in order: the id of the message, and the type.
    pub fn receipts(&self, account: &str) -> Vec<(String, String)> {
        let state = self.state();
        let own = state.receipts.iter().filter(|(slot, ..)| slot.phone == account);
        own.map(|(_, id, kind)| (id.clone(), kind.clone())).collect()
    }

    /// The number of remaining one-time keys of each linked device of the account.
    pub fn one_time_keys(&self, account: &str) -> Vec<usize> {
        let mut state = self.state();
        state
            .devices_of(account)
            .map(|(_, device)| device.keys.as_ref().map_or(0, keys::UploadedKeys::one_time_left))
            .collect()
    }

    /// Records every stanza of linked devices from now on, in short form.
    pub fn start_trace(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// The recorded stanzas, in order.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone().unwrap_or_default()
    }
}
